"""Group commit: exactly once, durable first, and nobody left waiting."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from functions import events
from functions.audit import pipeline
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.leaf import leaf_of
from functions.audit.log import Appended, Log
from functions.audit.store import Private, Sealed, Store
from functions.audit.tables import erasures, images, record_keys, sidecars
from functions.commits import BATCH_MAX
from functions.keys import MemoryKeys
from functions.problems import Failed, Unavailable
from tests.audit.house import BOTH

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection

    from functions.events import Event
    from functions.keys import Signer
    from tests.audit.house import House


DATABASES = BOTH


def some_events(house: House, number: int, tenant: str = "acme") -> list[Event]:
    return [house.event(f"e{each}", tenant) for each in range(number)]


def appended_at_once(log: Log, wanted: list[Event]) -> list[Appended]:
    """Append events so that they wait together while another batch is committed."""
    with ThreadPoolExecutor(len(wanted)) as pool:
        return list(pool.map(log.append, wanted))


def test_eight_threads_with_duplicates_append_exactly_once(house: House) -> None:
    """Each event has one place, whoever brings it how often at whatever moment."""
    wanted = [house.event(f"e{each % 40}", "acme") for each in range(200)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(house.log.append, wanted))
    places: dict[str, set[int]] = {}
    for event, answer in zip(wanted, answers, strict=True):
        places.setdefault(event.id, set()).add(answer.receipt.index)
    assert all(len(found) == 1 for found in places.values())
    assert sorted(min(found) for found in places.values()) == list(range(40))
    leaves = house.entries()
    assert len(leaves) == 40
    for answer in answers:
        known = log_verifiers("acme", house.keys)
        size = int(answer.receipt.checkpoint.split("\n")[1])
        verify_entries(leaves[:size], answer.receipt.checkpoint, known)
        assert answer.receipt.index < size


def test_two_processes_append_to_one_log(house: House) -> None:
    """The head's lock orders writers that know nothing of one another."""
    other = Log.at(house.url, house.keys)
    wanted = some_events(house, 60)
    with ThreadPoolExecutor(8) as pool:
        one = pool.map(house.log.append, wanted)
        two = pool.map(other.append, reversed(wanted))
        places = [answer.receipt.index for answer in one]
        assert places == [answer.receipt.index for answer in two][::-1]
    other.close()
    assert sorted(places) == list(range(60))


def test_looking_for_duplicates_reads_no_other_entry(house: House) -> None:
    """Appending takes the same time whatever the log has grown to."""
    seen: list[tuple[str, Any]] = []
    engine = house.log.store._engine

    def remember(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        seen.append((statement, values))

    sa.event.listen(engine, "before_cursor_execute", remember)
    house.log.append(house.event())
    sa.event.remove(engine, "before_cursor_execute", remember)
    selects = [each for each in seen if "FROM" in each[0]]
    explain, scan = "EXPLAIN QUERY PLAN", "SCAN "
    if engine.dialect.name == "postgresql":
        explain, scan = "EXPLAIN", "Seq Scan"
        selects += [(pipeline.LOCK, (["acme"],)), (pipeline.FIND, ([b"key"],))]
    else:
        assert len(selects) == 3  # the head, the head that was made, the duplicates
    with house.log.store.committing() as db:
        if explain == "EXPLAIN":  # of tables this small it would read all, if it might
            db.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, values in selects:
            plan = db.exec_driver_sql(f"{explain} {statement}", values)
            assert scan not in " ".join(map(str, plan))


def test_a_batch_over_many_tenants_keeps_their_logs_apart(house: House) -> None:
    """One transaction, one checkpoint a tenant, indices of their own."""
    tenants = [f"t{each}" for each in range(6)]
    wanted = [each for t in tenants for each in some_events(house, 5, t)]
    answers = appended_at_once(house.log, wanted)
    for tenant in tenants:
        mine = [
            answer.receipt
            for event, answer in zip(wanted, answers, strict=True)
            if event.tenant == tenant
        ]
        assert sorted(each.index for each in mine) == list(range(5))
        last = max(mine, key=lambda each: int(each.checkpoint.split("\n")[1]))
        verify_entries(
            house.entries(tenant),
            last.checkpoint,
            log_verifiers(tenant, house.keys),
        )


def test_duplicates_and_conflicts_within_one_batch(house: House) -> None:
    """What is resolved against the log is resolved against the batch, too."""
    true = leaf_of(house.event("a"))
    false = leaf_of(house.event("a", data={"job": "other"}))
    first, again, lie, same_lie = house.log._commit([true, true, false, false])
    assert (first.receipt, first.conflict) == (again.receipt, again.conflict)
    assert lie == same_lie
    assert lie.conflict
    assert [first.receipt.index, lie.receipt.index] == [0, 1]
    assert len(house.entries()) == 2


def test_a_failed_commit_fails_each_waiter_and_the_next_succeeds(
    house: House,
) -> None:
    """Nobody hangs, nothing is half written, and nothing is broken afterwards."""
    house.log.append(house.event("before"))
    house.tamper("ALTER TABLE checkpoint RENAME COLUMN note TO elsewhere")
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(house.log.append, e) for e in some_events(house, 4)]
        for each in waiting:
            with pytest.raises(Unavailable):
                each.result()
    assert len(house.entries()) == 1
    house.tamper("ALTER TABLE checkpoint RENAME COLUMN elsewhere TO note")
    assert house.log.append(house.event("e0")).receipt.index == 1


