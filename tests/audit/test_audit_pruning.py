"""Retention: what goes when its time is over, and what stays for ever."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from functions import events
from functions.audit.backup import verify_logs
from functions.audit.bundle import log_verifiers
from functions.audit.leaf import leaf_of
from functions.audit.log import Log
from functions.audit.merkle import VerificationError, verify_inclusion
from functions.audit.monitor import watch
from functions.audit.notes import open_kept
from functions.audit.pruning import (
    DAY_MS,
    Pruned,
    prune,
    retention_of,
    set_retention,
)
from functions.audit.source import KeptLog
from functions.audit.store import Store
from functions.audit.tables import entries, images, record_keys, sidecars
from functions.audit.tiles import open_checkpoint, tile_path
from functions.problems import InvalidRequest, NotFound, Unavailable
from tests.audit.house import BOTH, House
from tests.postgres import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from functions.events import Event
    from functions.sink import Receipt

DATABASES = BOTH
OLD, YOUNG = "2026-01-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z"
BATCH = 50
"""Entries that are committed at once, as they are when many come at a time."""
NOW_MS = events.milliseconds("2026-11-21T00:00:00.000Z")


@pytest.fixture
def operator(url: str, house: House, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return the tables as who may prune them."""
    if url.startswith("postgresql"):
        url = request.getfixturevalue("audit_database").url(OPERATOR)
    with closing(Store.open(url)) as store:
        yield store


def came_at(house: House, when: str, came: Iterable[Event]) -> list[Receipt]:
    """Append events as if it were that moment; return their receipts."""
    moment = events.milliseconds(when)
    log = Log.at(house.url, house.keys, clock_ms=lambda: moment)
    leaves = list(map(leaf_of, came))
    batches = [leaves[at : at + BATCH] for at in range(0, len(leaves), BATCH)]
    with closing(log):
        return [one.receipt for each in batches for one in log._commit(each)]


class Filled:
    """A log whose first entries are old."""

    def __init__(self, house: House, old: int, young: int) -> None:
        self.house = house
        self.events: list[Event] = []
        self.receipts: list[Receipt] = []
        self.append(OLD, range(old))
        self.append(YOUNG, range(old, old + young))

    def append(self, when: str, numbers: Iterable[int], stated: str = "") -> None:
        """Append events that come at a moment; they state it, or another one."""
        came = [self.house.event(f"e{n}", time=stated or when) for n in numbers]
        self.receipts += came_at(self.house, when, came)
        self.events += came

    def private(self, operator: Store, *jobs: str) -> None:
        """Write what is private of jobs."""
        of: list[dict[str, Any]] = [{"tenant": "acme", "job": job} for job in jobs]
        with self.house.log.store.committing() as db:
            db.execute(sa.insert(record_keys), [e | {"wrapped": b"w"} for e in of])
            sealed = [e | {"kind": "started", "sealed": b"s"} for e in of]
            db.execute(sa.insert(sidecars), sealed)
            found = [e | {"mac": b"m", "role": "source"} for e in of]
            db.execute(sa.insert(images), found)


def left(store: Store, table: sa.Table) -> list[str]:
    with store.searching("acme") as db:
        query = sa.select(table.c.job).where(table.c.tenant == "acme")
        return sorted(db.execute(query.order_by(table.c.job)).scalars())


@pytest.fixture
def filled(house: House) -> Filled:
    """Return 600 old entries, and 100 young ones."""
    return Filled(house, 600, 100)


@pytest.fixture
def pruned(filled: Filled, operator: Store) -> Filled:
    """Return them after a year of no retention and a day of one."""
    set_retention(operator, "acme", 180)
    assert prune(operator, "acme", NOW_MS) == [Pruned(1, 512, 512, 512)]
    return filled


def test_without_a_retention_everything_is_kept(
    filled: Filled, operator: Store
) -> None:
    """C2SP: without a policy for when pruning is permitted, logs are not pruned."""
    assert retention_of(operator, "acme") is None
    with pytest.raises(InvalidRequest, match="no retention"):
        prune(operator, "acme", NOW_MS)
    assert len(filled.house.entries()) == 700


