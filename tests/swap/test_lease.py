"""The lease: turns among tenants, and a meter that never exceeds time."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from functions.swap.fairness import Standing
from functions.swap.lease import (
    Clocks,
    Device,
    Memory,
    Meter,
    Sharing,
    decimal_seconds,
)
from functions.tenant import Tenant

ANN, BOB = Tenant("ann"), Tenant("bob")
MS = 1_000_000


class Clock:
    """Nanoseconds that pass when somebody says so: each clock there is."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def clocks(self) -> Clocks:
        """Return what production measures by, going by this."""
        return Clocks(self, self, self)


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)), max_size=30))
def test_what_is_billed_never_exceeds_the_wall(steps: list[tuple[int, int]]) -> None:
    """Over any sequence of waits and leases, the sum of seconds is at most the wall."""
    clock = Clock()
    device = Device(clock.clocks())
    billed = Decimal(0)
    for idle, work in steps:
        clock.now += idle
        with device.lease(ANN) as meter:
            clock.now += work
        assert meter.device_ns == meter.wall_ns == work
        billed += Decimal(decimal_seconds(meter.device_ns))
    assert billed <= Decimal(clock.now) / 10**9


HOLDERS_MAX = 4
SHARES = [Fraction(1), Fraction(1, 7), Fraction(2, 7), Fraction(9, 10)]


