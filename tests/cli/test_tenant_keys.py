"""`guise tenant rotate|envelop|shred`, over a real home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from functions import events
from functions.audit.log import Log
from functions.audit.recording import record
from functions.audit.store import Store as LogStore
from functions.audit.tables import images, record_keys, sidecars
from functions.cli.commands import app
from functions.cli.tenant import shred as tenant_shred
from functions.cli.tenant.place import Place
from functions.commitments import SIDECAR, commitment, sidecar_of
from functions.events import Event
from functions.keys import FileKeys, events_key
from functions.local.home import Home
from functions.problems import (
    Conflict,
    Failed,
    Gone,
    InvalidRequest,
    Problem,
    UnknownTenant,
)
from functions.storage.envelope import HEADER_BYTES
from functions.storage.opaque import is_opaque
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from functions.storage import Store

ACME, GLOBEX = Tenant("acme"), Tenant("globex")
A = ACME.upload("uploads/a.jpg")
JPEG: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(4_000)
_SALT: Final = "5a" * 32
_DIGEST: Final = "ab" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with two tenants whose data is encrypted, each with an object."""
    home = tmp_path / "home"
    for tenant in (ACME, GLOBEX):
        done("create", tenant.id, "--data", 1, "--home", home)
        store(home, tenant).put(A, JPEG)
        _swap(home, tenant)
    return home


@pytest.fixture
def stopped(home: Path) -> Path:
    """Return the home, acme suspended."""
    done("suspend", "acme", "--home", home)
    return home


def guise(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["tenant", *map(str, arguments)])


