"""The first tenant of a cluster: its audit must have the public half before."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from functions.audit.app import create_app
from functions.audit.log import Log
from functions.keys import FileKeys, mounted
from tests.audit.house import TokensByName
from tests.command import run
from tests.tenants.home import environ
from tests.tenants.test_tenant_cli import serving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@pytest.fixture
def headers() -> list[str]:
    """Return the tokens that came with each call, as they come."""
    return []


@pytest.fixture
def audit(tmp_path: Path, headers: list[str]) -> Iterator[str]:
    """Yield where a cluster's audit answers, which has a Secret of its own."""
    keys = FileKeys(tmp_path / "audit-keys")
    keys.create("audit")
    log = Log.at(f"sqlite:///{tmp_path}/audit.db", keys)
    function: Any = create_app(log=log, keys=keys, authenticator=TokensByName())

    def noting(told: dict[str, Any], start: Any) -> Iterable[bytes]:
        headers.append(told.get("HTTP_AUTHORIZATION", ""))
        answer: Iterable[bytes] = function(told, start)
        return answer

    with closing(log), serving(noting) as url:  # type: ignore[arg-type]  # WSGI, too
        yield url


def tenant(
    folder: Path, command: str, *more: str, code: int = 0, **said: str
) -> tuple[str, str]:
    """Run `guise tenant` on an installation's folders; return what it prints."""
    where = ["--tenants", folder / "specs", "--keys", folder / "keys"]
    where += [
        "--home",
        folder / "none",
        "--store",
        f"file://{folder}/stores/{{tenant}}",
    ]
    ran = run("tenant", command, "acme", *where, *more, environ=environ(**said))
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout, ran.stderr


def told_audit(folder: Path) -> None:
    """Do as `kubectl patch secret audit-keys`, and the kubelet after it."""
    source = folder / "keys" / "events" / "acme.pub"
    shutil.copy(source, folder / "audit-keys" / f"{mounted('events/acme')}.pub")


def test_who_is_prepared_is_made_at_once(
    tmp_path: Path, audit: str, headers: list[str]
) -> None:
    """The key, then the Secret, then the tenant; the key stays what it was."""
    said, _ = tenant(tmp_path, "prepare")
    assert "events/acme.pub → audit-keys, billing-keys, as events.acme.pub" in said
    assert "events-key of guise-acme, as events.acme.key, .pub" in said
    key = (tmp_path / "keys/events/acme.key").read_bytes()
    again, _ = tenant(tmp_path, "prepare", "--json")
    assert json.loads(again)["public"] == str(tmp_path / "keys/events/acme.pub")
    told_audit(tmp_path)
    tenant(tmp_path, "create", "--audit", audit)
    assert (tmp_path / "keys/events/acme.key").read_bytes() == key
    assert headers == [""]
    _, why = tenant(tmp_path, "prepare", code=1)
    assert "is there already" in why


def test_who_is_not_known_to_audit_is_told_what_it_must_have(
    tmp_path: Path, audit: str
) -> None:
    """By file and Secret; once it has it, the same command makes the tenant."""
    _, why = tenant(tmp_path, "create", "--audit", audit, code=1)
    assert "acme is no tenant yet" in why
    assert f"the Secret audit-keys must have {tmp_path}/keys/events/acme.pub" in why
    assert "as events.acme.pub: then say the same again" in why
    assert not (tmp_path / "specs/acme.yaml").exists()
    told_audit(tmp_path)
    tenant(tmp_path, "create", "--audit", audit)
    assert (tmp_path / "specs/acme.yaml").exists()


def test_on_one_machine_no_secret_is_spoken_of(tmp_path: Path) -> None:
    """Its keys are where its audit reads them; that did not answer, and no more."""
    where = ("--home", tmp_path, "--audit", "http://127.0.0.1:9")
    ran = run("tenant", "create", "acme", *where, environ=environ())
    assert ran.returncode == 1
    assert "no-receipt" in ran.stderr
    assert "Secret" not in ran.stderr


def test_a_call_comes_with_the_cluster_s_token_where_there_is_one(
    tmp_path: Path, audit: str, headers: list[str]
) -> None:
    """GUISE_AUDIT_TOKEN_FILE, as door and worker have it under the option oidc."""
    tenant(tmp_path, "prepare")
    told_audit(tmp_path)
    (tmp_path / "token").write_text("of.the.cluster\n")
    file = str(tmp_path / "token")
    tenant(tmp_path, "create", "--audit", audit, GUISE_AUDIT_TOKEN_FILE=file)
    assert headers == ["Bearer of.the.cluster"]


def test_nobody_is_prepared_whose_id_cannot_be(tmp_path: Path) -> None:
    """As nobody is made, and nothing is left of the try."""
    ran = run("tenant", "prepare", "No!", "--keys", tmp_path / "k", environ=environ())
    assert ran.returncode == 1
    assert "is no tenant's id" in ran.stderr
    assert not (tmp_path / "k").exists()
