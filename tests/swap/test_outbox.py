"""What nobody takes, what cannot be read, and claims whose renewal went astray."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions.events import (
    SWAP_COMPLETED,
    SWAP_ERASED,
    SWAP_FAILED,
    USAGE_RECORDED,
)
from functions.problems import Changed, Unavailable
from functions.settings import Limits
from functions.swap import ledger, outbox, records
from functions.swap.dispatch import requested
from functions.swap.sweeper import sweep
from functions.tenant import OUTBOX, Key
from tests.swap.aging import (
    AgingStore,
    aged,
    begun,
    die_holding,
    done,
    ended,
    marks,
)
from tests.swap.house import ACME, House, picture

if TYPE_CHECKING:
    from functions.swap.ledger import Claim


# --- dead letters -----------------------------------------------------------


def test_an_event_that_is_refused_for_ever_becomes_a_dead_letter() -> None:
    """Its mark goes, the others are told, and the note holds it word for word."""
    house, _ = aged()
    house.sink.refuses = USAGE_RECORDED
    job = done(house)
    assert marks(house) == []
    assert house.sink.types() == [SWAP_COMPLETED]
    note = outbox.undelivered(ACME, job, house.store)
    assert note is not None
    assert [each.reason for each in note.letters] == ["refused with status 400"]
    assert [each.event for each in note.letters] == [ended(house, job).events[1]]
    assert outbox.dead(house.store) == [job]


def test_a_dead_letter_is_not_sent_again_by_itself() -> None:
    """Sweep after sweep, it rests."""
    house, _ = aged()
    house.sink.refuses = SWAP_COMPLETED
    done(house)
    house.sink.taken.clear()
    assert [sweep(house.books).settled for _ in range(3)] == [0, 0, 0]
    assert house.sink.taken == []


def test_dead_letters_are_counted() -> None:
    """An alert is made of it."""
    house, _ = aged()
    house.sink.refuses = USAGE_RECORDED
    job = done(house)
    books = house.books
    books.deliver(ended(house, job))
    assert 'guise_deliveries_total{outcome="dead"} 1.0' in books.metrics.text()


def test_the_worker_shows_what_it_could_not_deliver() -> None:
    """On its own page of metrics."""
    house, _ = aged()
    house.sink.refuses = USAGE_RECORDED
    done(house)
    said = house.worker.get("/metrics").text
    assert 'guise_deliveries_total{outcome="dead"} 1.0' in said


def test_a_dead_letter_that_is_taken_at_last_is_none_any_more() -> None:
    """When somebody asks for it."""
    house, _ = aged()
    house.sink.refuses = USAGE_RECORDED
    job = done(house)
    books = house.books

    def again() -> bool:
        return outbox.redeliver(
            ACME, job, store=house.store, sink=house.sink, limits=books.limits
        )

    assert not again()
    house.sink.refuses = ""
    assert again()
    assert house.sink.types() == [SWAP_COMPLETED, USAGE_RECORDED]
    assert outbox.dead(house.store) == []


def test_an_erasure_keeps_the_dead_letters_there_were() -> None:
    """A bill that was refused is still to be told, whatever is erased."""
    house, _ = aged()
    house.sink.refuses = USAGE_RECORDED
    job = done(house)
    house.sink.refuses = SWAP_ERASED
    records.erase(job, house.books)
    note = outbox.undelivered(ACME, job, house.store)
    assert note is not None
    assert [each.event["type"] for each in note.letters] == [
        USAGE_RECORDED,
        SWAP_ERASED,
    ]


def test_a_stored_event_that_is_none_is_a_dead_letter() -> None:
    """Bytes that no receiver would take are not tried for ever."""
    house, _ = aged()
    house.sink.down = True
    job = done(house)
    record = ended(house, job)
    broken = msgspec.structs.replace(record, events=[{"id": 1}, record.events[1]])
    house.store.put(ACME.record(job), msgspec.json.encode(broken))
    house.sink.down = False
    assert sweep(house.books).told == 1
    assert house.sink.types() == [USAGE_RECORDED]
    assert outbox.dead(house.store) == [job]


def test_a_start_that_audit_never_records_uses_up_the_attempts() -> None:
    """It ends as failed; nothing was swapped, and nothing goes round for ever."""
    house, _ = aged()
    house.auditor.unrecordable = True
    job = begun(house)
    event = requested(job, house.books)
    assert [house.send(event).status_code for _ in range(4)] == [503, 503, 503, 204]
    assert ended(house, job).outcome == "failed"
    assert house.engine.calls == []
    assert house.sink.types() == [SWAP_FAILED]


# --- broken objects ---------------------------------------------------------


@pytest.mark.parametrize("broken", [b"{", b"[]", b"", b"\xff", b"[" * 100_000])
def test_a_broken_record_is_noted_and_left_as_it_is(broken: bytes) -> None:
    """The commit is nobody's to write over; a person looks at it."""
    house, store = aged()
    house.sink.down = True
    job = done(house)
    store.put(ACME.record(job), broken)
    house.sink.down = False
    assert sweep(house.books).broken == 1
    assert marks(house) == []
    assert outbox.dead(store) == [job]
    assert store.get(ACME.record(job)).data == broken
    assert sweep(house.books).settled == 0


