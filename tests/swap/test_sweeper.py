"""The sweeper: what is left by the dead, what nobody takes, and fair turns."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from functions.events import (
    SWAP_FAILED,
    SWAP_REQUESTED,
)
from functions.problems import Unavailable
from functions.settings import Limits
from functions.swap import outbox
from functions.swap.dispatch import requested
from functions.swap.sweeper import Sweeper, sweep
from functions.tenant import OUTBOX, Key
from tests.swap.aging import (
    DAY_SECONDS,
    AgingStore,
    aged,
    begun,
    die_holding,
    done,
    ended,
    marks,
)
from tests.swap.house import ACME, House, Sink, picture

if TYPE_CHECKING:
    from functions.events import Event
    from functions.storage import Object


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
    assert time.monotonic() - began < 5  # of the eight that all of them would take
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


class Picky(Sink):
    """A sink that is away for the events of one job."""

    def __init__(self) -> None:
        super().__init__()
        self.away = ""

    def deliver(self, event: Event, *, timeout: float) -> None:
        if event.data.get("job") == self.away:
            raise Unavailable
        super().deliver(event, timeout=timeout)


def test_the_oldest_mark_comes_first() -> None:
    """Whatever the jobs are called."""
    house, store = aged(sweep_jobs_max=1)
    house.sink.down = True
    _, second = done(house), done(house)
    house.sink.down = False
    store.age(ACME.outbox(second), 60)
    sweep(house.books)
    assert {each.data["job"] for each in house.sink.taken} == {second}


def test_a_job_that_cannot_be_told_now_goes_to_the_back() -> None:
    """With room for one job a sweep, the next sweep is the other's."""
    house, _ = aged(sweep_jobs_max=1)
    house.sink.down = True
    stuck, other = done(house), done(house)
    picky = Picky()
    picky.away = stuck
    books = replace(house.books, sink=picky)
    assert [sweep(books).told for _ in range(2)] == [0, 1]
    assert {each.data["job"] for each in picky.taken} == {other}
    picky.away = ""
    assert sweep(books).told == 1


def test_a_store_that_says_no_to_one_job_stops_no_other() -> None:
    """Whatever is raised is that job's own; it goes to the back, too."""

    class Odd(AgingStore):
        """Raises something for one job that nobody thought of."""

        bad = ""

        def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
            if self.bad and key == ACME.record(self.bad):
                raise ZeroDivisionError
            return super().get(key, bytes_max=bytes_max)

    odd = Odd()
    house = House(Limits(sweep_jobs_max=1), opener=lambda _: odd)
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    house.sink.down = True
    bad, good = done(house), done(house)
    house.sink.down = False
    odd.bad = bad
    swept = [sweep(house.books) for _ in range(2)]
    assert [(each.told, each.later) for each in swept] == [(0, 1), (1, 0)]
    assert {each.data["job"] for each in house.sink.taken} == {good}
