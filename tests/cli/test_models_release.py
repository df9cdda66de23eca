"""Signing, accepting and releasing packs, as an operator would."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from typer.testing import CliRunner
from werkzeug.serving import make_server

from functions.acceptances import Acceptances
from functions.audit.app import create_app
from functions.audit.log import Log
from functions.cli.commands import app
from functions.events import OPERATOR
from functions.keys import FileKeys
from functions.problems import InvalidRequest, NoReceipt
from functions.settings import Settings
from functions.swap.vetting import admit_pack
from models.errors import ChannelRefused, KeyRefused, PackRefused
from models.verify import verify
from tests.audit.house import House, TokensByName
from tests.integration.stack import up
from tests.models.paper import FILES, key_pair, manifest_of, unlocked, write_pack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result


def guise(*arguments: object) -> Result:
    """Run a command in this process; what it raises is what `main` would print."""
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def done(*arguments: object) -> str:
    """Run a command that must succeed, and return what it prints."""
    result = guise(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout


def told(*arguments: object) -> Any:
    """Return the JSON that a command prints."""
    return json.loads(done(*arguments, "--json"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with three versions of the pack `paper`."""
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        write_pack(tmp_path / "models" / "paper" / version, version=version)
    return tmp_path / "models"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for role in ("publisher", "approver"):
        key_pair(tmp_path / "keys", role)
    return tmp_path / "keys"


# --- sign and verify ---------------------------------------------------------


def sign(folder: Path, keys: Path, *roles: str) -> None:
    for role in roles:
        done("sign", folder, "--key", keys / f"{role}.key", "--role", role)


def test_signing_and_verifying(root: Path, keys: Path) -> None:
    """Two commands sign, one verifies both; before the second it names the file."""
    folder = root / "paper" / "1.0.0"
    made = told(
        *("sign", folder, "--key", keys / "publisher.key"),
        *("--role", "publisher"),
    )
    assert made["signature"] == str(folder / "publisher.sig.json")
    assert made["role"] == "publisher"
    refused = guise("verify", folder, "--trust", keys)
    assert isinstance(refused.exception, PackRefused)
    assert str(refused.exception).startswith("approver.sig.json: missing")
    sign(folder, keys, "approver")
    assert "verified and signed by both" in done("verify", folder, "--trust", keys)
    assert told("verify", folder, "--trust", keys)["signed"] is True
    assert told("verify", folder)["signed"] is False


def test_a_wrong_password(root: Path, keys: Path, tmp_path: Path) -> None:
    """A password for a key that has none, or a wrong one, names the key."""
    (tmp_path / "password").write_text("secret\n")
    result = guise(
        *("sign", root / "paper" / "1.0.0", "--key", keys / "publisher.key"),
        *("--role", "publisher", "--password-file", tmp_path / "password"),
    )
    assert isinstance(result.exception, KeyRefused)


# --- channels ----------------------------------------------------------------


def test_a_release(root: Path) -> None:
    """From alpha to stable and back; who did it is on record, and why is said."""
    place = ("--root", root, "--actor", "ada")
    done("promote", "paper", "--to", "alpha", "--version", "1.0.0", *place)
    done("promote", "paper", "--to", "beta", *place)
    done("promote", "paper", "--to", "stable", *place)
    said = done("resolve", "--tenant", "acme", "--root", root)
    assert said.startswith("acme gets paper 1.0.0 from stable: bucket ")
    done("promote", "paper", "--to", "alpha", "--version", "1.1.0", *place)
    done("promote", "paper", "--to", "beta", *place)
    change = told("share", "paper", "--channel", "beta", "--percent", "100", *place)
    assert (change["before"], change["after"], change["actor"]) == ("0", "10000", "ada")
    found = told("resolve", "--tenant", "acme", "--root", root)
    assert (found["version"], found["channel"], found["there"]) == (
        "1.1.0",
        "beta",
        True,
    )
    assert found["folder"] == str(root / "paper" / "1.1.0")
    assert found["reason"] == (
        f"bucket {found['bucket']} is below beta's share of 10000"
    )
    done("rollback", "paper", "--channel", "beta", *place)
    assert told("resolve", "--tenant", "acme", "--root", root)["version"] == "1.0.0"
    history = json.loads((root / "channels.json").read_bytes())["history"]
    assert [each["action"] for each in history] == [
        *("promote", "promote", "promote", "promote", "promote", "share", "rollback")
    ]


def test_pins(root: Path) -> None:
    """A tenant is pinned to a version and let go; one not there is pointed out."""
    place = ("--root", root, "--actor", "ada")
    for to in (("alpha", "--version", "1.0.0"), ("beta",), ("stable",)):
        done("promote", "paper", "--to", *to, *place)
    done("pin", "paper", "acme", "9.0.0", *place)
    said = done("resolve", "--tenant", "acme", "--root", root)
    assert "acme gets paper 9.0.0: acme is pinned to 9.0.0" in said
    assert "is not there" in said
    assert "9.0.0, now nothing" in done("pin", "paper", "acme", "none", *place)
    assert told("resolve", "--tenant", "acme", "--root", root)["version"] == "1.0.0"


def test_only_a_whole_pack_is_promoted(root: Path) -> None:
    """A version that is missing or spoiled, by its file; and nothing is changed."""
    place = ("--to", "alpha", "--root", root)
    missing = guise("promote", "paper", "--version", "3.0.0", *place).exception
    assert str(missing) == "pack.json: missing"
    unlocked(root / "paper" / "1.0.0" / "net.onnx").write_bytes(b"b network")
    spoiled = guise("promote", "paper", "--version", "1.0.0", *place).exception
    assert str(spoiled).startswith("net.onnx: its SHA-256")
    (root / "paper" / "1.5.0").symlink_to(root / "paper" / "1.1.0")
    other = guise("promote", "paper", "--version", "1.5.0", *place).exception
    assert str(other) == "pack.json: it is paper 1.1.0"
    assert not (root / "channels.json").exists()


