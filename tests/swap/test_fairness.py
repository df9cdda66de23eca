"""Turns by start-time fair queueing: the bound, nobody starves, nothing idles."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.problems import Unavailable
from functions.ratelimit import Room
from functions.settings import Limits
from functions.swap.fairness import (
    AGING_NS,
    MIXED_NS,
    PRIORITY_MAX,
    WARP_NS,
    Estimates,
    FairQueue,
    Standing,
    load,
)
from functions.swap.job import SwapJob
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functions.swap.fairness import Ticket

MS = 1_000_000
NAMES = [Tenant(name) for name in ("ann", "bob", "cat", "dan")]
ANN, BOB, CAT, _ = NAMES


@dataclass(frozen=True)
class Arrival:
    """A job of a tenant: when it comes, what it is expected to cost, what it costs."""

    tenant: Tenant
    at: int
    expected: int
    cost: int


@dataclass(frozen=True)
class Grant:
    """A turn: when, for what, and who waited for it."""

    at: int
    arrival: Arrival
    waiting: frozenset[Tenant]
    asked: int


@dataclass
class Simulation:
    """One queue before `slots` slots, and a clock that jumps from event to event."""

    standings: dict[Tenant, Standing]
    slots: int = 1
    shared: int | None = None

    def run(self, arrivals: Sequence[Arrival]) -> list[Grant]:
        """Return every turn, in its order; raise if somebody never had one."""
        queue, free, now = FairQueue(self.shared), self.slots, 0
        todo = sorted(arrivals, key=lambda each: each.at)
        waiting: dict[Ticket, Arrival] = {}
        ends: list[tuple[int, int, Ticket, int]] = []
        grants: list[Grant] = []
        while todo or ends:
            comes = todo[0].at if todo else None
            if ends and (comes is None or ends[0][0] <= comes):
                now, _, ticket, cost = heapq.heappop(ends)
                queue.settle(ticket, cost)
                free += 1
            else:
                each = todo.pop(0)
                now = each.at
                standing = self.standings[each.tenant]
                waiting[queue.ask(each.tenant, now, standing, each.expected)] = each
            while free and (granted := queue.grant(now)):
                who = frozenset(ticket.tenant for ticket in waiting)
                each = waiting.pop(granted)
                free -= 1
                ends_at = now + each.cost
                heapq.heappush(ends, (ends_at, len(grants), granted, each.cost))
                grants.append(Grant(now, each, who, granted.asked_ns))
            if self.shared is None:
                assert not (free and waiting), "a slot idles while somebody waits"
        assert len(grants) == len(arrivals)
        assert len(queue) == 0
        return grants


def together(
    grants: Sequence[Grant], one: Tenant, other: Tenant
) -> Iterator[list[Grant]]:
    """Yield each run of turns for all of which both waited."""
    run: list[Grant] = []
    for grant in grants:
        if {one, other} <= grant.waiting:
            run.append(grant)
        else:
            yield run
            run = []
    yield run


def apart(
    run: Sequence[Grant], one: Tenant, other: Tenant, weights: dict[Tenant, Fraction]
) -> Fraction:
    """Return the most by which what two have had grows apart in any part of a run."""
    ahead = [Fraction(0)]
    for grant in run:
        who, cost = grant.arrival.tenant, Fraction(grant.arrival.cost)
        sign = {one: 1, other: -1}.get(who, 0)
        ahead.append(ahead[-1] + sign * cost / weights[who])
    return max(ahead) - min(ahead)


def check(
    grants: Sequence[Grant], standings: dict[Tenant, Standing], loan: int
) -> None:
    """Hold every pair of tenants to the bound."""
    weights = {tenant: each.weight for tenant, each in standings.items()}
    largest: dict[Tenant, Fraction] = dict.fromkeys(standings, Fraction(0))
    for grant in grants:
        who = grant.arrival.tenant
        largest[who] = max(largest[who], grant.arrival.cost / weights[who])
    for one, other in combinations(standings, 2):
        for run in together(grants, one, other):
            bound = largest[one] + largest[other] + loan
            assert apart(run, one, other, weights) <= bound


def arrivals(cost_ms_max: int, at_ms_max: int) -> st.SearchStrategy[list[Arrival]]:
    """Any pattern: bursts, trickles, and guesses that are nothing like the costs."""
    one = st.builds(
        Arrival,
        st.sampled_from(NAMES),
        st.integers(0, at_ms_max).map(lambda ms: ms * MS),
        st.integers(0, 500 * MS),
        st.integers(0, cost_ms_max * MS),
    )
    return st.lists(one, max_size=60)


WEIGHTS = st.sampled_from([Fraction(1, 2), Fraction(1), Fraction(4), Fraction(3, 7)])
PLAIN = st.fixed_dictionaries(
    {name: st.builds(Standing, WEIGHTS, st.just(0)) for name in NAMES}
)
CLASSED = st.fixed_dictionaries(
    {name: st.builds(Standing, WEIGHTS, st.integers(0, PRIORITY_MAX)) for name in NAMES}
)


@settings(max_examples=300)
@given(arrivals(10, 300), PLAIN)
def test_what_two_have_had_is_never_further_apart_than_the_bound(
    pattern: list[Arrival], standings: dict[Tenant, Standing]
) -> None:
    """Goyal's Theorem 1, whatever comes and whatever was expected; and no idling.

    All is over before anybody has waited long enough to be lifted.
    """
    check(Simulation(standings).run(pattern), standings, loan=0)


@settings(max_examples=300)
@given(arrivals(2_000, 20_000), CLASSED)
def test_classes_lend_no_more_than_they_say(
    pattern: list[Arrival], standings: dict[Tenant, Standing]
) -> None:
    """With classes and waits of any length the bound is wider by the loans alone."""
    grants = Simulation(standings).run(pattern)
    check(grants, standings, loan=2 * PRIORITY_MAX * WARP_NS)


@settings(max_examples=100)
@given(arrivals(300, 500), CLASSED, st.integers(2, 6))
def test_many_slots_serve_everybody_and_none_beyond_its_own_share(
    pattern: list[Arrival],
    standings: dict[Tenant, Standing],
    slots: int,
) -> None:
    """Every job has its turn, and no tenant has more than half of the slots.

    The first two come at once, so that there are others from the beginning.
    """
    first = [Arrival(tenant, 0, 0, 1) for tenant in (ANN, BOB)]
    grants = Simulation(standings, slots, shared=slots).run([*first, *pattern])
    for grant in grants[2:]:
        at_once = Counter(
            each.arrival.tenant
            for each in grants
            if each.at <= grant.at < each.at + each.arrival.cost
        )
        assert max(at_once.values(), default=0) <= max(1, slots // 2)


def greedy(number: int, cost: int, tenant: Tenant = ANN) -> list[Arrival]:
    """Return so many jobs at once."""
    return [Arrival(tenant, 0, cost, cost)] * number


def order(grants: Sequence[Grant]) -> list[str]:
    return [grant.arrival.tenant.id for grant in grants]


def test_a_newcomer_waits_for_one_job_of_a_greedy_tenant() -> None:
    """Whatever the greedy one has waiting: the job under way, and it is the turn."""
    late = Arrival(BOB, 55 * MS, 10 * MS, 10 * MS)
    standings = {ANN: Standing(), BOB: Standing()}
    grants = Simulation(standings).run([*greedy(100, 10 * MS), late])
    [turn] = [each for each in grants if each.arrival is late]
    assert turn.at - turn.asked == 5 * MS


def test_turns_go_by_what_jobs_cost_and_not_by_their_number() -> None:
    """One tenant's jobs are ten times as long: it has one turn for ten."""
    pattern = greedy(10, 100 * MS) + greedy(100, 10 * MS, BOB)
    standings = {ANN: Standing(), BOB: Standing()}
    first = order(Simulation(standings).run(pattern)[:55])
    assert first.count("ann") == 5