@pytest.mark.parametrize("broken", [b"{", b'{"attempt":"x"}', b"[" * 100_000])
@pytest.mark.parametrize("key", [ACME.claim, ACME.pinned])
def test_a_job_whose_life_cannot_be_read_is_failed(key: object, broken: bytes) -> None:
    """Recorded in audit and not billed, and no worker is woken for it."""
    house, store = aged()
    job = begun(house)
    die_holding(house, job)
    store.put(key(job), broken)  # type: ignore[operator]  # a maker of keys
    store.age(OUTBOX, 3600)
    assert sweep(house.books).ended == 1
    record = ended(house, job)
    assert (record.outcome, record.usage) == ("failed", None)
    assert house.sink.types() == [SWAP_FAILED]
    assert marks(house) == []


def test_a_strangers_object_in_the_outbox_is_left_alone() -> None:
    """It stops nothing, and is not ours to delete."""
    house, store = aged()
    house.sink.down = True
    done(house)
    store.put(Key("outbox/NO JOB"), b"")
    house.sink.down = False
    assert sweep(house.books).told == 1
    assert marks(house) == ["outbox/NO JOB"]


def test_a_renewal_whose_answer_was_lost_costs_no_claim() -> None:
    """The store took it; the holder finds its own name there, and goes on."""

    class Lossy(AgingStore):
        """Takes one renewal and does not say so."""

        left = 1

        def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
            made = super().put_if_match(key, data, generation)
            if key.endswith("claim.json") and generation and self.left:
                self.left -= 1
                raise Unavailable(internal="no answer")
            return made

    store = Lossy()
    house = House(Limits(claim_seconds=1), opener=lambda _: store)
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    house.engine.fault = lambda: time.sleep(2)
    job = done(house)
    assert store.left == 0
    assert (ended(house, job).attempt, ended(house, job).outcome) == (1, "completed")


def test_a_claim_that_another_took_is_not_taken_back() -> None:
    """Neither by a renewal, nor by letting go, nor by asking whose it is."""
    house, store = aged(claim_seconds=1)
    job = begun(house)
    names: dict[str, Any] = {"tenant": ACME, "store": store}

    def claim() -> Claim:
        return ledger.claim(
            ACME,
            job,
            store=store,
            limits=house.limits,
            start=lambda n: requested(job, house.books, str(n)),
        )

    first = claim()
    time.sleep(1.1)
    second = claim()
    with pytest.raises(ledger.Busy):
        ledger.confirm(first, house.limits, **names)
    ledger.release(first, again=True, **names)
    assert ledger.standing(ACME, job, store, house.limits).held
    ledger.confirm(second, house.limits, **names)
    assert second.attempt == 2
    store.delete(ACME.claim(job))  # as an erasure does
    time.sleep(1.1)
    with pytest.raises(ledger.Busy):
        ledger.confirm(second, house.limits, **names)


class Slow(AgingStore):
    """Loses the answer to the first output, which arrives `before` or after."""

    def __init__(self, *, before: bool) -> None:
        super().__init__()
        self.before = before
        self.late: list[tuple[Key, bytes]] = []

    def put_if_absent(self, key: Key, data: bytes) -> int:
        if not key.endswith(".png") or self.late:
            return super().put_if_absent(key, data)
        self.late.append((key, data))
        if self.before:
            super().put_if_absent(key, data)
        raise Unavailable(internal="no answer")


@pytest.mark.parametrize("before", [True, False])
def test_an_output_that_comes_late_is_not_written_over_the_one_that_counts(
    *,
    before: bool,
) -> None:
    """The first try of an attempt was given up; the second one's is in the record."""
    store = Slow(before=before)
    house = House(opener=lambda _: store)
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = begun(house)
    event = requested(job, house.books)
    assert [house.send(event).status_code for _ in range(2)] == [503, 204]
    record = ended(house, job)
    ((key, data),) = store.late
    with pytest.raises(Changed):
        store.put_if_absent(key, data)
    assert record.output is not None
    assert (record.attempt, record.output.key) == (1, key)
    stored = store.get(key).data
    assert hashlib.sha256(stored).hexdigest() == record.output.sha256
    assert stored != data