def test_only_a_signed_pack_is_promoted_where_that_is_asked(
    root: Path, keys: Path
) -> None:
    """With --trust, what the approver did not sign stays where it is."""
    place = ("--to", "alpha", "--root", root, "--trust", keys)
    refused = guise("promote", "paper", "--version", "1.0.0", *place)
    assert isinstance(refused.exception, PackRefused)
    sign(root / "paper" / "1.0.0", keys, "publisher", "approver")
    assert "nothing, now 1.0.0" in done(
        "promote", "paper", "--version", "1.0.0", *place
    )


@pytest.mark.parametrize("percent", ["x", "1.234", "nan", "inf", "101", "-1"])
def test_what_is_no_share(root: Path, percent: str) -> None:
    """A share is 0 to 100 percent with two decimals."""
    result = guise(
        *("share", "paper", "--channel", "beta", "--root", root),
        *(f"--percent={percent}",),
    )
    assert isinstance(result.exception, InvalidRequest | ChannelRefused)


# --- accept ------------------------------------------------------------------


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[House]:
    """Yield an audit function at a real socket that reads keys from a folder."""
    keys = FileKeys(tmp_path / "operator")
    keys.create("audit")
    log = Log.at(f"sqlite:///{tmp_path}/audit.db", keys)
    web = create_app(log=log, keys=keys, authenticator=TokensByName())
    server = make_server("127.0.0.1", 0, web, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield House(log, keys, web.test_client(), url)  # type: ignore[arg-type]
    server.shutdown()
    thread.join()
    server.server_close()
    log.close()


def test_accepting(audit: House, tmp_path: Path) -> None:
    """Before it production does not start; after it, it does, and the log says why."""
    model = msgspec.structs.replace(
        manifest_of(FILES).models[0], commercial=False, licence="research only"
    )
    folder = tmp_path / "insightface"
    pack = write_pack(folder, id="insightface", commercial=False, models=(model,))
    keys = FileKeys(tmp_path / "operator")
    settings = Settings(models=folder, acceptances=tmp_path / "acceptances")
    (tmp_path / "acceptances").mkdir()
    with pytest.raises(PackRefused, match="guise models accept"):
        admit_pack(pack, settings, keys)
    made = told(
        *("accept", folder, "--reason", "a study", "--actor", "ada"),
        *("--audit", audit.url + "/", "--keys", tmp_path / "operator"),
        *("--to", tmp_path / "acceptances"),
    )
    assert admit_pack(pack, settings, keys)["acceptance"] == made["id"]
    (leaf,) = audit.entries(OPERATOR)
    data = json.loads(leaf)["data"]
    assert data == {
        "kind": "non-commercial-licence",
        "pack": "insightface",
        "version": "1.0.0",
        "digest": verify(folder).pack_digest,
        "reason": "a study",
        "actor": "ada",
        "licences": ["research only"],
    }


def test_accepting_without_a_gate(audit: House, root: Path, tmp_path: Path) -> None:
    """The other kind is about any pack, and says where it was kept."""
    said = done(
        *("accept", root / "paper" / "1.0.0", "--kind", "no-content-gate"),
        *("--reason", "own pictures", "--actor", "ada", "--audit", audit.url),
        *("--keys", tmp_path / "operator", "--to", tmp_path / "acceptances"),
    )
    assert "paper 1.0.0, no-content-gate: accepted by ada, on record" in said
    found = Acceptances.load(tmp_path / "acceptances", FileKeys(tmp_path / "operator"))
    digest = verify(root / "paper" / "1.0.0").pack_digest
    assert found.covers("no-content-gate", digest)
    assert not found.covers("non-commercial-licence", digest)


@pytest.mark.xdist_group("cli")
def test_accepting_on_this_machine(root: Path, tmp_path: Path) -> None:
    """Without an address the stack of the home records it, with a key made there."""
    home = tmp_path / "home"
    arguments = ("--reason", "own pictures", "--actor", "ada", "--home", home)
    with up(home, idle=5):
        made = told(
            "accept", root / "paper" / "1.0.0", "--kind", "no-content-gate", *arguments
        )
    found = Acceptances.load(home / "acceptances", FileKeys(home / "keys"))
    assert [each.id for each in found.every] == [made["id"]]


def test_nothing_to_accept(root: Path, tmp_path: Path) -> None:
    """A pack that anybody may use commercially needs nobody to answer for it."""
    result = guise(
        *("accept", root / "paper" / "1.0.0", "--reason", "why", "--actor", "ada"),
        *("--audit", "http://127.0.0.1:1", "--keys", tmp_path / "k"),
    )
    assert isinstance(result.exception, InvalidRequest)


def test_an_operator_that_audit_does_not_know(
    audit: House, root: Path, tmp_path: Path
) -> None:
    """Its acceptance is not recorded, and not kept."""
    result = guise(
        *("accept", root / "paper" / "1.0.0", "--kind", "no-content-gate"),
        *("--reason", "why", "--actor", "ada", "--audit", audit.url),
        *("--keys", tmp_path / "strange", "--to", tmp_path / "acceptances"),
    )
    assert isinstance(result.exception, NoReceipt)
    assert not (tmp_path / "acceptances").exists()
