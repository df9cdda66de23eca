"""The sweeper: what is left by the dead, what nobody takes, and fair turns."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from functions.events import (
    SWAP_COMPLETED,
    SWAP_ERASED,
    SWAP_FAILED,
    SWAP_REQUESTED,
    USAGE_RECORDED,
)
from functions.problems import Unavailable
from functions.settings import Limits
from functions.swap import ledger, outbox, records
from functions.swap.dispatch import requested
from functions.swap.sweeper import Sweeper, sweep
from functions.tenant import OUTBOX, Key
from tests.swap.aging import AgingStore
from tests.swap.house import ACME, SWAP, House, picture

if TYPE_CHECKING:
    from functions.events import Event
    from functions.storage import Object
    from functions.swap.ledger import Record

DAY_SECONDS = 86_400


def aged(**limits: int) -> tuple[House, AgingStore]:
    """Return a house, and its store, whose objects can be made older."""
    store = AgingStore()
    house = House(Limits(**limits), opener=lambda _: store)
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house, store


def begun(house: House) -> str:
    """Return a job that is accepted and that nobody has started."""
    answer = house.post(SWAP, Prefer="respond-async")
    house.sink.taken.clear()
    return str(answer.json["job"])  # type: ignore[index]


def done(house: House) -> str:
    return str(house.post(SWAP).json["job"])  # type: ignore[index]


def ended(house: House, job: str) -> Record:
    record = ledger.record(ACME, job, house.store)
    assert record is not None
    return record


def marks(house: House) -> list[str]:
    return [info.key for info in house.store.list(OUTBOX).objects]


def die_holding(house: House, job: str) -> None:
    ledger.claim(
        ACME,
        job,
        store=house.store,
        limits=house.limits,
        start=lambda n: requested(job, house.books, str(n)),
    )


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


# --- holders that died ------------------------------------------------------


def test_a_claim_that_ran_out_is_asked_for_again() -> None:
    """And the next holder's attempt is the second."""
    house, store = aged(claim_seconds=1)
    job = begun(house)
    die_holding(house, job)
    time.sleep(1.1)
    store.age(OUTBOX, 3600)
    assert sweep(house.books).asked == 1
    house.send(house.sink.taken[-1])
    assert ended(house, job).attempt == 2


def test_past_its_attempts_a_job_is_failed_without_a_worker() -> None:
    """The sweeper ends what kills every worker: audited, and not billed."""
    house, store = aged(claim_seconds=1, attempts_max=1)
    job = begun(house)
    die_holding(house, job)
    time.sleep(1.1)
    store.age(OUTBOX, 3600)
    assert sweep(house.books).ended == 1
    assert ended(house, job).outcome == "failed"
    assert house.sink.types() == [SWAP_FAILED]
    assert house.engine.calls == []


def test_a_released_claim_has_used_up_no_attempt() -> None:
    """A job that waits for audit to come back is not failed meanwhile."""
    house, store = aged(claim_seconds=1, attempts_max=1)
    house.auditor.down = True
    job = begun(house)
    house.send(requested(job, house.books))
    store.age(OUTBOX, 3600)
    assert sweep(house.books).asked == 1
    house.auditor.down = False
    house.send(house.sink.taken[-1])
    assert ended(house, job).outcome == "completed"


def test_a_job_that_waits_is_asked_for_less_and_less_often() -> None:
    """After 20 s, 40 s, 80 s …: two thousand waiting jobs do not flood the broker."""
    house, store = aged(claim_seconds=20)
    begun(house)
    asked = []
    for second in range(0, 1000, 5):
        if sweep(house.books).asked:
            asked.append(second)
        store.age(Key(""), 5)
    gaps = [after - before for before, after in itertools.pairwise([0, *asked])]
    assert gaps[0] == 20
    assert all(later >= 2 * gap - 20 for gap, later in itertools.pairwise(gaps[1:]))
    assert 5 <= len(asked) <= 6


def test_what_never_came_to_be_accepted_is_cleared_away() -> None:
    """The pictures of a call that died in the middle, an hour later."""
    house, store = aged()
    outbox.mark(ACME, "j1", store)
    store.put(ACME.received("j1", "target-0"), picture())
    store.age(OUTBOX, 600)
    assert sweep(house.books).settled == 0
    store.age(OUTBOX, 3600)
    assert sweep(house.books).ended == 1
    assert not store.list(Key("uploads/j1/")).objects
    assert marks(house) == []