class OneDevice(RuleBasedStateMachine):
    """Leases on one device, granted and given back in any order, billed or lost.

    The device and its clocks are production's own, with a fake time behind them.
    `held` is the model: how long each lease was held, and who with.
    """

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.share = Fraction(1)
        self.device = Device(self.clock.clocks(), holders=HOLDERS_MAX)
        self.holders = 0
        self.crashes = 0
        self.billed: list[tuple[int, int, int]] = []
        """(granted, released, billed milliseconds) of each."""

    @rule(share=st.sampled_from(SHARES))
    @precondition(lambda self: not self.holders and not self.billed)
    def configure(self, share: Fraction) -> None:
        """Make it a part of a device."""
        self.share = share
        self.device = Device(self.clock.clocks(), holders=HOLDERS_MAX, share=share)

    @rule(ns=st.integers(0, 10**9))
    def pass_time(self, ns: int) -> None:
        """Let time pass, by nanoseconds that make no whole milliseconds."""
        self.clock.now += ns

    @rule(target=leases, tenant=st.sampled_from([ANN, BOB]))
    @precondition(lambda self: self.holders < HOLDERS_MAX)
    def grant(self, tenant: Tenant) -> tuple[int, int, ExitStack, Meter]:
        """Give somebody the device."""
        held = ExitStack()
        meter = held.enter_context(self.device.lease(tenant))
        self.holders += 1
        return self.crashes, self.clock.now, held, meter

    @rule(lease=consumes(leases))
    def complete(self, lease: tuple[int, int, ExitStack, Meter]) -> None:
        """End the work, and bill it."""
        granted, meter = self._end(lease)
        self._bill(granted, meter)

    @rule(lease=consumes(leases), at=st.integers(-2000, 4000))
    def cancel(self, lease: tuple[int, int, ExitStack, Meter], at: int) -> None:
        """End work that was cancelled at some moment, by a clock right or wrong."""
        granted, meter = self._end(lease)
        self._bill(granted, meter.up_to(granted // MS + at))

    @rule(lease=consumes(leases))
    def fail(self, lease: tuple[int, int, ExitStack, Meter]) -> None:
        """End work by a fault of ours, and bill nothing."""
        self._end(lease)

    @rule()
    def crash(self) -> None:
        """Let the process die with all who hold the device, and start another."""
        self.device = Device(self.clock.clocks(), holders=HOLDERS_MAX, share=self.share)
        self.holders = 0
        self.crashes += 1

    def _end(self, lease: tuple[int, int, ExitStack, Meter]) -> tuple[int, Meter]:
        crashes, granted, held, meter = lease
        if crashes != self.crashes:
            return granted, Meter()  # it died with its process: no word of it
        held.close()
        self.holders -= 1
        return granted, meter

    def _bill(self, granted: int, meter: Meter) -> None:
        billed = Decimal(decimal_seconds(meter.device_ns))
        self.billed.append((granted, self.clock.now, int(billed * 1000)))

    @invariant()
    def no_window_is_billed_for_more_than_it_is_long(self) -> None:
        """For every grant and every release, bill what lies between within the wall."""
        for start in {granted for granted, _, _ in self.billed}:
            for stop in {released for _, released, _ in self.billed}:
                within = sum(
                    billed * MS
                    for granted, released, billed in self.billed
                    if start <= granted and released <= stop
                )
                assert within <= (stop - start) * self.share or not within


TestOneDevice = OneDevice.TestCase
TestOneDevice.settings = settings(max_examples=60, stateful_step_count=40)


def test_holders_share_the_time_they_hold_it_together() -> None:
    """One second alone, then two with another: 1 s + 2 s / 2, and 2 s / 2."""
    clock = Clock()
    device = Device(clock.clocks(), holders=2)
    with device.lease(ANN) as first:
        clock.now += 1_000 * MS
        with device.lease(BOB) as second:
            clock.now += 2_000 * MS
    assert [first.wall_ns, second.wall_ns] == [3_000 * MS, 2_000 * MS]
    assert [first.earned_ns, second.earned_ns] == [2_000 * MS, 1_000 * MS]


def test_three_holders_earn_thirds_and_lose_none() -> None:
    """What holders earn adds up to the time that any held it, to the nanosecond."""
    sharing = Sharing()
    since = [sharing.grant(0) for _ in range(3)]
    earned = [
        sharing.release(at, began)
        for at, began in zip((10, 11, 12), since, strict=True)
    ]
    assert sum(earned) == 12
    assert earned[0] == Fraction(10, 3)


def test_a_seventh_of_a_device_is_billed_as_a_seventh() -> None:
    """Lease wall time x share, and one rounding, down."""
    clock = Clock()
    with Device(clock.clocks(), share=Fraction(1, 7)).lease(ANN) as meter:
        clock.now += 1_000 * MS
    assert meter.lease_ms == 1_000
    assert decimal_seconds(meter.device_ns) == "0.142"


@pytest.mark.parametrize(
    ("end_ms", "held_ms"), [(90, 0), (100, 0), (130, 30), (300, 200), (10**6, 200)]
)
def test_a_cancelled_lease_counts_up_to_the_cancel(end_ms: int, held_ms: int) -> None:
    """Before the grant nothing, after the release all, and else in proportion."""
    meter = Meter(
        wall_ns=200 * MS,
        earned_ns=Fraction(100 * MS),
        cpu_ns=50 * MS,
        granted_ms=100,
    )
    part = meter.up_to(end_ms)
    assert part.wall_ns == held_ms * MS
    assert part.earned_ns == held_ms * MS // 2
    assert part.cpu_ns == held_ms * MS // 4


def test_a_lease_of_no_time_at_all_has_no_part() -> None:
    """Nothing is divided by nothing."""
    assert Meter().up_to(10**6) == Meter()


def test_a_lease_says_when_it_was_granted_and_what_its_thread_took() -> None:
    """The wall's clock dates it, and the thread's own clock counts."""
    clock = Clock()
    clock.now = 5_000 * MS
    with Device(clock.clocks()).lease(ANN) as meter:
        clock.now += 7 * MS
    assert meter.granted_ms == 5_000
    assert meter.cpu_ns == 7 * MS


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([ANN, BOB]), st.floats(0, 0.004)), max_size=8)
)
def test_whatever_the_interleaving_one_holds_it_at_a_time(
    jobs: list[tuple[Tenant, float]],
) -> None:
    """Real threads: never two inside, and the leases add up to no more than time."""
    device, inside, meters = Device(), [], []

    def work(tenant: Tenant, seconds: float) -> None:
        with device.lease(tenant) as meter:
            inside.append(1)
            assert len(inside) == 1
            time.sleep(seconds)
            inside.pop()
        meters.append(meter)

    began = time.monotonic_ns()
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(meters) == len(jobs)
    assert sum(meter.wall_ns for meter in meters) <= time.monotonic_ns() - began


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 0.004), max_size=8))
def test_threads_that_share_a_device_earn_no_more_than_the_wall(
    jobs: list[float],
) -> None:
    """Real threads and real clocks, three at a time."""
    device, meters = Device(holders=3), []

    def work(seconds: float) -> None:
        with device.lease(ANN) as meter:
            time.sleep(seconds)
        meters.append(meter)

    began = time.monotonic_ns()
    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.monotonic_ns() - began
    assert sum((meter.earned_ns for meter in meters), Fraction(0)) <= wall


