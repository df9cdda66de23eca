"""The lease: one holder, turns among tenants, and a meter that never exceeds time."""

from __future__ import annotations

import threading
import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.swap.lease import Device, Meter, decimal_seconds
from functions.tenant import Tenant

ANN, BOB = Tenant("ann"), Tenant("bob")


class Clock:
    """Nanoseconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@given(st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)), max_size=30))
def test_what_is_billed_never_exceeds_the_wall(steps: list[tuple[int, int]]) -> None:
    """Over any sequence of waits and leases, the sum of seconds is at most the wall."""
    clock = Clock()
    device = Device(clock)
    billed = Decimal(0)
    for idle, work in steps:
        clock.now += idle
        with device.lease(ANN) as meter:
            clock.now += work
        billed += Decimal(decimal_seconds(meter.wall_ns))
    assert billed <= Decimal(clock.now) / 10**9


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
