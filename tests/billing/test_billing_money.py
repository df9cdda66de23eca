"""Money: exact until one rounding a line, and never a float."""

from __future__ import annotations

import ast
import re
from decimal import ROUND_HALF_UP, Decimal, Inexact, localcontext
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import functions.billing
from functions.billing import money
from functions.billing.money import (
    EXACT,
    coins,
    gib_months,
    minor_digits,
    minor_of,
    plain,
    round_half_up,
    seconds,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(functions.billing.__file__).parent

prices = st.decimals(min_value=0, max_value=10**7, places=12)
amounts = st.decimals(min_value=-(10**13), max_value=10**13, places=15)

# Time to wait may be a float: a declaration that names it so is no money.
TIME = re.compile(r"(?i)seconds|clock|looked")
FLOATING = {"float", "complex", "round", "math", "statistics"}


def exactly(amount: Decimal) -> Fraction:
    return Fraction(amount)


@given(st.integers(0, 10**18), prices)
def test_any_price_of_any_quantity_is_exact(milliseconds: int, price: Decimal) -> None:
    """The context has room for 21 digits of quantity and 20 of price."""
    product = EXACT.multiply(seconds(milliseconds), price)
    assert exactly(product) == Fraction(milliseconds, 1000) * exactly(price)


def test_a_digit_that_would_be_lost_is_an_error() -> None:
    """Nothing rounds on its way."""
    with pytest.raises(Inexact):
        EXACT.add(Decimal(10) ** 50, Decimal(10) ** -50)


@given(st.lists(amounts, max_size=30))
def test_a_sum_does_not_depend_on_the_order(found: list[Decimal]) -> None:
    """Addition is exact, so it is associative."""
    assert total(found) == total(sorted(found))
    assert exactly(total(found)) == sum(map(exactly, found))


@given(st.decimals(min_value=0, max_value=10**11, places=15), st.integers(0, 4))
def test_a_line_is_rounded_half_up(amount: Decimal, digits: int) -> None:
    """Never further from the exact amount than half a coin; half a coin goes up."""
    whole = round_half_up(amount, digits)
    distance = whole - exactly(amount) * 10**digits
    assert Fraction(-1, 2) < distance <= Fraction(1, 2)


@given(st.decimals(min_value=0, max_value=10**11, places=15), st.integers(0, 4))
def test_what_is_taken_back_is_rounded_as_what_was_billed(
    amount: Decimal, digits: int
) -> None:
    """An amount and its reversal cancel to the coin."""
    assert round_half_up(-amount, digits) == -round_half_up(amount, digits)


def test_half_a_coin_goes_up_whatever_the_callers_context() -> None:
    """Python's default would round 0.005 to even; a caller's context is ignored."""
    with localcontext() as context:
        context.prec = 3
        context.rounding = "ROUND_DOWN"
        assert round_half_up(Decimal("123456.785"), 2) == 12_345_679
        assert round_half_up(Decimal("0.005"), 2) == 1
        assert round_half_up(Decimal("0.004999999999999"), 2) == 0


def test_an_amount_that_json_cannot_hold_is_an_error() -> None:
    """Coins are whole numbers that every reader of JSON reads alike."""
    assert round_half_up(Decimal(2**53 - 1), 0) == 2**53 - 1
    for amount in (2**53, -(2**53)):
        with pytest.raises(ValueError, match="more than an invoice can hold"):
            round_half_up(Decimal(amount), 0)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        *[("0", "0"), ("0.000", "0"), ("-0.00", "0"), ("1E+3", "1000")],
        *[("1.50", "1.5"), ("100", "100"), ("-2.50", "-2.5"), ("1E-12", f"0.{1:012}")],
    ],
)
def test_amounts_are_written_in_full(amount: str, text: str) -> None:
    """No exponents, no zeros at the end that say nothing, no minus at zero."""
    assert plain(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("currency", "digits", "text"),
    [("JPY", 0, "302"), ("USD", 2, "3.02"), ("KWD", 3, "0.302"), ("CLF", 4, "0.0302")],
)
def test_a_currency_has_its_own_coins(currency: str, digits: int, text: str) -> None:
    """ISO 4217: no decimals of a yen, two of a dollar, three of a dinar."""
    assert minor_digits(currency) == digits
    assert coins(302, digits) == text
    assert coins(-302, digits) == f"-{text}"
    assert minor_of(text, digits) == 302


def test_no_coin_is_finer_than_the_smallest() -> None:
    """A minimum of half a cent is a mistake, not a rounding."""
    with pytest.raises(ValueError, match="more than the currency's 2 decimals"):
        minor_of("0.005", 2)


@pytest.mark.parametrize("amount", ["-1", "1E+14", "NaN", "Infinity", "0.0000001"])
def test_what_numeric_20_6_does_not_hold_is_no_quantity(amount: str) -> None:
    """Fourteen digits before the point and six after it."""
    with pytest.raises(ValueError, match=r"quantity|six decimals"):
        money.quantity(Decimal(amount))
    assert money.quantity(Decimal("99999999999999.999999"))


@given(st.integers(0, 10**22))
def test_storage_is_never_billed_beyond_what_was_stored(byte_hours: int) -> None:
    """GiB-months of 730 hours, cut off at six decimals and never rounded up."""
    exact = Fraction(byte_hours, 2**30 * 730)
    assert 0 <= exact - exactly(gib_months(byte_hours)) < Fraction(1, 10**6)