def test_the_door_answers_503_while_the_database_fails(house: House) -> None:
    """A broker tries again, and the cause stays in our log."""
    house.log.append(house.event("before"))
    house.tamper("ALTER TABLE entry RENAME TO elsewhere")
    answer = house.post(house.event())
    assert answer.status_code == 503
    assert b"elsewhere" not in answer.data
    assert answer.headers["Retry-After"]


def test_a_database_that_comes_back_is_opened_again(tmp_path: Path) -> None:
    """A failed opening is not for ever."""
    keys = MemoryKeys()
    folder = tmp_path / "not-yet"
    log = Log.at(f"sqlite:///{folder}/audit.db", keys)
    event = signed(keys)
    with pytest.raises(Unavailable):
        log.append(event)
    folder.mkdir()
    assert log.append(event).receipt.index == 0
    log.close()


def test_a_log_that_never_opened_can_be_closed(tmp_path: Path) -> None:
    """Closing does not need a database."""
    Log.at(f"sqlite:///{tmp_path}/no/audit.db", MemoryKeys()).close()


def test_without_a_signing_key_nothing_is_acknowledged(url: str) -> None:
    """No checkpoint, no entry, no receipt."""

    class NoKey(MemoryKeys):
        """Has every key but ours."""

        def signer(self, name: str) -> Signer:
            """Fail."""
            raise Failed(internal=name)

    log = Log.at(url, NoKey())
    with pytest.raises(Unavailable):
        log.append(signed(MemoryKeys()))
    log.close()


def test_a_closed_log_takes_no_more(house: House) -> None:
    """What was taken is committed; what comes later is told to come again."""
    house.log.append(house.event())
    house.log.close()
    with pytest.raises(Unavailable):
        house.log.append(house.event("late"))


class Stuck(Store):
    """A store whose transactions wait for a signal."""

    def __init__(self, url: str) -> None:
        super().__init__(Store.open(url)._engine)
        self.go = threading.Event()

    def committing(self) -> AbstractContextManager[Connection]:
        """Wait, then begin."""
        self.go.wait()
        return super().committing()


def test_a_commit_that_takes_too_long_is_unavailable(url: str) -> None:
    """A waiter gives up; its event may be committed and is then a duplicate."""
    store, keys = Stuck(url), MemoryKeys()
    log = Log(lambda: store, keys, wait_seconds_max=0.05)
    with pytest.raises(Unavailable):
        log.append(signed(keys))
    store.go.set()
    patient = Log(lambda: store, keys)
    assert patient.append(signed(keys)).receipt.index == 0
    for each in (log, patient):
        each.close()


def signed(keys: MemoryKeys) -> Event:
    event = events.Event(
        id="1",
        source=events.swap_source("acme"),
        type=events.SWAP_STARTED,
        time="2026-11-21T12:00:00Z",
        tenant="acme",
    )
    return events.sign(event, keys.signer("events/acme"))


def test_a_batch_has_a_limit() -> None:
    """Every statement of a batch stays below what SQLite takes as variables."""
    assert BATCH_MAX * 2 < 32_766


def test_what_is_private_comes_with_a_new_entry_alone(house: House) -> None:
    """Not with one that is there, nor to a job that was erased; the first stands."""
    first = Private(b"key", (Sealed("started", b"salt"),), ((b"mac", "source"),))
    second = Private(b"other key", (Sealed("ended", b"x"),), ((b"mac", "result"),))
    first_leaf = leaf_of(house.event("a"))
    same_job = leaf_of(house.event("b", subject="a", data={"job": "job-a"}))
    gone = leaf_of(house.event("c"))
    with house.log.store.erasing("acme") as db:
        row = {"tenant": "acme", "job": "job-c", "at_ms": 1, "statement": "gone"}
        db.execute(sa.insert(erasures), row)
    house.log._commit([replace(first_leaf, private=first)])
    house.log._commit(
        [
            replace(first_leaf, private=second),
            replace(same_job, private=second),
            replace(gone, private=first),
        ],
    )
    with house.log.store.searching("acme") as db:
        keys = db.execute(sa.select(record_keys)).all()
        sealed = db.execute(sa.select(sidecars).order_by(sidecars.c.kind)).all()
        found = db.execute(sa.select(images).order_by(images.c.role)).all()
    assert [tuple(row) for row in keys] == [("acme", "job-a", b"key")]
    assert [(row.kind, row.sealed) for row in sealed] == [
        ("ended", b"x"),
        ("started", b"salt"),
    ]
    assert [(row.job, row.mac, row.role) for row in found] == [
        ("job-a", b"mac", "result"),
        ("job-a", b"mac", "source"),
    ]
    assert len(house.entries()) == 3


def test_a_pruned_entry_is_known_by_its_hash(house: House) -> None:
    """Its receipt is given again; what differs is a conflict, as ever."""
    receipt = house.log.append(house.event()).receipt
    house.tamper("UPDATE entry SET leaf = NULL, source = '', id = '', job = ''")
    again = house.log.append(house.event())
    assert (again.receipt, again.conflict) == (receipt, False)
    assert house.log.append(house.event(data={"job": "other"})).conflict
