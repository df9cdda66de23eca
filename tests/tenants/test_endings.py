"""The end of a tenant's keys and objects is the end of all of them, or is refused."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from functions.audit.store import Selection, select_entries
from functions.audit.store import Store as LogStore
from functions.audit.tables import images, record_keys, sidecars
from functions.cli.tenant.place import Place
from functions.cli.tenant.shred import JOBS_AT_ONCE
from functions.database import open_database
from functions.envelopes import Envelopes
from functions.keys import FileKeys, events_key
from functions.local.home import Home
from functions.problems import NotFound, Problem, Unavailable
from functions.storage.file import TEMPORARY, FileStore
from functions.tenant import Key, Tenant
from tests.integration.stack import until
from tests.tenants.home import guise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACME = Tenant("acme")
A = ACME.upload("uploads/a.jpg")
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(4_000)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with a suspended tenant whose data is encrypted."""
    home = tmp_path / "home"
    guise(home, "create", "acme", "--data", 1)
    Place(home).stores(ACME).of(ACME).put(A, JPEG)
    guise(home, "suspend", "acme")
    return home


def ring(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "keys/envelopes/acme").glob("*.key"))


def entries(home: Path) -> int:
    url = Home(home).database_url("audit")
    with closing(LogStore.open(url)) as store, store.reading("acme") as db:
        return len(list(select_entries(db, Selection("acme"), 100)))


def pieces() -> Iterator[bytes]:
    """Yield the first piece of a picture, and then nothing for a long time."""
    yield JPEG
    sys.stdout.write("writing\n")
    sys.stdout.flush()
    time.sleep(60)