@pytest.mark.parametrize("days", [-1, 0, 1, 179, 3_651])
def test_a_retention_below_the_least_is_refused(days: int, operator: Store) -> None:
    """Not fewer days than the law says, not more than anything is kept."""
    set_retention(operator, "acme", 200)
    with pytest.raises(InvalidRequest, match="180 to 3650"):
        set_retention(operator, "acme", days)
    assert retention_of(operator, "acme") == 200


def test_a_retention_can_be_changed(operator: Store) -> None:
    """The last word counts, for that tenant alone."""
    for days in (180, 3_650, 365):
        set_retention(operator, "acme", days)
    assert retention_of(operator, "acme") == 365
    assert retention_of(operator, "other") is None


def test_whole_bundles_go_from_the_front(pruned: Filled) -> None:
    """600 old entries are two bundles; the third has a young one."""
    assert len(pruned.house.entries()) == 700 - 512
    answer = pruned.house.get("tile/entries/000")
    assert answer.status_code == 404
    assert b"before 512 were dropped" in answer.data
    assert pruned.house.get("tile/entries/001").status_code == 404
    assert pruned.house.get(f"tile/entries/{tile_path(2, 188)}").status_code == 200
    assert b"no such entries" in pruned.house.get("tile/entries/005").data
    shown = pruned.house.get("entries?start=0").get_json()["entries"]
    assert shown[0]["index"] == 512


def test_attack_events_that_state_another_time(house: House, operator: Store) -> None:
    """A time of long ago lets nothing go early; one of the far future keeps nothing."""
    made = Filled(house, 0, 0)
    made.append(OLD, range(300), stated="9999-01-01T00:00:00.000Z")
    made.append(YOUNG, range(300, 600), stated="1970-01-01T00:00:00.000Z")
    set_retention(operator, "acme", 180)
    assert prune(operator, "acme", NOW_MS) == [Pruned(1, 256, 256, 256)]


def test_a_clock_that_was_set_back_lets_nothing_go(
    house: House, operator: Store
) -> None:
    """One minimum index: nothing is dropped from behind what is young."""
    made = Filled(house, 300, 1)
    made.append(OLD, range(301, 700))
    set_retention(operator, "acme", 180)
    assert prune(operator, "acme", NOW_MS) == [Pruned(1, 256, 256, 256)]


def test_pruning_again_goes_on_where_it_was(pruned: Filled, operator: Store) -> None:
    """Twice does no harm, and time does the rest."""
    assert prune(operator, "acme", NOW_MS) == [Pruned(1, 0, 0, 512)]
    later = NOW_MS + 365 * DAY_MS
    # Of 700, the last 188 fill no bundle.
    assert prune(operator, "acme", later) == [Pruned(1, 0, 0, 512)]
    for number in range(700, 800):
        pruned.house.log.append(pruned.house.event(f"e{number}", time=YOUNG))
    assert prune(operator, "acme", later) == [Pruned(1, 256, 256, 768)]


def test_a_large_log_is_pruned_in_steps(filled: Filled, operator: Store) -> None:
    """No transaction is longer than its step; one that fails undoes no other."""
    set_retention(operator, "acme", 180)

    class Failing(Store):
        """Prunes once, and no more."""

        times = 0

        def pruning(self, tenant: str) -> AbstractContextManager[sa.Connection]:
            self.times += 1
            if self.times > 1:
                raise Unavailable(internal="gone")
            return super().pruning(tenant)

    with pytest.raises(Unavailable):
        prune(Failing(operator._engine), "acme", NOW_MS, step=256)
    assert len(filled.house.entries()) == 700 - 256
    assert prune(operator, "acme", NOW_MS, step=256) == [Pruned(1, 256, 256, 512)]