def done(*arguments: object) -> str:
    result = guise(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return str(result.stdout)


def told(*arguments: object) -> Any:
    return json.loads(done(*arguments, "--json"))


def refused(kind: type[Problem], *arguments: object) -> str:
    """Run a command that must be refused, and return why."""
    result = guise(*arguments)
    assert isinstance(result.exception, kind), result.output or result.exception
    return str(result.exception.detail or result.exception)


def store(home: Path, tenant: Tenant = ACME) -> Store:
    return Place(home).stores(tenant).of(tenant)


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "functions.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def private(home: Path) -> dict[str, int]:
    """Return how many private rows audit has of each tenant."""
    with (
        closing(LogStore.open(Home(home).database_url("audit"))) as log,
        log.keeping() as db,
    ):
        found = [
            row.tenant
            for table in (images, record_keys, sidecars)
            for row in db.execute(sa.select(table.c.tenant))
        ]
    return {name: found.count(name) for name in ("acme", "globex")}


def _swap(home: Path, tenant: Tenant) -> None:
    """Have the log hold a swap, with what opens its commitments beside it."""
    keys = FileKeys(Home(home).keys)
    said = sidecar_of(_SALT, [("source", _DIGEST)])
    event = Event(
        id="started",
        source=events.swap_source(tenant.id),
        type=events.SWAP_STARTED,
        subject="job",
        time="2026-11-21T12:00:00.000Z",
        tenant=tenant.id,
        data={
            "job": "job",
            "attempt": 1,
            "commitments": {"sources": [commitment(_SALT, _DIGEST)]},
        },
        extensions={SIDECAR: said.text()},
    )
    signed = events.sign(event, keys.signer(events_key(tenant.id)))
    with closing(Log.at(Home(home).database_url("audit"), keys)) as log:
        record(signed, tenant, log, keys)


def verified(home: Path, tenant: str, folder: Path) -> None:
    """Export a tenant's log and verify it offline, by the command line."""
    bundle = folder / f"{tenant}.zip"
    at = ("--home", home, "--tenant", tenant)
    keys = folder / "log.keys"
    printed = process("audit", "keys", *at)
    assert printed.returncode == 0, printed.stderr
    keys.write_text(printed.stdout)
    for each in (
        ("audit", "export", *at, "-o", bundle),
        ("audit", "verify", bundle, "--key", keys),
    ):
        answer = process(*each)
        assert answer.returncode == 0, answer.stdout + answer.stderr


class TestShred:
    """The end of a tenant's keys."""

    def test_after_it_no_byte_of_the_tenant_opens_and_others_work_on(
        self, home: Path, tmp_path: Path
    ) -> None:
        """Its log still verifies, and says so; what audit kept privately is gone."""
        url = Home(home).database_url("audit")
        done("suspend", "acme", "--home", home)
        said = told("shred", "acme", "--yes", "--database", url, "--home", home)
        assert (said["state"], said["lost"], said["before"]) == ("shredded", 0, False)
        assert (said["tried"], said["files"], said["jobs"]) == (1, 1, 1)
        assert said["keys"] == 2
        with pytest.raises(Gone):
            store(home).get(A)
        assert store(home, GLOBEX).get(A).data == JPEG
        assert private(home) == {"acme": 0, "globex": 3}
        with pytest.raises(Failed):
            FileKeys(Home(home).keys).signer(events_key("acme"))
        assert len(FileKeys(Home(home).keys).signer(events_key("globex")).kid) == 16
        for tenant in ("acme", "globex"):
            verified(home, tenant, tmp_path)
        with pytest.raises(UnknownTenant):
            Place(home).roster().spec(ACME)

    def test_the_entry_comes_first(self, stopped: Path) -> None:
        """Where audit does not answer, no key is destroyed."""
        home = stopped
        down = "http://127.0.0.1:9"
        assert guise(
            "shred", "acme", "--yes", "--audit", down, "--home", home
        ).exception
        assert store(home).get(A).data == JPEG

    def test_without_yes_it_says_what_it_would_do(self, stopped: Path) -> None:
        """And does nothing."""
        home = stopped
        why = refused(InvalidRequest, "shred", "acme", "--home", home)
        assert "--yes" in why
        assert store(home).get(A).data == JPEG

    def test_who_is_active_is_suspended_first(self, home: Path) -> None:
        """As before a deletion: nothing new begins that would be lost by it."""
        why = refused(Conflict, "shred", "acme", "--yes", "--home", home)
        assert "suspend it first" in why
        assert store(home).get(A).data == JPEG

    def test_a_job_that_is_open_is_lost_only_by_force(self, stopped: Path) -> None:
        """Its ending is owed to the log and to the bill; what is lost is counted."""
        store(stopped).put(ACME.outbox("j1"), b"")
        at = ("--yes", "--home", stopped)
        why = refused(Conflict, "shred", "acme", *at)
        assert "1 jobs of acme are under way" in why
        assert "--force" in why
        assert store(stopped).get(A).data == JPEG
        text = done("shred", "acme", "--force", *at)
        assert "1 accepted job will never end" in text
        with pytest.raises(Gone):
            store(stopped).get(A)

    def test_cut_off_anywhere_the_same_command_does_the_rest(
        self, stopped: Path
    ) -> None:
        """It is killed, again and again, until one gets through."""
        home = stopped
        store(home).put(Key("uploads/b.jpg"), JPEG)
        command = [sys.executable, "-m", "functions.cli", "tenant", "shred", "acme"]
        command += ["--yes", "--json", "--home", str(home)]
        wait, said = 0.3, b""
        for _ in range(40):
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as shredding:
                try:
                    said, fault = shredding.communicate(timeout=wait)
                    assert shredding.returncode == 0, fault
                    break
                except subprocess.TimeoutExpired:
                    shredding.kill()
            wait += 0.06
        assert json.loads(said)["state"] == "shredded"
        assert private(home) == {"acme": 0, "globex": 3}
        with pytest.raises(Gone):
            store(home).get(A)
        again = told("shred", "acme", "--yes", "--home", home)
        assert (again["keys"], again["files"], again["before"]) == (0, 2, True)
        text = done("shred", "acme", "--yes", "--home", home)
        assert "acme was shredded before: 0 keys" in text

    def test_it_is_said_what_is_not_promised(self, stopped: Path) -> None:
        """In words, on the command line."""
        home = stopped
        text = done("shred", "acme", "--yes", "--home", home)
        assert "not promised" in text
        assert "none opens" in text

    def test_a_tenant_without_keys_of_its_own_cannot_be_shredded(
        self, home: Path
    ) -> None:
        """It can be deleted."""
        done("create", "plain", "--home", home)
        done("suspend", "plain", "--home", home)
        assert "is not encrypted by us" in refused(
            Conflict, "shred", "plain", "--yes", "--home", home
        )

    def test_where_the_database_is_elsewhere_it_is_asked_for(
        self, stopped: Path, tmp_path: Path
    ) -> None:
        """Before anything is destroyed."""
        home = stopped
        keys = tmp_path / "elsewhere"
        keys.mkdir()
        at = ("--keys", keys, "--home", home, "--audit", "http://127.0.0.1:9")
        why = refused(InvalidRequest, "shred", "acme", "--yes", *at)
        assert "--database" in why
        assert store(home).get(A).data == JPEG

    def test_anything_that_still_opens_is_a_failure(self, home: Path) -> None:
        """An honest word needs that it could have been another."""
        with pytest.raises(Failed, match="still opens"):
            tenant_shred.attempt(Place(home), ACME, [A])
        with pytest.raises(Failed, match="may still open"):
            tenant_shred.attempt(Place(home), ACME, [])


class TestRotate:
    """A new version of the key."""

    def test_every_object_is_under_the_new_version(self, home: Path) -> None:
        """The old one stays for backups, until it is said to destroy it."""
        at = ("acme", "--home", home)
        first = told("rotate", *at)
        assert first == {
            "tenant": "acme",
            "version": 2,
            "objects": 1,
            "destroyed": 0,
            "kept": [1],
        }
        assert "--destroy-old" in done("rotate", *at)
        text = done("rotate", *at, "--destroy-old")
        assert "destroyed: 3 older versions" in text
        assert store(home).get(A).data == JPEG

    def test_with_an_object_that_does_not_open_no_version_is_destroyed(
        self, home: Path
    ) -> None:
        """It may be mended from a backup, which needs the old one."""
        (path,) = files(home / "tenants/acme")
        data = path.read_bytes()
        path.write_bytes(b"x" * HEADER_BYTES + data[HEADER_BYTES:])
        why = refused(Failed, "rotate", "acme", "--destroy-old", "--home", home)
        assert A in why
        path.write_bytes(data)
        assert store(home).get(A).data == JPEG

    def test_a_tenant_without_keys_of_its_own_has_none_to_rotate(
        self, home: Path
    ) -> None:
        """What to do is said: two commands, or what its bucket's KMS has."""
        at = ("plain", "--home", home)
        done("create", *at)
        done("suspend", *at)
        for command in (("rotate",), ("shred", "--yes")):
            why = refused(Conflict, *command, *at)
            edit = "guise tenant edit plain --set isolation.data=1"
            assert f"`{edit}`, then `guise tenant envelop plain`" in why
        bucket = ("--store", "s3://b-{tenant}?endpoint=http://127.0.0.1:1")
        why = refused(Conflict, "rotate", *at, *bucket)
        assert "in its KMS" in why
        assert "envelop" not in why
        done(*edit.split()[2:], "--home", home)
        done("envelop", *at)
        done("rotate", *at)


class TestEnvelop:
    """From objects that lie as they are to encrypted ones."""

    def test_what_lay_open_is_encrypted_and_removed(self, home: Path) -> None:
        """Every object, under the key it had."""
        at = ("plain", "--home", home)
        done("create", *at)
        plain = Tenant("plain")
        bare = store(home, plain)
        for number in range(5):
            bare.put(Key(f"uploads/{number}.jpg"), JPEG + b"%d" % number)
        assert "isolation.data" in refused(Conflict, "envelop", *at)
        done("edit", *at, "--set", "isolation.data=1")
        with pytest.raises(Problem, match="envelop plain"):
            store(home, plain)
        assert told("envelop", *at) == {"tenant": "plain", "objects": 5}
        assert "0 objects" in done("envelop", *at)
        found = store(home, plain)
        assert [info.key for info in found.list(Key("")).objects] == [
            f"uploads/{number}.jpg" for number in range(5)
        ]
        assert found.get(Key("uploads/3.jpg")).data == JPEG + b"3"
        for path in (home / "tenants/plain").rglob("*"):
            assert path.is_dir() or b"JFIF" not in path.read_bytes()

    def test_nothing_is_encrypted_under_an_open_job(self, home: Path) -> None:
        """Its inputs are pinned by their generations."""
        at = ("plain", "--home", home)
        done("create", *at)
        store(home, Tenant("plain")).put(ACME.outbox("job"), b"")
        done("edit", *at, "--set", "isolation.data=1")
        assert "under way" in refused(Conflict, "envelop", *at)

    def test_where_no_keys_are_named_nothing_is_encrypted(
        self, home: Path, tmp_path: Path
    ) -> None:
        """Fail closed."""
        at = ("acme", "--home", home, "--keys", tmp_path)
        assert "GUISE_ENVELOPES" in refused(Conflict, "envelop", *at)

    def test_a_bucket_is_encrypted_by_its_own_key(self, home: Path) -> None:
        """It is no folder."""
        at = ("acme", "--home", home, "--store", "s3://acme-bucket/{tenant}")
        assert "no folder" in refused(Conflict, "envelop", *at)


def files(root: Path) -> list[Path]:
    found = (Path(place, name) for place, _, names in os.walk(root) for name in names)
    return [path for path in found if is_opaque(path.name)]