def test_a_greedy_tenant_does_not_keep_another_waiting() -> None:
    """Ten waiting jobs of one tenant count as one turn."""
    device, order, gate = Device(), [], threading.Event()

    def work(tenant: Tenant) -> None:
        with device.lease(tenant):
            order.append(tenant.id)

    def hold() -> None:
        with device.lease(ANN):
            gate.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    threads = []
    for tenant in [ANN] * 10 + [BOB]:
        threads.append(threading.Thread(target=work, args=(tenant,)))
        threads[-1].start()
        time.sleep(0.01)
    gate.set()
    for thread in [holder, *threads]:
        thread.join()
    assert "bob" in order[:2]


def test_a_fault_inside_gives_the_device_back() -> None:
    """The next one gets it, and the broken lease was measured."""
    device = Device()
    with pytest.raises(ZeroDivisionError), device.lease(ANN) as broken:
        1 / 0  # noqa: B018  # the fault
    assert broken.wall_ns > 0
    with device.lease(BOB):
        pass


def test_seconds_are_exact_milliseconds_cut_off() -> None:
    """1,999,999 ns is one millisecond."""
    assert decimal_seconds(1_999_999) == "0.001"
    assert decimal_seconds(61_234_999_999) == "61.234"
    assert Meter(wall_ns=61_234_999_999).lease_ms == 61_234


def until_waiting(memory: Memory, number: int) -> None:
    """Wait until so many threads wait for a slot."""
    deadline = time.monotonic() + 10
    while memory.waiting < number:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def second_turn(clock: Clock, memory: Memory, device: Device, spent: str) -> str:
    """Return who is next after Ann, who `spent` 100 ms and asked again before Bob."""
    order: list[str] = []

    def ask(tenant: Tenant) -> None:
        with memory.lease(tenant):
            order.append(tenant.id)

    threads = [threading.Thread(target=ask, args=(each,)) for each in (ANN, BOB)]
    with memory.lease(ANN) as slot:
        for number, thread in enumerate(threads, 1):
            thread.start()
            until_waiting(memory, number)
        if spent == "device":
            with device.lease(ANN, slot=slot):
                clock.now += 100 * MS
        elif spent == "nothing":
            slot.waited_ns += 100 * MS
            clock.now += 100 * MS
        else:
            clock.now += 100 * MS
    for thread in threads:
        thread.join(10)
    return order[0]


@pytest.mark.parametrize(
    ("spent", "who"), [("device", "bob"), ("slot", "bob"), ("nothing", "ann")]
)
def test_a_slot_is_charged_for_the_device_or_for_being_busy(
    spent: str, who: str
) -> None:
    """Pictures that never reach the device are not free; waiting for it is."""
    clock = Clock()
    memory = Memory(1, clock=clock)
    assert second_turn(clock, memory, Device(clock.clocks()), spent) == who


def test_a_slot_learns_of_the_device() -> None:
    """How long its holder waited for it, and how long it held it."""
    clock = Clock()
    device, memory = Device(clock.clocks()), Memory(4, clock=clock)
    with memory.lease(ANN) as slot:
        with device.lease(ANN, slot=slot):
            clock.now += 30 * MS
        clock.now += 500 * MS
    assert (slot.waited_ns, slot.device_ns) == (0, 30 * MS)


def test_each_turn_is_told_with_its_tenant_its_class_and_its_wait() -> None:
    """For the metrics: how long jobs of each priority wait."""
    clock, heard = Clock(), []
    memory = Memory(1, clock=clock, heard=lambda *told: heard.append(told))
    with memory.lease(ANN, Standing(priority=2)):
        pass
    assert heard == [(ANN, 2, 0.0)]