def test_a_gib_for_a_month_is_a_gib_month() -> None:
    """A month is 730 hours, whichever it is."""
    assert gib_months(2**30 * 730) == 1
    assert gib_months(2**30 * 365) == Decimal("0.5")


def test_every_naive_rounding_bills_something_else() -> None:
    """Issue 7: 100,000 swaps of 136 ms at 0.000222 a GPU-second are 3.02 USD.

    One rounding of the exact sum 3.0192; beside it what rounding each swap would
    bill: its price to cents, its time up to 10 ms, 100 ms or 1 s, or a minimum of a
    second each.
    """
    price, swaps, each_ms = Decimal("0.000222"), 100_000, 136
    exact = EXACT.multiply(seconds(each_ms * swaps), price)
    assert (exact, round_half_up(exact, 2)) == (Decimal("3.0192"), 302)

    def up_to(step_ms: int) -> int:
        rounded_ms = -(-each_ms // step_ms) * step_ms * swaps
        return round_half_up(EXACT.multiply(seconds(rounded_ms), price), 2)

    to_cents = round_half_up(EXACT.multiply(seconds(each_ms), price), 2) * swaps
    naive = {step_ms: coins(up_to(step_ms), 2) for step_ms in (10, 100, 1000)}
    assert coins(to_cents, 2) == "0.00"
    assert naive == {10: "3.11", 100: "4.44", 1000: "22.20"}


def test_python_itself_agrees_with_the_rounding() -> None:
    """The reader may check a line with nothing but a decimal library."""
    assert Decimal("3.0192").quantize(Decimal("0.01"), ROUND_HALF_UP) == Decimal("3.02")


def faults(path: Path) -> list[str]:
    """Return each place where a module could turn a number into a float."""
    tree = ast.parse(path.read_text())
    waits = {id(part) for node in ast.walk(tree) for part in _waits(node)}
    found = [
        (fault, node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.expr | ast.stmt) and id(node) not in waits
        for fault in _faults(node)
    ]
    return [f"{path.name}:{line} {fault}" for fault, line in found]


def _waits(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what declares a time to wait, or a clock: its type, and a constant."""
    match node:
        case ast.arg(arg=name, annotation=ast.expr() as type_) if TIME.search(name):
            yield from ast.walk(type_)
        case ast.AnnAssign(target=ast.Name(id=name)) if TIME.search(name):
            yield from ast.walk(node.annotation)
            if isinstance(node.value, ast.Constant):
                yield node.value


def _faults(node: ast.AST) -> list[str]:
    match node:
        case ast.Constant(value=float() | complex()):
            return [str(node.value)]
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            return [] if _joins_paths(node) else ["a true division"]
        case (
            ast.Name(id=name)
            | ast.Attribute(attr=name)
            | ast.Import(names=[ast.alias(name=name)])
            | ast.ImportFrom(module=str(name))
        ):
            return [name] if name in FLOATING else []
    return []


def _joins_paths(node: ast.BinOp | ast.AugAssign) -> bool:
    """Return whether `/` has text on its right: of a path, not of a quotient."""
    right = node.right if isinstance(node, ast.BinOp) else node.value
    return isinstance(right, ast.Constant) and isinstance(right.value, str)


def test_money_never_touches_a_float_in_the_code() -> None:
    """No float, no true division, no `round` in any module of billing."""
    assert [fault for path in HOUSE.rglob("*.py") for fault in faults(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        *["x = 0.1", "x = 1e3", "x = float(y)", "x = y / 3", "x /= y", "x = 1j"],
        *[
            "x = round(y, 2)",
            "x = mean(statistics)",
            "import math",
            "from math import pi",
        ],
        "def f(x: float) -> None: ...",
        "price_seconds = 0.5",
        "SECONDS: int = 1 + 0.5",
    ],
)
def test_the_walk_finds_each_way_to_a_float(tmp_path: Path, line: str) -> None:
    """The test above can fail."""
    module = tmp_path / "m.py"
    module.write_text(line)
    assert len(faults(module)) == 1


def test_the_walk_leaves_waits_alone(tmp_path: Path) -> None:
    """A timeout is a float in Python's own interfaces, and no money."""
    module = tmp_path / "m.py"
    module.write_text("MAX_SECONDS: float = 0.5\ndef f(clock: C[[], float]): ...")
    assert faults(module) == []


def tables() -> list[sa.Table]:
    """Return every table of every module of billing."""
    found: dict[str, sa.Table] = {}
    for each in iter_modules(functions.billing.__path__):
        if not each.ispkg:
            module = import_module(f"functions.billing.{each.name}")
            for value in vars(module).values():
                if isinstance(value, sa.MetaData):
                    found |= value.tables
    return list(found.values())


def test_money_never_touches_a_float_in_the_schema() -> None:
    """No FLOAT or REAL column; SQLite keeps NUMERIC as a float, so none of it either.

    Quantities are whole numbers there, of milliseconds, bytes and pieces.
    """
    columns = [column for table in tables() for column in table.columns]
    assert columns
    for column in columns:
        assert not isinstance(column.type, sa.Numeric), f"{column.table}.{column.name}"
        assert "FLOAT" not in str(column.type).upper()
