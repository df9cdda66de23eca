"""What a month will come to if it goes on as it went.  Pure, and exact to the coin.

The method is pro rata: each quantity used so far, divided by the time that has
passed, goes on for the time that is left, at the terms that will hold then.  The
result is rated like any bill, so tiers, included quantities, minimums and taxes are
those of a whole month.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from functions.billing.money import EXACT, QUANTITY_DECIMALS
from functions.billing.rates import UNITS

if TYPE_CHECKING:
    from functions.billing.drafting import Bill
    from functions.billing.rating import Meter, Metered

ELAPSED_MS_MIN: Final = 24 * 3_600_000
"""Before a whole day has passed, a forecast would be a guess."""

_DECIMALS: Final = {"second": 3, "request": 0, "gib-month": QUANTITY_DECIMALS}
"""Milliseconds, whole requests, and what `gib_months` has."""


def forecast(bill: Bill, now_ms: int) -> Bill | None:
    """Return the bill of the whole month, as of a moment in it.

    None where less than a day of the month has passed, or none is left.
    """
    month = bill.period
    if not month.start_ms + ELAPSED_MS_MIN <= now_ms < month.stop_ms:
        return None
    used = _used(bill.metered)
    elapsed_ms = now_ms - month.start_ms
    going_on = [_going_on(each, used, elapsed_ms, now_ms) for each in bill.metered]
    return replace(bill, metered=tuple(going_on))


def _used(metered: tuple[Metered, ...]) -> dict[Meter, Decimal]:
    found: defaultdict[Meter, Decimal] = defaultdict(Decimal)
    for each in metered:
        for meter, quantity in each.quantities.items():
            found[meter] = EXACT.add(found[meter], quantity)
    return found


def _going_on(
    part: Metered, used: dict[Meter, Decimal], elapsed_ms: int, now_ms: int
) -> Metered:
    """Return a span of one set of terms with what is to come in the rest of it."""
    left_ms = max(0, part.stop_ms - max(part.start_ms, now_ms))
    share = Fraction(left_ms, elapsed_ms)
    come = {
        meter: _cut(Fraction(quantity) * share, _DECIMALS[UNITS[meter.sku]])
        for meter, quantity in used.items()
    }
    zero = Decimal(0)
    quantities = {
        meter: EXACT.add(part.quantities.get(meter, zero), come.get(meter, zero))
        for meter in {**part.quantities, **come}
    }
    return replace(part, quantities=quantities)


def _cut(quantity: Fraction, decimals: int) -> Decimal:
    """Return a quantity cut off at as many decimals as one of its unit has."""
    whole = int(quantity * 10**decimals)
    return Decimal(whole).scaleb(-decimals, context=EXACT)
