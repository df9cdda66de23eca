"""Money: exact until one rounding a line, whatever the order and the grouping."""

from __future__ import annotations

import ast
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import functions.billing
from functions.billing import rates
from functions.billing.invoice import Period, draft, round_half_up
from functions.billing.ledger import metadata
from functions.billing.rates import EXACT, Charge, RateCards, charges, plain, total
from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.billing.rates import Sku

CARDS = RateCards.load()
CARD = CARDS.cards[0]
SKUS: tuple[Sku, ...] = ("gpu.exec", "gpu.load", "cpu.exec", "request")

quantities = st.dictionaries(
    st.sampled_from(SKUS),
    st.integers(0, 10**18).map(lambda ms: Decimal(ms).scaleb(-3, context=EXACT)),
)
prices = st.decimals(min_value=0, max_value=10**7, places=12)
amounts = st.decimals(min_value=0, max_value=10**24, places=15)


def exactly(amount: Decimal) -> Fraction:
    return Fraction(amount)


def invoice_of(found: Sequence[Charge]) -> bytes:
    return msgspec.json.encode(
        draft(
            "acme", Period(2026, 11), found, currency="USD", minor_digits=2, events=1
        ),
    )


def test_a_hundred_thousand_swaps_are_worth_what_they_are_worth() -> None:
    """Issue 7: 100,000 swaps of 136 ms at 0.000222 USD bill 3.02, rounded once."""
    each = EXACT.multiply(Decimal("0.136"), Decimal("0.000222"))
    exact = EXACT.multiply(each, Decimal(100_000))
    (charge,) = charges(CARD, {"gpu.exec": Decimal("13600.000")})
    assert charge.amount == exact == Decimal("3.0192")
    assert round_half_up(charge.amount, 2) == 302
    # What the naive ways would bill: each swap in cents, each swap to the second.
    assert round_half_up(each, 2) * 100_000 == 0
    assert round_half_up(Decimal("0.000222") * 100_000, 2) == 2220


@given(quantities)
def test_a_charge_is_exactly_quantity_times_price(found: dict[Sku, Decimal]) -> None:
    """No digit is lost, whatever the quantity."""
    for charge in charges(CARD, found):
        expected = exactly(charge.quantity) * exactly(charge.unit_price)
        assert exactly(charge.amount) == expected
        assert Decimal(plain(charge.amount)) == charge.amount


@given(st.integers(0, 10**18), prices)
def test_any_price_of_any_quantity_is_exact(milliseconds: int, price: Decimal) -> None:
    """The context has room for 21 digits of quantity and 20 of price."""
    quantity = Decimal(milliseconds).scaleb(-3, context=EXACT)
    product = EXACT.multiply(quantity, price)
    assert exactly(product) == exactly(quantity) * exactly(price)


@given(st.lists(amounts, max_size=30), st.randoms())
def test_a_sum_does_not_depend_on_the_order(found: list[Decimal], dice: object) -> None:
    """Addition is exact, so it is associative."""
    shuffled = sorted(found)
    assert total(found) == total(shuffled)
    assert exactly(total(found)) == sum(map(exactly, found))


@given(st.decimals(min_value=0, max_value=10**20, places=15), st.integers(0, 4))
def test_a_line_is_rounded_half_up(amount: Decimal, digits: int) -> None:
    """Never further from the exact amount than half a coin; half a coin goes up."""
    coins = round_half_up(amount, digits)
    distance = coins - exactly(amount) * 10**digits
    assert Fraction(-1, 2) < distance <= Fraction(1, 2)


def test_half_a_coin_goes_up_whatever_the_callers_context() -> None:
    """Python's default would round 0.005 to even; a caller's context is ignored."""
    with localcontext() as context:
        context.prec = 3
        context.rounding = "ROUND_DOWN"
        assert round_half_up(Decimal("123456.785"), 2) == 12_345_679
        assert round_half_up(Decimal("0.005"), 2) == 1
        assert round_half_up(Decimal("0.004999999999999"), 2) == 0


@given(quantities, st.randoms(use_true_random=False))
def test_an_invoice_does_not_depend_on_the_order_of_its_charges(
    found: dict[Sku, Decimal],
    dice: object,
) -> None:
    """The same usage gives the same bytes."""
    lines = charges(CARD, found)
    assert invoice_of(lines) == invoice_of(lines[::-1])


@given(quantities)
def test_an_invoice_is_the_sum_of_its_lines(found: dict[Sku, Decimal]) -> None:
    """The payable is what the reader can add up."""
    document = msgspec.json.decode(invoice_of(charges(CARD, found)))
    lines = document["lines"]
    assert document["total_minor"] == sum(line["amount_minor"] for line in lines)
    assert Decimal(document["total"]) * 100 == document["total_minor"]
    for line in lines:
        with localcontext(EXACT):
            exact = Decimal(line["quantity"]) * Decimal(line["unit_price"])
        with localcontext() as context:
            context.prec = 60
            shown = exact.quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert Decimal(line["amount"]) == shown


