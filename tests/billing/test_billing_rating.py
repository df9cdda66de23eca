"""Rating: tiers, included quantities, contracts, reserved devices; always exact."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.billing.rates import RateCards, Unpriced
from functions.billing.rating import (
    Charge,
    Meter,
    Metered,
    difference,
    rate,
    rate_parts,
)
from tests.billing.prices import (
    CONTRACT,
    HEAD,
    NOVEMBER,
    PRICES,
    cards_of,
    metered,
    one_rate,
    used,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

GRADUATED = (
    'unit = "request", graduated = ['
    '{ upto = "1000", price = "0.10" }, { upto = "5000", price = "0.05" },'
    '{ price = "0.01" }]'
)
VOLUME = GRADUATED.replace("graduated", "volume")


def amount(charges: Sequence[Charge]) -> Decimal:
    return sum((charge.amount for charge in charges), Decimal(0))


def shown(charges: Sequence[Charge]) -> list[tuple[str, str, str]]:
    """Return (price, quantity, tier's beginning) of each charge."""
    return [
        (str(c.item.unit_price), str(c.quantity), str(c.item.tier_from))
        for c in charges
    ]


def test_what_guise_ships_prices_every_sku() -> None:
    """A tenant may use anything on any device, and loading costs nothing."""
    cards = RateCards.load()
    everything = used(
        cpu_exec="1.5", gpu_exec=1, gpu_load=700, request=3, storage="0.25", gpu_idle=1
    )
    charges = rate(metered(cards, everything))
    assert len(charges) == 6
    assert {c.item.sku: c.amount for c in charges}["gpu.load"] == 0
    assert (cards.currency, cards.minor_digits) == ("USD", 2)


def test_a_gpu_model_has_its_own_price() -> None:
    """The card names models; what it does not name has the price it says for it."""
    cards = RateCards.load()
    for model, price in {
        "NVIDIA H100 80GB HBM3": "0.001097",
        "NVIDIA L4": "0.000222",
        "a card of tomorrow": "0.000222",
    }.items():
        (charge,) = rate(metered(cards, {Meter("gpu.exec", model): Decimal(1)}))
        assert (charge.item.model, charge.amount) == (model, Decimal(price))


def test_an_unknown_model_without_a_default_is_an_error_that_names_it(
    tmp_path: Path,
) -> None:
    """Nobody is billed a price that no card says."""
    models = 'unit = "second", models = { "L4" = { price = "0.1" } }'
    cards = one_rate(tmp_path, models, "gpu.exec")
    assert rate(metered(cards, {Meter("gpu.exec", "L4"): Decimal(1)}))
    with pytest.raises(Unpriced, match=r"card a: no price of gpu.exec on 'B300'"):
        rate(metered(cards, {Meter("gpu.exec", "B300"): Decimal(1)}))
    with pytest.raises(Unpriced, match=r"no price of storage$"):
        rate(metered(cards, used(storage=1)))


def test_nothing_costs_nothing() -> None:
    """A charge that would say zero of something is not there, priced or not."""
    assert rate(metered(RateCards.load(), used(request=0, gpu_idle=0))) == []


@pytest.mark.parametrize(
    ("quantity", "charges"),
    [
        (1, [("0.10", "1", "0")]),
        (1000, [("0.10", "1000", "0")]),
        (1001, [("0.10", "1000", "0"), ("0.05", "1", "1000")]),
        (
            9000,
            [("0.10", "1000", "0"), ("0.05", "4000", "1000"), ("0.01", "4000", "5000")],
        ),
    ],
)
def test_graduated_tiers_price_each_unit_where_it_falls(
    tmp_path: Path, quantity: int, charges: list[tuple[str, str, str]]
) -> None:
    """The end of a tier is in it."""
    cards = one_rate(tmp_path, GRADUATED)
    assert shown(rate(metered(cards, used(request=quantity)))) == charges


@pytest.mark.parametrize(
    ("quantity", "price"),
    [(1000, "0.10"), (1001, "0.05"), (5000, "0.05"), (5001, "0.01")],
)
def test_volume_tiers_price_all_units_alike(
    tmp_path: Path, quantity: int, price: str
) -> None:
    """The tier that the whole period's quantity falls in."""
    cards = one_rate(tmp_path, VOLUME)
    assert shown(rate(metered(cards, used(request=quantity)))) == [
        (price, str(quantity), "0")
    ]


def test_included_units_come_first_and_count_towards_the_tiers(tmp_path: Path) -> None:
    """1,500 of 6,000 are free: the first tier and a part of the second."""
    cards = one_rate(tmp_path, GRADUATED + ', included = "1500"')
    charges = rate(metered(cards, used(request=6000)))
    assert shown(charges) == [
        ("0", "1500", "0"),
        ("0.05", "3500", "1500"),
        ("0.01", "1000", "5000"),
    ]
    assert [c.item.included for c in charges] == [True, False, False]


def test_included_units_of_a_volume_are_free_and_choose_the_tier(
    tmp_path: Path,
) -> None:
    """6,000 in all are in the third tier, 1,500 of them cost nothing."""
    cards = one_rate(tmp_path, VOLUME + ', included = "1500"')
    charges = rate(metered(cards, used(request=6000)))
    assert shown(charges) == [("0", "1500", "0"), ("0.01", "4500", "1500")]


def brute(quantity: int, included: int, ends: list[int], prices: list[int]) -> int:
    """Return the graduated price, unit by unit."""
    cost = 0
    for unit in range(1, quantity + 1):
        tier = sum(unit > end for end in ends)
        cost += 0 if unit <= included else prices[tier]
    return cost


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 80),
    st.integers(0, 40),
    st.lists(st.integers(1, 60), max_size=3, unique=True).map(sorted),
    st.lists(st.integers(0, 9), min_size=4, max_size=4),
    st.lists(st.integers(0, 80), max_size=3).map(sorted),
)
def test_tiers_count_over_the_whole_period(  # drawn by hypothesis
    tmp_path: Path,
    quantity: int,
    included: int,
    ends: list[int],
    prices: list[int],
    cuts: list[int],
) -> None:
    """However the period is cut into parts, its parts add up to the whole's price."""
    tiers = [
        f'{{ upto = "{e}", price = "{p}" }}' for e, p in zip(ends, prices, strict=False)
    ]
    tiers.append(f'{{ price = "{prices[len(ends)]}" }}')
    text = (
        f'unit = "request", included = "{included}", graduated = [{", ".join(tiers)}]'
    )
    cards = one_rate(tmp_path, text)
    bounds = [0, *(min(cut, quantity) for cut in cuts), quantity]
    parts = [
        metered(cards, used(request=stop - start))[0]
        for start, stop in pairwise(bounds)
    ]
    whole = rate(metered(cards, used(request=quantity)))
    assert amount(whole) == brute(quantity, included, ends, prices)
    assert rate(parts) == whole
    assert sum(amount(part) for part in rate_parts(parts)) == amount(whole)
    assert [amount(rate(reversed(parts)))] == [amount(whole)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["cpu_exec", "gpu_exec", "request", "storage"]),
            st.integers(0, 10**19),
        ),
        unique_by=lambda each: each[0],
    )
)
def test_a_charge_is_exactly_quantity_times_price(
    found: list[tuple[str, int]],
) -> None:
    """No digit is lost, whatever the quantity."""
    quantities = {
        meter: Decimal(millionths).scaleb(-6)
        for name, millionths in found
        for meter in used(**{name: 0})
    }
    for charge in rate(metered(RateCards.load(), quantities)):
        expected = Fraction(charge.quantity) * Fraction(charge.item.unit_price)
        assert Fraction(charge.amount) == expected