def test_a_weight_of_four_has_four_times_the_turns() -> None:
    """Of fifty turns forty, give or take one."""
    pattern = greedy(60, 10 * MS) + greedy(60, 10 * MS, BOB)
    standings = {ANN: Standing(Fraction(4)), BOB: Standing()}
    first = order(Simulation(standings).run(pattern)[:50])
    assert abs(first.count("ann") - 40) <= 1


def test_who_cannot_be_foreseen_pays_for_what_it_took() -> None:
    """Expected to cost nothing, it has no more turns than who is foreseen."""
    cheap = [Arrival(ANN, 0, 0, 20 * MS)] * 30
    pattern = cheap + greedy(30, 20 * MS, BOB)
    standings = {ANN: Standing(), BOB: Standing()}
    first = order(Simulation(standings).run(pattern)[:20])
    assert first.count("ann") == 10


def test_a_guess_counts_while_the_turn_lasts() -> None:
    """With many slots a tenant is charged what is expected, at once."""
    queue = FairQueue()
    for tenant in (ANN, ANN, ANN, BOB, BOB, BOB):
        queue.ask(tenant, 0, expected_ns=100 * MS)
    turns = [queue.grant(0) for _ in range(4)]
    assert [turn.tenant for turn in turns if turn] == [ANN, BOB, ANN, BOB]


