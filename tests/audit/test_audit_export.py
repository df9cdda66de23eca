"""A bundle from the database: which part, the same bytes, all of it or nothing."""

from __future__ import annotations

import json
import time
import zipfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.audit.backup import open_backup, write_backup
from functions.audit.bundle import log_verifiers
from functions.audit.checking import verify_bundle
from functions.audit.export import About, export
from functions.audit.log import Log
from functions.audit.manifest import Range
from functions.audit.plan import Wanted, plan
from functions.audit.pruning import prune, set_retention
from functions.audit.restore import restore
from functions.audit.store import Store
from functions.keys import events_key
from functions.problems import NotFound, TooLarge
from tests.audit.bundles import Made, files, told
from tests.audit.house import BOTH
from tests.postgres import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.audit.checking import Report
    from functions.audit.manifest import Manifest
    from functions.audit.tiles import NoteVerifier
    from tests.audit.house import House

DATABASES = BOTH
NOON_MS = events.milliseconds("2026-11-21T12:00:00Z")


@pytest.fixture
def operator(url: str, house: House, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return the log's tables as who may prune them and back them up."""
    if url.startswith("postgresql"):
        url = request.getfixturevalue("audit_database").url(OPERATOR)
    with closing(Store.open(url)) as store:
        yield store


def fill(house: House, pairs: int, tenant: str = "acme") -> None:
    """Append starts and endings of jobs, an entry a second."""
    for number in range(pairs):
        job = f"job-{number}"
        for kind, data in (
            (events.SWAP_STARTED, {"job": job}),
            (events.SWAP_COMPLETED, {"job": job, "started": {"index": 2 * number}}),
        ):
            second = 2 * number + (kind == events.SWAP_COMPLETED)
            event = house.event(
                f"{kind}-{number}",
                tenant,
                type=kind,
                data=data,
                time=events.rfc3339_of(NOON_MS + second * 1000),
            )
            house.log.append(event)


def exported(house: House, path: Path, wanted: Wanted) -> Manifest:
    """Write a bundle of the log."""
    public = house.keys.signer("audit").public_bytes()
    after, before = (
        None if at is None else events.rfc3339_of(at)
        for at in (wanted.from_ms, wanted.to_ms)
    )
    about = About(wanted.tenant, [public], after, before, wanted.job or None)
    return export(path, about, plan(house.log.store, wanted))


def checked(house: House, path: Path, tenant: str = "acme") -> Report:
    """Check a bundle that must hold, with every event's own signature."""
    keys = house.keys.verifiers(events_key(tenant))
    verifiers = log_verifiers(tenant, house.keys)
    report = verify_bundle(path, verifiers, tenant_keys=keys)
    assert report.verified, report.fault
    return report


def test_a_whole_log(house: House, tmp_path: Path) -> None:
    """Everything that was appended is in the bundle, and every checkpoint."""
    fill(house, 20)
    fill(house, 1, "other")
    manifest = exported(house, tmp_path / "b", Wanted("acme"))
    report = checked(house, tmp_path / "b")
    assert (manifest.logs[0].size, report.logs[0].entries) == (40, 40)
    assert report.logs[0].checkpoints == 40
    times = manifest.logs[0].times
    assert times is not None
    assert (times.first, times.last) == (
        "2026-11-21T12:00:00.000Z",
        "2026-11-21T12:00:39.000Z",
    )


def test_the_same_log_gives_the_same_bytes(house: House, tmp_path: Path) -> None:
    """A bundle says nothing of when or where it was made."""
    fill(house, 3)
    for name in ("one", "two"):
        exported(house, tmp_path / name, Wanted("acme"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_period(house: House, tmp_path: Path) -> None:
    """A period is the smallest range that has every entry of it."""
    fill(house, 20)
    wanted = Wanted("acme", NOON_MS + 10_000, NOON_MS + 15_000)
    manifest = exported(house, tmp_path / "b", wanted)
    assert manifest.logs[0].wanted == Range(10, 15)
    assert (manifest.after, manifest.before) == (
        "2026-11-21T12:00:10.000Z",
        "2026-11-21T12:00:15.000Z",
    )
    report = checked(house, tmp_path / "b")
    assert report.logs[0].first == "2026-11-21T12:00:10.000Z"
    assert b"a period, from 2026-11-21T12:00:10" in files(tmp_path / "b")["README.md"]


@pytest.mark.parametrize(("after", "before"), [(None, -1), (90_000, None)])
def test_a_period_of_nothing(
    house: House, tmp_path: Path, after: int | None, before: int | None
) -> None:
    """A period in which nothing was recorded is a bundle that shows so."""
    fill(house, 5)
    wanted = Wanted(
        "acme",
        None if after is None else NOON_MS + after,
        None if before is None else NOON_MS + before,
    )
    manifest = exported(house, tmp_path / "b", wanted)
    assert manifest.logs[0].wanted == Range(0, 0)
    assert manifest.logs[0].times is None
    checked(house, tmp_path / "b")
    assert b"none of them is of the period" in files(tmp_path / "b")["README.md"]


def test_a_period_in_a_log_of_two_bundles(house: House, tmp_path: Path) -> None:
    """Only the entries around the period are there, and the hashes above them."""
    fill(house, 140)
    wanted = Wanted("acme", NOON_MS + 260_000, NOON_MS + 270_000)
    manifest = exported(house, tmp_path / "b", wanted)
    [log] = manifest.logs
    assert (log.covered, log.left_out) == (Range(256, 280), (256, 0))
    assert {name for name in files(tmp_path / "b") if "tile/" in name} == {
        "tile/entries/001.p/24",
        "tile/0/001.p/24",
        "tile/1/000.p/1",
    }
    report = checked(house, tmp_path / "b")
    assert report.logs[0].entries == 24
    assert report.warnings == []  # each ending's start is in it


def test_earlier_checkpoints_are_thinned(house: House, tmp_path: Path) -> None:
    """However often the log signed, a bundle holds so many of its checkpoints."""
    fill(house, 10)
    pieces = plan(house.log.store, Wanted("acme"), checkpoints_max=4)
    assert list(pieces[0].notes) == [5, 10, 15, 20]
    public = house.keys.signer("audit").public_bytes()
    export(tmp_path / "b", About("acme", [public]), pieces)
    assert checked(house, tmp_path / "b").logs[0].checkpoints == 4


def test_one_job(house: House, tmp_path: Path) -> None:
    """A job's bundle has what is recorded of it, and of no other job."""
    fill(house, 20)
    manifest = exported(house, tmp_path / "b", Wanted("acme", job="job-7"))
    assert manifest.logs[0].single == (14, 15)
    report = checked(house, tmp_path / "b")
    assert (report.job, report.logs[0].entries) == ("job-7", 2)
    assert not [name for name in files(tmp_path / "b") if "entries" in name]


@pytest.mark.parametrize("wanted", [Wanted("acme", job="job-99"), Wanted("nobody")])
def test_what_is_not_in_the_log(house: House, tmp_path: Path, wanted: Wanted) -> None:
    """There is no bundle of nothing: whoever asked may have mistyped."""
    fill(house, 1)
    with pytest.raises(NotFound):
        exported(house, tmp_path / "b", wanted)
    assert not (tmp_path / "b").exists()


def test_entries_that_come_meanwhile_are_left_out(house: House, tmp_path: Path) -> None:
    """A bundle is of one moment, however long it takes to write."""
    fill(house, 3)
    pieces = plan(house.log.store, Wanted("acme"))
    house.log.append(house.event("late"))
    public = house.keys.signer("audit").public_bytes()
    export(tmp_path / "b", About("acme", [public]), pieces)
    assert checked(house, tmp_path / "b").logs[0].size == 6


def test_a_log_after_a_restore(house: House, tmp_path: Path, operator: Store) -> None:
    """Every epoch is in the bundle, and what links it to the one before."""
    fill(house, 5)
    file, target = tmp_path / "backup", f"sqlite:///{tmp_path}/restored.db"

    def keys_of(tenant: str) -> list[NoteVerifier]:
        return log_verifiers(tenant, house.keys)

    write_backup(operator, file, keys_of)
    with (
        closing(open_backup(file, tmp_path)) as old,
        closing(Store.open(target)) as new,
    ):
        restore(old, new, house.keys, keys_of)
    with closing(Log.at(target, house.keys)) as log:
        log.append(house.event("later", data={"job": "job-later"}))
        public = house.keys.signer("audit").public_bytes()
        about = About("acme", [public])
        manifest = export(tmp_path / "b", about, plan(log.store, Wanted("acme")))
        about = About("acme", [public], job="job-2")
        export(tmp_path / "j", about, plan(log.store, Wanted("acme", job="job-2")))
        with pytest.raises(NotFound, match="no entry of job job-99"):
            plan(log.store, Wanted("acme", job="job-99"))
    assert [log.folder for log in manifest.logs] == ["epochs/1/", ""]
    report = checked(house, tmp_path / "b")
    assert [(log.epoch, log.entries) for log in report.logs] == [(1, 10), (2, 2)]
    assert len(files(tmp_path / "b")["keys.txt"].split()) == 2
    found = checked(house, tmp_path / "j")
    assert [(log.epoch, log.entries) for log in found.logs] == [(1, 2), (2, 1)]


def test_a_pruned_log(house: House, tmp_path: Path, operator: Store) -> None:
    """What retention dropped is exported as hashes, and said to be."""
    fill(house, 140)
    set_retention(operator, "acme", 180)
    day_ms = 86_400_000
    # An entry's age counts from the checkpoint that covers it, which has the real time.
    last_ms = max(NOON_MS + 270_000, time.time_ns() // 1_000_000)
    assert prune(operator, "acme", last_ms + 180 * day_ms)
    manifest = exported(house, tmp_path / "b", Wanted("acme"))
    assert manifest.logs[0].minimum == 256
    report = checked(house, tmp_path / "b")
    assert (report.logs[0].hashes, report.logs[0].entries) == (256, 24)
    assert b"those before 256 are pruned" in files(tmp_path / "b")["README.md"]


def test_a_bundle_is_whole_or_not_there(tmp_path: Path) -> None:
    """Whatever fails while a bundle is written leaves what was there before."""
    (tmp_path / "b").write_text("the one before")

    class Failing(Made):
        def entries(self, number: int, width: int) -> bytes:
            raise NotFound(f"{number} {width}")

    with pytest.raises(NotFound):
        export(tmp_path / "b", About("acme", []), [Failing(told(3)).piece()])
    assert [each.name for each in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text() == "the one before"


def test_a_log_too_large_for_one_bundle(tmp_path: Path) -> None:
    """What no verifier would open is not written."""
    piece = Made(told(1)).piece(Range(0, 20_000_000))
    with pytest.raises(TooLarge, match="name a period"):
        export(tmp_path / "b", About("acme", []), [piece])


def test_what_states_no_time_is_exported(tmp_path: Path) -> None:
    """A damaged log is exported as it is: what is wrong is the verifier's to find."""
    progress: list[tuple[int, int]] = []
    leaves = [b"no json", b'{"time":"noon"}']
    manifest = export(
        tmp_path / "b",
        About("acme", []),
        [Made(leaves).piece()],
        progress=lambda done, whole: progress.append((done, whole)),
    )
    assert manifest.logs[0].times is None
    assert progress == [(2, 2)]
    assert json.loads(files(tmp_path / "b")["manifest.json"])["version"] == 1