def test_a_contract_stands_over_the_list_for_its_tenant_and_time(
    tmp_path: Path,
) -> None:
    """Before it, after it and for others there is the list."""
    cards = cards_of(tmp_path, HEAD + PRICES + CONTRACT)
    spans = [
        (terms.contract.version if terms.contract else "", stop - start)
        for terms, start, stop in cards.spans(
            "acme", NOVEMBER.start_ms, NOVEMBER.stop_ms
        )
    ]
    day_ms = 86_400_000
    assert spans == [("", 9 * day_ms), ("acme-1", 10 * day_ms), ("", 11 * day_ms)]
    others = cards.spans("other", NOVEMBER.start_ms, NOVEMBER.stop_ms)
    assert [terms.contract for terms, *_ in others] == [None]
    terms = cards.terms("acme", NOVEMBER.start_ms + 9 * day_ms)
    assert terms.minimum == ("5.00", "acme-1")
    assert terms.tax.name == "VAT"
    agreed, listed = terms.agreed("request", ""), terms.agreed("storage", "")
    assert (agreed.rate.price, agreed.listed.price) == ("0.0001", "0.0004")
    assert (agreed.version, listed.version) == ("acme-1", "a")


def test_a_charge_under_a_contract_says_the_list_price_too(tmp_path: Path) -> None:
    """Finance compares them; the version is the contract's."""
    cards = cards_of(tmp_path, HEAD + PRICES + CONTRACT)
    span = list(cards.spans("acme", NOVEMBER.start_ms, NOVEMBER.stop_ms))[1]
    charges = rate([Metered(*span, used(request=10))])
    (charge,) = [each for each in charges if each.item.sku == "request"]
    assert (charge.item.unit_price, charge.item.list_price) == (
        Decimal("0.0001"),
        Decimal("0.0004"),
    )
    assert charge.item.rate_card == "acme-1"