def test_hashes_tiles_and_proofs_stay(pruned: Filled, operator: Store) -> None:
    """Every receipt verifies as before, and so does the whole log."""
    house, keys = pruned.house, log_verifiers("acme", pruned.house.keys)
    for index in (0, 255, 256, 511, 512, 699):
        found = house.get(f"proof/{index}").get_json()
        newest = open_checkpoint(found["checkpoint"], keys)
        leaf = bytes.fromhex(pruned.receipts[index].leaf_hash)
        assert bytes.fromhex(found["leaf_hash"]) == leaf
        path = [bytes.fromhex(each) for each in found["path"]]
        verify_inclusion(leaf, index, newest.size, path, newest.root)
    assert house.get("tile/0/000").status_code == 200
    kept = [open_kept(pruned.receipts[at].checkpoint, keys) for at in (3, 300, 600)]
    verdict = watch(lambda _: KeptLog(operator, "acme"), "acme", kept, keys)
    assert (verdict.faults, verdict.checked) == ([], 3)
    with operator.keeping() as db:
        [held] = verify_logs(db, lambda tenant: log_verifiers(tenant, house.keys))
    assert held.size == 700


def test_an_entry_dropped_before_its_time_is_found(
    pruned: Filled, operator: Store
) -> None:
    """A backup is not made of a log that misses a leaf beyond its horizon."""
    with operator.pruning("acme") as db:
        change = sa.update(entries).where(entries.c.idx == 513)
        db.execute(change.values(leaf=None))
    with operator.keeping() as db, pytest.raises(VerificationError, match="its time"):
        list(verify_logs(db, lambda t: log_verifiers(t, pruned.house.keys)))


def test_a_dropped_event_is_still_known(pruned: Filled) -> None:
    """The same one gets its first receipt; the same id otherwise is a conflict."""
    house = pruned.house

    def sent(event: Event) -> tuple[int, Receipt]:
        answer = house.log.append(event)
        return answer.conflict, answer.receipt

    assert sent(pruned.events[5]) == (False, pruned.receipts[5])
    assert len(house.entries()) == 188
    lie = house.event("e5", time=OLD, data={"job": "job-e5", "attempt": 2})
    assert sent(lie)[0]
    assert sent(lie) == sent(lie)
    assert len(house.entries()) == 189


def test_what_is_private_goes_with_the_last_entry_of_its_job(
    house: House, operator: Store
) -> None:
    """A job that has a young entry keeps what it has."""
    made = Filled(house, 600, 10)
    job, kind = {"job": "job-e7"}, events.SWAP_COMPLETED
    house.log.append(house.event("end", type=kind, time=YOUNG, data=job))
    made.private(operator, "job-e6", "job-e7", "job-e599")
    set_retention(operator, "acme", 180)
    [done] = prune(operator, "acme", NOW_MS)
    assert done.jobs == 511
    for table in (record_keys, sidecars, images):
        assert left(operator, table) == ["job-e599", "job-e7"]


def test_nothing_of_a_dropped_entry_is_left_but_hashes(
    pruned: Filled, operator: Store
) -> None:
    """Neither leaf nor names: a digest tells nobody anything by itself."""
    with operator.reading("acme") as db:
        query = sa.select(entries).where(entries.c.idx < 512)
        rows = db.execute(query.where(entries.c.tenant == "acme")).all()
    assert len(rows) == 512
    assert {(r.leaf, r.source, r.id, r.type, r.job) for r in rows} == {
        (None, "", "", "", "")
    }


def test_another_tenants_log_is_left_alone(house: House, operator: Store) -> None:
    """A retention is one tenant's."""
    Filled(house, 300, 0)
    for number in range(300):
        house.log.append(house.event(f"o{number}", tenant="other", time=OLD))
    set_retention(operator, "acme", 180)
    prune(operator, "acme", NOW_MS)
    assert len(house.entries("other")) == 300


def test_the_functions_own_login_may_not_prune(
    url: str, filled: Filled, operator: Store
) -> None:
    """On PostgreSQL the database refuses it, and nothing is dropped."""
    if not url.startswith("postgresql"):
        pytest.skip("SQLite has no roles")
    set_retention(operator, "acme", 180)
    function = filled.house.log.store
    with pytest.raises(Unavailable):
        prune(function, "acme", NOW_MS)
    with pytest.raises(Unavailable):
        set_retention(function, "acme", 365)
    assert len(filled.house.entries()) == 700


def test_a_bundle_of_a_dropped_epoch_is_told_as_such(
    pruned: Filled, operator: Store
) -> None:
    """Whoever reads through the tables is told the same as over the door."""
    with pytest.raises(NotFound, match="before 512"):
        KeptLog(operator, "acme", 1).entries(0, 256)