def test_the_higher_class_goes_first_and_pays_for_it() -> None:
    """It is ahead by what is lent; after that the two take turns."""
    pattern = greedy(200, 10 * MS) + greedy(200, 10 * MS, BOB)
    standings = {ANN: Standing(priority=0), BOB: Standing(priority=1)}
    first = order(Simulation(standings).run(pattern)[: WARP_NS // (10 * MS)])
    assert first.count("ann") == 1
    later = order(Simulation(standings).run(pattern)[60:100])
    assert abs(later.count("ann") - 20) <= 1


def test_no_class_starves_another() -> None:
    """Ever new tenants of top priority, each asking once: the lowest has its turn."""
    crowd = [Tenant(f"t{n}") for n in range(1_000)]
    low = Arrival(ANN, 5 * MS, 10 * MS, 10 * MS)
    pattern = [
        Arrival(each, n * 9 * MS, 10 * MS, 10 * MS) for n, each in enumerate(crowd)
    ]
    standings = {each: Standing(priority=PRIORITY_MAX) for each in crowd}
    standings[ANN] = Standing(priority=0)
    grants = Simulation(standings).run([*pattern, low])
    [turn] = [each for each in grants if each.arrival is low]
    waited = turn.at - turn.asked
    assert AGING_NS < waited <= PRIORITY_MAX * AGING_NS + 10 * MS


def test_who_did_nothing_has_neither_credit_nor_debt() -> None:
    """After a long time of one tenant alone, two share from then on."""
    pattern = greedy(100, 10 * MS)
    pattern += [Arrival(BOB, 500 * MS, 10 * MS, 10 * MS)] * 20
    standings = {ANN: Standing(), BOB: Standing()}
    shared = [
        each
        for each in Simulation(standings).run(pattern)
        if {ANN, BOB} <= each.waiting
    ]
    assert abs(order(shared).count("ann") - order(shared).count("bob")) <= 2


def test_nothing_is_remembered_of_who_is_even_with_the_rest() -> None:
    """A queue that is never idle holds no more tenants than are about."""
    queue = FairQueue()
    held = [queue.ask(ANN, 0) for _ in range(2)]
    assert queue.grant(0) is held[0]
    for n in range(100):
        ticket = queue.ask(Tenant(f"t{n}"), 0)
        held.append(queue.ask(ANN, 0))
        queue.settle(held.pop(0), MS)
        assert queue.grant(0) is ticket or queue.grant(0) is not None
        queue.settle(ticket, MS)
        assert queue.grant(0) is held[0]
        assert len(queue) < 5


def test_who_is_alone_has_every_slot() -> None:
    """What is kept for others is used while there are none, and not once they come."""
    queue = FairQueue(shared=2)
    alone = [queue.ask(ANN, 0) for _ in range(4)]
    assert [queue.grant(0) for _ in range(3)] == alone[:3]
    other = queue.ask(BOB, 1)
    again = queue.ask(BOB, 1)
    assert queue.grant(1) is other
    assert queue.grant(1) is None  # Ann has more than she may, and Bob what he may
    queue.settle(other, 1)
    assert queue.grant(1 + MIXED_NS // 2) is again
    later = 1 + MIXED_NS
    assert queue.grant(later) is alone[3]


def test_of_k_tenants_each_has_a_part_and_one_part_is_free() -> None:
    """Of six slots a tenant has three; two have two each; three have one."""
    queue, held = FairQueue(shared=6), Counter[str]()
    queue.ask(ANN, 0)
    for tenant, most in ((BOB, (2, 2, 0)), (CAT, (2, 2, 1))):
        for _ in range(4):
            queue.ask(ANN, 0)
            queue.ask(tenant, 0)
        while ticket := queue.grant(0):
            held[ticket.tenant.id] += 1
        assert (held["ann"], held["bob"], held["cat"]) == most


def test_an_estimate_follows_what_an_operation_takes_here() -> None:
    """Each operation has its own mean, for each unit of work."""
    means = Estimates()
    assert means.expect("swap", 2) == 2 * means.expect("swap", 1) > 0
    means.learn("swap", 2, 200 * MS)
    assert means.expect("swap", 1) == 100 * MS
    for _ in range(50):
        means.learn("swap", 1, 10 * MS)
    assert 10 * MS <= means.expect("swap", 1) < 11 * MS
    assert means.expect("detect", 1) == Estimates().expect("detect", 1)


def job(**request: object) -> SwapJob:
    import msgspec

    body = {"operation": "anonymize", "target": "uploads/a.png", **request}
    return SwapJob.parse(
        msgspec.json.encode(body),
        job="j1",
        tenant=ANN,
        actor="ann",
        limits=Limits(),
    )


SWAP = {"operation": "swap", "consent": {"basis": "public-domain"}}
PAIRS = [{"face": {"index": n}, "source": f"uploads/{n}.png"} for n in range(3)]


@pytest.mark.parametrize(
    ("request_", "faces"),
    [
        ({"faces": "largest"}, 1),
        ({"faces": {"index": 2}}, 1),
        ({"faces": "all"}, 4),
        ({**SWAP, "faces": PAIRS}, 3),
    ],
)
def test_a_job_is_as_much_work_as_it_has_faces(
    request_: dict[str, object], faces: int
) -> None:
    """As far as the request tells how many they are."""
    assert load(job(**request_), 0) == faces


def test_a_job_is_more_work_the_more_pixels_it_has() -> None:
    """A megabyte is about four megapixels, and twice enlarged four times as many."""
    assert load(job(faces="largest"), 1_000_000) == 5
    large = job(**SWAP, source="uploads/s.png", options={"upscale": 2})
    assert load(large, 1_000_000) == 17


def test_one_tenant_takes_half_of_a_room_and_two_a_third_each() -> None:
    """Who comes next always finds a place, as long as one is free."""
    room = Room(12)
    assert sum(room.enter(ANN) for _ in range(20)) == 6
    assert sum(room.enter(BOB) for _ in range(20)) == 3
    assert sum(room.enter(CAT) for _ in range(20)) == 2
    assert not room.enter(ANN)
    assert room.enter(NAMES[-1])
    for _ in range(2):
        room.leave(ANN)
    assert not room.enter(ANN)
    assert room.enter(BOB) is room.enter(CAT) is False


def test_a_room_of_one_tenants_own_is_all_its_own() -> None:
    """Where nobody else comes, nothing is kept free."""
    room = Room(12, shared=False)
    assert sum(room.enter(ANN) for _ in range(20)) == 12


def test_a_tenant_has_no_more_places_than_its_quota() -> None:
    """Whatever is free; and a place that was left can be taken again."""
    room = Room(12)
    with room.place(ANN, 1):
        with pytest.raises(Unavailable), room.place(ANN, 1):
            pass
        with room.place(BOB, 1):
            pass
    assert room.enter(ANN, 1)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=100))
def test_whatever_a_tenant_does_the_next_finds_a_place(
    steps: list[tuple[Tenant, bool]],
) -> None:
    """No tenant has more than half, and a newcomer is let in while there is room."""
    room, held = Room(8), Counter[Tenant]()
    for tenant, enters in steps:
        if enters:
            free = 8 - held.total()
            entered = room.enter(tenant)
            assert entered == (held[tenant] < free)
            held[tenant] += entered
        elif held[tenant]:
            room.leave(tenant)
            held[tenant] -= 1
        assert max(held.values(), default=0) <= 4


def crowd(*, greedy: bool) -> list[Arrival]:
    """Return what 99 ask for, half of the device; and one besides, all of it."""
    draw = random.Random(0)  # noqa: S311  # no secret
    cost, found = 50 * MS, []
    rates = [(NAMES_OF_99, 10.0)] + ([([ANN], 20.0)] if greedy else [])
    for tenants, each_second in rates:
        at = 0.0
        while at < 300:
            at += draw.expovariate(each_second)
            found.append(Arrival(draw.choice(tenants), int(at * 10**9), cost, cost))
    return found


NAMES_OF_99 = [Tenant(f"t{n}") for n in range(99)]


def p99_ms(grants: Sequence[Grant]) -> float:
    """Return how long the slowest in a hundred took to its end, but for Ann's."""
    took = [
        each.at - each.asked + each.arrival.cost
        for each in grants
        if each.arrival.tenant != ANN
    ]
    return sorted(took)[int(len(took) * 0.99)] / MS


def test_a_greedy_tenant_makes_ninety_nine_wait_no_half_as_long_again() -> None:
    """It asks for a hundred times its share, and the p99 of the others is 1.5 times."""
    standings = {name: Standing() for name in (ANN, *NAMES_OF_99)}
    without, beside = (
        p99_ms(Simulation(standings).run(crowd(greedy=greedy)))
        for greedy in (False, True)
    )
    assert without < beside <= 1.5 * without