def test_a_reserved_device_is_idle_when_it_does_not_work(tmp_path: Path) -> None:
    """Two devices for ten days, less what they did; else nobody pays for idling."""
    cards = cards_of(tmp_path, HEAD + PRICES + CONTRACT)
    day_ms = 86_400_000
    seen = []
    for terms, start, stop in cards.spans("acme", NOVEMBER.start_ms, NOVEMBER.stop_ms):
        work = {Meter("gpu.exec", "L4"): Decimal("86400.5")}
        seen.append(Metered(terms, start, stop, work).billed())
    assert seen[1][Meter("gpu.idle", "L4")] == Decimal("1641599.500")
    assert all(Meter("gpu.idle", "L4") not in each for each in (seen[0], seen[2]))
    terms = cards.terms("acme", NOVEMBER.start_ms + 9 * day_ms)
    busy = Metered(terms, 0, 1000, {Meter("gpu.exec", "L4"): Decimal(3)})
    assert Meter("gpu.idle", "L4") not in busy.billed()


def test_a_new_card_goes_on_where_the_old_one_stopped(tmp_path: Path) -> None:
    """The first unit under the new card is the one after the last under the old."""
    second = HEAD.replace('"a"', '"b"').replace("2025-01-01", "2026-11-15")
    text = f'{HEAD}[card.prices]\n"request" = {{ {GRADUATED} }}\n'
    text += (
        f'{second}[card.prices]\n"request" = {{ {GRADUATED.replace("0.0", "0.2")} }}'
    )
    cards = cards_of(tmp_path, text)
    spans = list(cards.spans("acme", NOVEMBER.start_ms, NOVEMBER.stop_ms))
    assert [terms.card.version for terms, *_ in spans] == ["a", "b"]
    charges = rate([Metered(*span, used(request=800)) for span in spans])
    assert [
        (c.item.rate_card, *s) for c, s in zip(charges, shown(charges), strict=True)
    ] == [
        ("a", "0.10", "800", "0"),
        ("b", "0.10", "200", "0"),
        ("b", "0.25", "600", "1000"),
    ]


def test_the_first_card_covers_what_came_before_it() -> None:
    """No usage is without a price."""
    assert [part for _, *part in RateCards.load().spans("acme", 0, 10)] == [[0, 10]]


@given(st.integers(0, 9000), st.integers(0, 9000), st.sampled_from([GRADUATED, VOLUME]))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_difference_makes_one_bill_of_the_other(
    tmp_path: Path, before: int, after: int, text: str
) -> None:
    """What late usage adds is exact, even where a tier makes all units cheaper."""
    cards = one_rate(tmp_path, text)
    first = rate(metered(cards, used(request=before)))
    then = rate(metered(cards, used(request=after)))
    added = difference(first, then)
    assert amount(first) + amount(added) == amount(then)
    assert difference(then, then) == []


def test_rating_does_not_look_at_the_order_of_what_it_is_given(tmp_path: Path) -> None:
    """A mapping's order is nobody's order."""
    cards = one_rate(tmp_path, GRADUATED)
    found: Any = {Meter("request"): Decimal(7000), Meter("cpu.exec"): Decimal(0)}
    turned = dict(reversed(found.items()))
    assert rate(metered(cards, found)) == rate(metered(cards, turned))