def test_an_invoice_is_this_text() -> None:
    """Golden: every version keeps the bytes of what it has drafted."""
    found = charges(
        CARD,
        {
            "gpu.exec": Decimal("13600.000"),
            "cpu.exec": Decimal("41200.000"),
            "gpu.load": Decimal("9.5"),
            "request": Decimal(100_000),
        },
    )
    golden = Path(__file__).with_name("golden") / "invoice-v1.json"
    assert invoice_of(found) == golden.read_bytes().rstrip(b"\n")


def test_nothing_costs_nothing() -> None:
    """A line that would say zero of something is not there."""
    assert charges(CARD, dict.fromkeys(SKUS, Decimal(0))) == []
    document = msgspec.json.decode(invoice_of([]))
    assert (document["lines"], document["total"]) == ([], "0.00")


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("0.000", "0"), ("1E+3", "1000"), ("1.50", "1.5"), ("100", "100")],
)
def test_amounts_are_written_in_full(amount: str, text: str) -> None:
    """No exponents, and no zeros at the end that say nothing."""
    assert plain(Decimal(amount)) == text


def test_money_never_touches_a_float() -> None:
    """No float in the code of billing, and no float or NUMERIC column in its schema.

    SQLite keeps NUMERIC as a float, so quantities are whole numbers there.
    """
    for path in Path(functions.billing.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, float):
                assert node.value == 15.0, f"{path.name}:{node.lineno}"  # a timeout
            assert not (isinstance(node, ast.Name) and node.id == "float")
    for table in metadata.tables.values():
        assert not any(isinstance(c.type, sa.Numeric) for c in table.columns)


def test_the_first_card_covers_what_came_before_it() -> None:
    """No usage is without a price."""
    assert [part for _, *part in CARDS.between(0, 10)] == [[0, 10]]


def two_cards(tmp_path: Path, **second: str) -> Path:
    """Write a file with two cards, the second changed."""
    card = {
        "version": '"b"',
        "from": "2026-11-15T00:00:00Z",
        "currency": '"USD"',
        "minor_digits": "2",
        "price": '"0.001"',
        **second,
    }
    path = tmp_path / "rates.toml"
    price = card.pop("price")
    lines = [f"{name} = {value}" for name, value in card.items()]
    text = rates.FILE.read_text() + "\n[[card]]\n" + "\n".join(lines)
    text += f'\n[card.prices]\n"request" = {{ unit = "request", price = {price} }}\n'
    path.write_text(text)
    return path


def test_a_new_price_holds_from_its_moment_on(tmp_path: Path) -> None:
    """A month with two cards is two spans that leave nothing out."""
    cards = RateCards.load(two_cards(tmp_path))
    month, change = Period(2026, 11), cards.cards[1].from_ms
    spans = [
        (card.version, start, stop)
        for card, start, stop in cards.between(month.start_ms, month.stop_ms)
    ]
    assert spans == [
        ("2025-01", month.start_ms, change),
        ("b", change, month.stop_ms),
    ]
    assert [c.version for c, *_ in cards.between(change, change + 1)] == ["b"]
    assert [c.version for c, *_ in cards.between(0, change)] == ["2025-01"]


@pytest.mark.parametrize(
    "second",
    [
        {"from": "2024-01-01T00:00:00Z"},
        {"from": "2026-01-01T00:00:00"},
        {"version": '"2025-01"'},
        {"version": '"B b"'},
        {"currency": '"EUR"'},
        {"currency": '"usd"'},
        {"minor_digits": "3"},
        {"price": "0.001"},
        {"price": '"-1"'},
        {"price": '"1e-3"'},
        {"price": '"0.0000000000001"'},
        {"surprise": "1"},
    ],
)
def test_a_rate_card_that_leaves_a_question_is_refused(
    tmp_path: Path,
    second: dict[str, str],
) -> None:
    """Out of order, twice the same, another currency, a float, a minus."""
    with pytest.raises(ValueError, match="rate cards"):
        RateCards.load(two_cards(tmp_path, **second))


def test_no_rate_card_is_refused() -> None:
    """There is always a price."""
    with pytest.raises(ValueError, match="at least one"):
        RateCards(())


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "0999-01", "9999-01", "x"],
)
def test_what_is_no_month_is_no_period(text: str) -> None:
    """A period is YYYY-MM."""
    with pytest.raises(InvalidRequest):
        Period.parse(text)


@given(st.integers(1000, 9997), st.integers(1, 12))
def test_periods_follow_one_another(year: int, month: int) -> None:
    """Each month ends where the next begins, and none is lost between years."""
    period = Period(year, month)
    following = Period(year + month // 12, month % 12 + 1)
    assert period.stop_ms == following.start_ms
    assert period.start_ms < period.stop_ms
    assert Period.parse(str(period)) == period
