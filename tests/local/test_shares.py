"""Whose delivery is next: no tenant fills what all of them share."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from functions.local.shares import AT_ONCE_MAX, SERVICE_AT_ONCE_MAX, Shares, fits
from tests.local.subscriber import trigger

if TYPE_CHECKING:
    from functions.local.manifests import Trigger


@functools.cache
def of(tenant: str, name: str = "all") -> Trigger:
    return replace(trigger(name), namespace=f"guise-{tenant}")


def fill(shares: Shares, *triggers: Trigger) -> int:
    """Begin deliveries of `triggers` in turn while there is a place."""
    begun = 0
    while free := [each for each in triggers if shares.admits(each)]:
        shares.begin(min(free, key=shares.turn), begun)
        begun += 1
    return begun


def test_one_alone_takes_two_thirds() -> None:
    """As many as a Trigger may have at a time, and there are places left."""
    shares = Shares()
    assert fill(shares, of("greedy")) == AT_ONCE_MAX
    assert shares.total == AT_ONCE_MAX < SERVICE_AT_ONCE_MAX
    assert shares.admits(of("modest"))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_place_is_left_for_who_has_none(count: int) -> None:
    """Each of the greedy takes less, the more there are of them."""
    shares = Shares()
    fill(shares, *(of(f"greedy-{number}") for number in range(count)))
    assert shares.admits(of("modest"))


def test_where_many_came_at_once_the_next_place_is_for_who_has_none() -> None:
    """There is none left, and the first that becomes free is not another's again."""
    shares = Shares()
    crowd = [of(f"greedy-{number}") for number in range(2 * SERVICE_AT_ONCE_MAX)]
    fill(shares, *crowd)
    assert not shares.admits(of("modest"))
    shares.end(crowd[0], *shares.under_way(crowd[0].key))
    [*_, last] = sorted([*crowd, of("modest")], key=shares.turn)
    assert last != of("modest")
    assert shares.turn(of("modest")) < shares.turn(crowd[0])
    assert shares.admits(of("modest"))


def test_equals_get_equal_places() -> None:
    """Two who wait for the same share what there is."""
    shares = Shares()
    both = of("a"), of("b")
    fill(shares, *both)
    counts = {len(shares.under_way(each.key)) for each in both}
    assert max(counts) - min(counts) <= 1


def test_the_tenant_with_the_fewest_under_way_comes_first() -> None:
    """However many Triggers the other has; among equals, whose turn is longest ago."""
    shares = Shares()
    greedy = [of("greedy", name) for name in ("one", "two")]
    for each in greedy:
        shares.begin(each, 1)
    assert min([*greedy, of("modest")], key=shares.turn) == of("modest")
    shares.begin(of("modest"), 1)
    shares.begin(of("modest"), 2)
    shares.end(greedy[0], 1)
    shares.begin(greedy[0], 2)
    assert shares.turn(of("modest")) < shares.turn(greedy[1])


def test_what_has_ended_takes_no_place() -> None:
    """Nothing is left of it, and nothing is remembered of its Trigger."""
    shares = Shares()
    begun = fill(shares, of("a"))
    for number in range(begun):
        shares.end(of("a"), number)
    assert shares.total == 0
    assert shares.under_way(of("a").key) == frozenset()
    assert fill(shares, of("a")) == begun


def test_services_have_places_of_their_own() -> None:
    """A worker that is full keeps no event from audit."""
    shares = Shares()
    fill(shares, *(of(f"greedy-{number}") for number in range(SERVICE_AT_ONCE_MAX)))
    ref = replace(of("a").subscriber, name="audit")
    assert not shares.admits(of("a"))
    assert shares.admits(replace(of("a"), subscriber=ref))


def test_the_last_place_is_for_who_has_none() -> None:
    """The threshold is twice what is left."""
    assert fits(0, 11, 12)
    assert fits(1, 11, 12)
    assert not fits(2, 11, 12)
    assert not fits(0, 12, 12)