# --- fair turns -------------------------------------------------------------


def test_a_sweep_does_a_bounded_number_of_jobs_and_the_next_goes_on() -> None:
    """The oldest first, and every one has its turn."""
    house, _ = aged(sweep_jobs_max=2)
    house.sink.down = True
    jobs = {done(house) for _ in range(5)}
    house.sink.down = False
    counts = [sweep(house.books) for _ in range(3)]
    assert [each.told for each in counts] == [2, 2, 1]
    assert [each.more for each in counts] == [True, True, False]
    told = Counter(each.data["job"] for each in house.sink.taken)
    assert told == dict.fromkeys(jobs, 2)


def test_a_job_nobody_takes_an_event_of_keeps_no_other_waiting() -> None:
    """It goes to the back; those behind it are told in the next sweep."""
    house, _ = aged(sweep_jobs_max=1)
    house.sink.down = True
    poison, other = done(house), done(house)
    house.sink.down = False
    house.store.put(ACME.claim(poison), b"{")
    house.sink.refuses = poison
    for _ in range(2):
        sweep(house.books)
    assert {each.data["job"] for each in house.sink.taken} == {other}
    assert marks(house) == []
    assert outbox.dead(house.store) == [poison]


def test_a_sweep_takes_a_bounded_time() -> None:
    """A slow sink costs one tenant's turn and no more."""
    house, _ = aged(sweep_seconds_max=1, delivery_ms_max=400)
    house.sink.down = True
    for _ in range(20):
        done(house)

    class Slow:
        def deliver(self, event: Event, *, timeout: float) -> None:
            time.sleep(timeout)
            raise Unavailable

    books = replace(house.books, sink=Slow())
    began = time.monotonic()
    swept = sweep(books)
    assert time.monotonic() - began < 2
    assert swept.more
    assert 0 < swept.later < 20


# --- a stopped sink ---------------------------------------------------------


def test_while_the_sink_is_away_nothing_is_lost_and_nothing_is_asked_for() -> None:
    """The marks stay; a job is asked for as soon as the sink is back."""
    house, store = aged()
    job = begun(house)
    store.age(OUTBOX, 30)
    house.sink.down = True
    assert sweep(house.books).later == 1
    house.sink.down = False
    assert sweep(house.books).asked == 1
    assert house.sink.types() == [SWAP_REQUESTED]
    assert house.sink.taken[0].data == {"job": job}


def test_a_sweeper_looks_for_what_is_too_old_once_an_hour() -> None:
    """Listing a whole store every few seconds would cost more than the work."""
    house, store = aged()
    job = done(house)
    sweeper = Sweeper()
    assert sweeper.run(house.books)[1].jobs == 0
    store.age(Key(""), 31 * DAY_SECONDS)
    assert sweeper.run(house.books)[1].jobs == 0
    assert Sweeper().run(house.books)[1].jobs == 1
    assert ended(house, job).expired


def test_a_policy_that_cannot_be_read_stops_no_delivery() -> None:
    """Nothing is deleted, and the sweep goes on."""
    house, store = aged()
    house.sink.down = True
    done(house)
    house.sink.down = False
    store.put(Key("policy/retention.json"), b"{")
    swept, retired = Sweeper().run(house.books)
    assert (swept.told, retired.jobs) == (1, 0)


def test_a_store_that_says_no_to_one_job_stops_no_other() -> None:
    """Whatever is raised is that job's own."""
    store = AgingStore()

    class Odd(AgingStore):
        """Raises something for one job that nobody thought of."""

        bad = ""

        def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
            if self.bad and key == ACME.record(self.bad):
                raise ZeroDivisionError
            return super().get(key, bytes_max=bytes_max)

    odd = Odd()
    odd.__dict__.update(store.__dict__)
    house = House(opener=lambda _: odd)
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    house.sink.down = True
    bad, good = done(house), done(house)
    house.sink.down = False
    odd.bad = bad
    swept = sweep(house.books)
    assert (swept.told, swept.later) == (1, 1)
    assert {each.data["job"] for each in house.sink.taken} == {good}
