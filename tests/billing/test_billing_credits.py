"""Credits: which is used up first, how far, when it is over; and its entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.billing.credits import (
    Available,
    Credit,
    expired,
    granted,
    in_order,
    left,
    spend,
)
from functions.billing.drafting import draft
from functions.billing.notes import applied
from functions.billing.rates import UNTAXED, Tax
from tests.billing.bills import bill, cards, issued
from tests.billing.prices import NOVEMBER

if TYPE_CHECKING:
    from functions.billing.invoice import Invoice

VAT, OLD_VAT = Tax("VAT", "0.19"), Tax("VAT", "0.16")


def credit(name: str = "c", minor: int = 100, **changes: Any) -> Credit:
    plain: dict[str, Any] = {"tenant": "acme", "currency": "EUR", "from_ms": 0}
    return Credit(id=name, amount_minor=minor, **(plain | changes))


def available(name: str = "c", minor: int = 100, **changes: Any) -> Available:
    return Available(credit(name, minor, **changes), minor)


def test_credits_are_used_up_in_one_order() -> None:
    """Priority, then the earliest expiry (never is last), then the oldest, then id."""
    first_to_last = [
        available("z", priority=1),
        available("y", until_ms=5_000),
        available("x", until_ms=9_000),
        available("w", from_ms=-5),
        available("a"),
        available("b"),
        available("c", priority=500, until_ms=1),
    ]
    assert in_order(first_to_last[::-1]) == first_to_last


def test_a_credit_pays_no_more_than_is_owed() -> None:
    """What is left of it stays for the next invoice."""
    (spent,) = spend([available(minor=500)], {UNTAXED: 302})
    assert spent.amount_minor == 302
    assert spend([available()], {UNTAXED: 0}) == []
    assert spend([available()], {UNTAXED: -5}) == []
    assert spend([], {UNTAXED: 5}) == []


def test_a_credit_lowers_what_each_tax_taxes() -> None:
    """The period's own tax first; a negative part lowers what there is to pay."""
    spent = spend([available(minor=250)], {VAT: 200, OLD_VAT: 100})
    assert [(s.tax, s.amount_minor) for s in spent] == [(VAT, 200), (OLD_VAT, 50)]
    spent = spend([available(minor=250)], {VAT: 200, OLD_VAT: -150})
    assert [(s.tax, s.amount_minor) for s in spent] == [(VAT, 50)]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 500)), max_size=6),
    st.dictionaries(
        st.sampled_from([VAT, OLD_VAT, UNTAXED]), st.integers(-300, 900), max_size=3
    ),
)
def test_credits_never_make_anybody_owe_less_than_nothing(
    found: list[tuple[int, int]], owed: dict[Tax, int]
) -> None:
    """Not in all, nor under one tax; and no credit gives more than it has."""
    credits_ = [
        available(f"c{n}", minor, priority=priority)
        for n, (priority, minor) in enumerate(found)
    ]
    spent = spend(credits_, owed)
    given_ = sum(each.amount_minor for each in spent)
    assert given_ <= max(0, sum(owed.values()))
    for tax, minor in owed.items():
        part = sum(each.amount_minor for each in spent if each.tax == tax)
        assert 0 <= part <= max(0, minor)
    for each in credits_:
        part = sum(s.amount_minor for s in spent if s.credit == each.credit)
        assert part <= each.left_minor
    held, due = sum(minor for _, minor in found), sum(owed.values())
    if all(minor >= 0 for minor in owed.values()):
        assert given_ == min(held, due)


@pytest.mark.parametrize(
    ("from_ms", "until_ms", "holds"),
    [
        (NOVEMBER.start_ms - 5, None, True),
        (NOVEMBER.stop_ms - 1, None, True),
        (NOVEMBER.stop_ms, None, False),
        (0, NOVEMBER.start_ms, False),
        (0, NOVEMBER.start_ms + 1, True),
    ],
)
def test_a_credit_pays_for_a_period_in_which_it_holds(
    from_ms: int, until_ms: int | None, *, holds: bool
) -> None:
    """At some moment of it."""
    each = available(from_ms=from_ms, until_ms=until_ms)
    assert each.credit.holds(NOVEMBER.start_ms, NOVEMBER.stop_ms) is holds
    invoice = draft(bill(credits=(each,)), cards())
    assert bool(invoice.credits_minor) is holds


def test_a_credit_is_over_once_and_only_what_is_left_of_it() -> None:
    """Its entry takes off the rest; before that, and without a rest, there is none."""
    each = Available(credit(minor=500, until_ms=1000), 120)
    assert expired(each, 999) is None
    entry = expired(each, 1000)
    assert entry is not None
    assert (entry.kind, entry.amount_minor) == ("expired", -120)
    assert expired(Available(each.credit, 0), 1000) is None
    assert expired(available(), 10**15) is None


def test_a_credits_entries_say_what_is_left_of_it() -> None:
    """Granted, applied, expired: the sum of its entries, and never a stored number."""
    sent = issued()
    entries = {entry.credit: entry for entry in applied(sent)}
    assert {name: e.amount_minor for name, e in entries.items()} == {
        "pilot": -5000,
        "welcome": -1250,
    }
    for entry in entries.values():
        assert (entry.kind, entry.document) == ("applied", sent.number)
    pilot = credit("pilot", 5000)
    assert left([granted(pilot)]) == 5000
    assert left([granted(pilot), entries["pilot"]]) == 0
    assert left([]) == 0


def test_a_credit_is_a_line_that_names_it() -> None:
    """The reader sees which credit paid what."""
    lines = [line for line in issued().lines if line.kind == "credit"]
    assert [(each.refers, each.amount, each.note) for each in lines] == [
        ("pilot", "-50.00", "The pilot credit"),
        ("welcome", "-12.50", "The welcome credit"),
    ]


@pytest.mark.parametrize("changes", [{"tenant": "other"}, {"currency": "USD"}])
def test_attack_another_tenants_credit(changes: dict[str, Any]) -> None:
    """Nobody's bill is paid with somebody else's credit, nor in another currency."""
    with pytest.raises(ValueError, match=r"credit c is of .*, the bill of acme in EUR"):
        draft(bill(credits=(available(**changes),)), cards())


def test_a_credit_that_never_holds_is_refused() -> None:
    """It expires after it is granted."""
    with pytest.raises(ValueError, match="expires after"):
        credit(from_ms=10, until_ms=10)


def test_the_order_in_which_credits_are_found_changes_nothing() -> None:
    """It is they who say which is first."""
    found = bill().credits
    documents: list[Invoice] = [
        draft(bill(credits=order), cards()) for order in (found, found[::-1])
    ]
    assert documents[0] == documents[1]