def killed_writing(folder: Path) -> None:
    """Kill a process while it writes a picture into a folder."""
    code = (
        "from pathlib import Path; from functions.storage.file import FileStore;"
        "from tests.tenants.test_endings import A, pieces;"
        f"FileStore(Path({str(folder)!r})).write(A, pieces(), expected=None)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert one.stdout.readline()
        one.kill()


def plain(folder: Path) -> list[Path]:
    """Return every file in which the picture lies as it is."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if b"JFIF" in path.read_bytes()]


@pytest.mark.parametrize("command", ["shred", "delete"])
def test_keys_that_are_elsewhere_are_not_said_to_be_destroyed(
    home: Path, tmp_path: Path, command: str
) -> None:
    """No ring for a tenant who has one by its spec: nothing is done, nor recorded."""
    shutil.move(home / "keys/envelopes", tmp_path / "secure")
    shutil.rmtree(home / "tenants/acme")  # not even an object that would say so
    before = entries(home)
    said = guise(home, command, "acme", "--yes", code=1)
    assert "there are no keys of acme" in said.stderr
    assert entries(home) == before
    assert (tmp_path / "secure/acme/1.key").exists()


@pytest.mark.parametrize("command", ["shred", "delete"])
def test_keys_that_do_not_fit_the_objects_are_not_destroyed(
    home: Path, tmp_path: Path, command: str
) -> None:
    """An object that a ring has no name for is another ring's."""
    shutil.move(home / "keys/envelopes/acme", tmp_path / "secure")
    guise(home, "create", "beta", "--data", 1)
    shutil.copytree(home / "keys/envelopes/beta", home / "keys/envelopes/acme")
    before = ring(home), entries(home)
    said = guise(home, command, "acme", "--yes", code=1)
    assert "have no name for" in said.stderr
    assert (ring(home), entries(home)) == before


def test_a_shred_that_was_cut_off_is_no_deletion(home: Path) -> None:
    """Killed once the spec says `shredded`: keys are there, and so is the folder."""
    command = [sys.executable, "-m", "functions.cli", "tenant", "shred", "acme"]
    spec = home / "tenants/acme.yaml"
    with (home / "keys/envelopes/acme/.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen([*command, "--yes", "--home", str(home)]) as shredding:
            until(lambda: "state: shredded" in spec.read_text())
            shredding.kill()
    assert ring(home) == ["1.key", "names.key"]
    said = guise(home, "delete", "acme", "--yes", code=1)
    assert "guise tenant shred acme --yes` first" in said.stderr
    assert (home / "tenants/acme").exists()
    guise(home, "shred", "acme", "--yes")
    assert ring(home) == []
    guise(home, "delete", "acme", "--yes")
    assert not (home / "tenants/acme").exists()


def test_a_shredded_tenant_s_signing_key_is_the_last(home: Path) -> None:
    """While it is there, audit may not have forgotten what it keeps privately."""
    spec = home / "tenants/acme.yaml"
    spec.write_text(spec.read_text().replace("suspended", "shredded"))
    Envelopes(home / "keys/envelopes").shred(ACME)
    guise(home, "delete", "acme", "--yes", code=1)
    guise(home, "shred", "acme", "--yes")
    assert FileKeys(home / "keys").is_destroyed(events_key("acme"))
    guise(home, "delete", "acme", "--yes")


def test_what_audit_keeps_privately_goes_by_parts(home: Path) -> None:
    """All of the tenant's, and nothing of another's."""
    jobs = [f"j-{number:05}" for number in range(JOBS_AT_ONCE + 10)]
    some = {"wrapped": b"w", "kind": "started", "sealed": b"s", "mac": b"m"}
    some["role"] = "target"
    rows = [some | {"tenant": "acme", "job": job} for job in jobs]
    rows += [some | {"tenant": "beta", "job": "j-1"}]
    engine = open_database(Home(home).database_url("audit"))
    with engine.begin() as db:
        for table in (record_keys, sidecars, images):
            names = [column.name for column in table.columns]
            db.execute(table.insert(), [{n: row[n] for n in names} for row in rows])
    said = guise(home, "shred", "acme", "--yes").stdout
    assert f"privately of {len(jobs)} jobs" in said
    with engine.begin() as db:
        for table in (record_keys, sidecars, images):
            assert [row.tenant for row in db.execute(table.select())] == ["beta"]
    engine.dispose()


def test_half_a_picture_of_a_killed_writer_is_not_left_open(tmp_path: Path) -> None:
    """Nor by `envelop`, nor by what comes after it."""
    home = tmp_path / "home"
    folder = home / "tenants/acme"
    guise(home, "create", "acme")
    killed_writing(folder)
    assert len(plain(folder)) == 1
    guise(home, "edit", "acme", "--set", "isolation.data=1")
    guise(home, "envelop", "acme")
    assert plain(folder) == []


@pytest.mark.parametrize("command", ["shred", "delete"])
def test_half_a_picture_does_not_outlive_its_tenant(home: Path, command: str) -> None:
    """However it came into the temporary folder."""
    folder = home / "tenants/acme"
    killed_writing(folder)
    assert len(plain(folder)) == 1
    guise(home, command, "acme", "--yes")
    assert plain(folder) == []


@pytest.mark.parametrize(
    "name", ["uploads/a.jpg", ".hidden", f"{'a' * 64}/b", ".locks/x"]
)
def test_none_opens_is_not_said_over_a_file_that_lies_open(
    home: Path, name: str
) -> None:
    """Whatever it is called; the keys of the others are destroyed nevertheless."""
    done = guise(home, "shred", "acme", "--yes")
    path = home / "tenants/acme" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(JPEG)
    done = guise(home, "shred", "acme", "--yes", code=1)
    assert f"{path} is no envelope" in done.stderr
    path.unlink()
    guise(home, "shred", "acme", "--yes")


def test_who_is_deleted_is_not_shredded_without_a_record(home: Path) -> None:
    """The key that would sign it is gone, and the rest is kept."""
    guise(home, "delete", "acme", "--yes")
    before = ring(home)
    said = guise(home, "shred", "acme", "--yes", code=1)
    assert "is shredded first" in said.stderr
    assert ring(home) == before != []


def test_what_a_deletion_leaves_is_said(home: Path) -> None:
    """Before and after: of who is not shredded the keys stay, for backups."""
    keys = f"the keys of its objects, in {home}/keys/envelopes"
    before = guise(home, "delete", "acme", code=1).stderr
    assert keys in before
    assert "first `guise tenant shred`, which ends them" in before
    assert keys in guise(home, "delete", "acme", "--yes").stdout
    said = json.loads(guise(home, "delete", "acme", "--yes", "--json").stdout)
    assert said["keys_kept"] == [1]
    shutil.rmtree(home / "keys/envelopes/acme")  # no backup is to open any more
    said = guise(home, "delete", "acme", "--yes").stdout
    assert "and what audit keeps privately of its jobs stay; nobody" in said


def test_what_is_left_of_the_shredded_is_said(home: Path) -> None:
    """Log and bills alone: audit has forgotten the rest."""
    guise(home, "shred", "acme", "--yes")
    assert (
        "its log and its bills stay: say"
        in guise(home, "delete", "acme", code=1).stderr
    )
    said = json.loads(guise(home, "delete", "acme", "--yes", "--json").stdout)
    assert (said["state"], said["keys_kept"]) == ("shredded", [])


def test_what_a_deletion_of_the_shredded_takes_is_said(home: Path) -> None:
    """The files that no key opens, by number; and the list shows that it was done."""
    guise(home, "resume", "acme")
    store = Place(home).stores(ACME).of(ACME)
    for number in range(2):
        store.put(ACME.upload(f"uploads/{number}.jpg"), JPEG)
    guise(home, "suspend", "acme")
    guise(home, "shred", "acme", "--yes")
    assert "shredded " in guise(home, "list").stdout
    assert "shredded, deleted" not in guise(home, "list").stdout
    assert "files of acme, which no key" in guise(home, "delete", "acme", code=1).stderr
    said = guise(home, "delete", "acme", "--yes").stdout
    assert "acme is deleted: 3 files that no key opens" in said
    assert "shredded, deleted" in guise(home, "list").stdout
    assert "acme: shredded, deleted, " in guise(home, "show", "acme").stdout
    assert json.loads(guise(home, "list", "--json").stdout)["deleted"]
    again = guise(home, "delete", "acme", "--yes").stdout
    assert "acme was deleted before: 0 files" in again


def test_a_store_that_is_one_tenants_own_is_emptied(home: Path) -> None:
    """The folder stays, which is not ours; nothing of who was shredded is in it."""
    folder = home / "tenants/acme"
    only = ("--store", folder.as_uri())
    guise(home, "shred", "acme", "--yes", *only)
    (folder / "link").symlink_to(home)
    said = json.loads(guise(home, "delete", "acme", "--yes", "--json", *only).stdout)
    assert said["files"] > 0
    assert list(folder.iterdir()) == []
    assert (home / "keys").is_dir()


def test_who_writes_while_all_is_cleared_is_told_to_try_again(tmp_path: Path) -> None:
    """And of what they wrote nothing is there."""
    store = FileStore(tmp_path)

    def cleared() -> Iterator[bytes]:
        yield JPEG
        assert store.sweep() == 0  # it is young: somebody's
        assert store.sweep(0) == 1
        yield JPEG

    with pytest.raises(Unavailable):
        store.write(A, cleared(), expected=None)
    with pytest.raises(NotFound):
        store.get(A)
    assert os.listdir(tmp_path / TEMPORARY) == []  # noqa: PTH208  # names alone


def test_an_upload_called_as_ours_are_is_enveloped_too(tmp_path: Path) -> None:
    """64 hexadecimal digits in a plain folder are a plain name."""
    home = tmp_path / "home"
    guise(home, "create", "acme")
    key = Key(f"uploads/{'ab' * 32}")
    Place(home).stores(ACME).of(ACME).put(key, JPEG)
    guise(home, "edit", "acme", "--set", "isolation.data=1")
    with pytest.raises(Problem, match="lies as it is"):
        Place(home).stores(ACME).of(ACME)
    guise(home, "envelop", "acme")
    assert plain(home / "tenants/acme") == []
    assert Place(home).stores(ACME).of(ACME).get(key).data == JPEG
