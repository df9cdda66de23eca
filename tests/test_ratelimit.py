"""Token buckets: never more than they hold and gain, and none refused for nothing."""

from __future__ import annotations

from contextlib import suppress
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.problems import TooManyRequests
from functions.ratelimit import Rates
from functions.tenant import Tenant

ANN, BOB = Tenant("ann"), Tenant("bob")


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, tenant: Tenant, rate: float, burst: int) -> bool:
    with suppress(TooManyRequests):
        rates.take(tenant, rate, burst)
        return True
    return False


PAUSES = st.lists(st.floats(0, 5), max_size=30)


@given(PAUSES, st.floats(0.1, 100), st.integers(1, 20))
def test_no_window_has_more_than_the_burst_and_what_was_gained(
    pauses: list[float], rate: float, burst: int
) -> None:
    """Of any span of time, at most burst + rate x its length."""
    clock = Clock()
    rates = Rates(clock)
    let_in = []
    for pause in pauses:
        clock.now += pause
        if taken(rates, ANN, rate, burst):
            let_in.append(clock.now)
    for start, stop in combinations_with_replacement(let_in, 2):
        within = sum(start <= at <= stop for at in let_in)
        assert within <= burst + rate * (stop - start) + 1e-6


@given(PAUSES, st.floats(0.1, 100), st.integers(1, 20))
def test_who_keeps_to_the_rate_is_never_refused(
    pauses: list[float], rate: float, burst: int
) -> None:
    """However long the pauses beyond it are."""
    clock = Clock()
    rates = Rates(clock)
    for pause in pauses:
        clock.now += pause + 1.000001 / rate
        assert taken(rates, ANN, rate, burst)


def test_a_burst_is_let_in_and_what_comes_after_waits() -> None:
    """Three at once of three; the fourth is told the second at which it may come."""
    clock = Clock()
    rates = Rates(clock)
    assert [taken(rates, ANN, 0.4, 3) for _ in range(4)] == [True, True, True, False]
    with pytest.raises(TooManyRequests) as refused:
        rates.take(ANN, 0.4, 3)
    assert refused.value.retry_seconds == 3
    clock.now += 3
    assert taken(rates, ANN, 0.4, 3)


def test_the_wait_is_a_second_at_least() -> None:
    """Retry-After has whole seconds, and 0 would mean at once."""
    rates = Rates(Clock())
    assert taken(rates, ANN, 1_000, 1)
    with pytest.raises(TooManyRequests) as refused:
        rates.take(ANN, 1_000, 1)
    assert refused.value.retry_seconds == 1


def test_a_tenant_has_a_bucket_of_its_own() -> None:
    """What one spends another has."""
    rates = Rates(Clock())
    assert taken(rates, ANN, 1, 1)
    assert taken(rates, BOB, 1, 1)
    assert not taken(rates, ANN, 1, 1)


def test_a_refusal_costs_no_token() -> None:
    """Who asks again and again has its token when it is due."""
    clock = Clock()
    rates = Rates(clock)
    assert taken(rates, ANN, 1, 1)
    for _ in range(50):
        assert not taken(rates, ANN, 1, 1)
    clock.now += 1
    assert taken(rates, ANN, 1, 1)


def test_no_more_tenants_are_remembered_than_the_bound() -> None:
    """Those go whose buckets are full, and where there are none the fullest."""
    clock = Clock()
    rates = Rates(clock, tenants_max=3)
    for name in ("a", "b", "c"):
        assert taken(rates, Tenant(name), 1, 1)
        clock.now += 0.1
    assert taken(rates, Tenant("d"), 1, 1)
    assert len(rates) == 3
    assert not taken(rates, Tenant("c"), 1, 1)
    clock.now += 10
    assert taken(rates, Tenant("e"), 1, 1)
    assert len(rates) == 1
