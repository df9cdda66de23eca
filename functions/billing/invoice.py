"""From usage to an invoice.  Pure: the same usage gives the same bytes.

Each line is rounded once, half up, to the currency's smallest coin; the total is
the sum of the lines.  Nothing else is ever rounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from functions.billing.rates import EXACT, plain
from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.billing.rates import Charge

_PERIOD: Final = re.compile(r"([1-9][0-9]{3})-(0[1-9]|1[0-2])")
_ROUNDING: Final = Context(prec=EXACT.prec, rounding=ROUND_HALF_UP)
_MONTHS: Final = 12
_YEAR_MAX: Final = 9998


@dataclass(frozen=True, slots=True)
class Period:
    """A calendar month in UTC, e.g. `2026-11`."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Period:
        """Return the period, or raise `InvalidRequest`."""
        match = _PERIOD.fullmatch(text)
        if match is None or int(match[1]) > _YEAR_MAX:
            raise InvalidRequest("a period is a month, such as 2026-11")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, moment: datetime) -> Period:
        """Return the period that `moment` lies in."""
        moment = moment.astimezone(UTC)
        return cls(moment.year, moment.month)

    def __str__(self) -> str:
        """Return it as `parse` takes it."""
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def start_ms(self) -> int:
        """Its first millisecond since the epoch."""
        first = datetime(self.year, self.month, 1, tzinfo=UTC)
        return int(first.timestamp()) * 1000

    @property
    def stop_ms(self) -> int:
        """The first millisecond after it."""
        year, month = divmod(self.year * _MONTHS + self.month, _MONTHS)
        return Period(year, month + 1).start_ms


class Line(msgspec.Struct, frozen=True):
    """One SKU at one price; amounts and quantities are decimal text."""

    sku: str
    unit: str
    quantity: str
    unit_price: str
    rate_card: str
    amount: str
    amount_minor: int


class Invoice(msgspec.Struct, frozen=True):
    """What a tenant owes for a period; `draft` until the period is closed.

    `total_minor` and each `amount_minor` count the currency's smallest coins.
    """

    tenant: str
    period: str
    status: Literal["draft"]
    currency: str
    minor_digits: int
    events: int
    lines: list[Line]
    total: str
    total_minor: int


def draft(
    tenant: str,
    period: Period,
    charges: Iterable[Charge],
    *,
    currency: str,
    minor_digits: int,
    events: int,
) -> Invoice:
    """Return the invoice over `charges`, at most one for each SKU and rate card."""
    in_order = sorted(charges, key=lambda each: (each.sku, each.rate_card))
    lines = [_line(each, minor_digits) for each in in_order]
    total_minor = sum(line.amount_minor for line in lines)
    return Invoice(
        tenant=tenant,
        period=str(period),
        status="draft",
        currency=currency,
        minor_digits=minor_digits,
        events=events,
        lines=lines,
        total=_coins(total_minor, minor_digits),
        total_minor=total_minor,
    )


def _line(charge: Charge, minor_digits: int) -> Line:
    minor = round_half_up(charge.amount, minor_digits)
    return Line(
        sku=charge.sku,
        unit=charge.unit,
        quantity=plain(charge.quantity),
        unit_price=plain(charge.unit_price),
        rate_card=charge.rate_card,
        amount=_coins(minor, minor_digits),
        amount_minor=minor,
    )


def round_half_up(amount: Decimal, minor_digits: int) -> int:
    """Return an amount in whole smallest coins; half a coin goes up."""
    coins = amount.scaleb(minor_digits, context=EXACT)
    return int(coins.quantize(Decimal(1), context=_ROUNDING))


def _coins(minor: int, minor_digits: int) -> str:
    return f"{Decimal(minor).scaleb(-minor_digits, context=EXACT):f}"
