"""From usage to an invoice.  Pure: the same usage gives the same bytes.

Each line is rounded once, half up, to the currency's smallest coin; the payable is
the sum of the lines.  Nothing else is ever rounded.  What is kept for ever is
`canonical(invoice)`, the RFC 8785 bytes; `parse` reads every version of them.
"""

from __future__ import annotations

import enum
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from functions.billing.evidence import NOTHING, Root
from functions.billing.money import EXACT, coins, plain, round_half_up
from functions.billing.rates import NOBODY, UNTAXED, Party, Tax
from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_PERIOD: Final = re.compile(r"([1-9][0-9]{3})-(0[1-9]|1[0-2])")
_SEQUENCE: Final = re.compile(r"[0-9]{6,}")
_MONTHS: Final = 12
_MONTH_LETTERS: Final = len("2026-11")
_YEAR_MAX: Final = 9998
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
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

    @classmethod
    def at(cls, at_ms: int) -> Period:
        """Return the period of a moment in milliseconds since the epoch."""
        return cls.of(datetime.fromtimestamp(at_ms // 1000, UTC))

    def __str__(self) -> str:
        """Return it as `parse` takes it."""
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def following(self) -> Period:
        """The month after it."""
        year, month = divmod(self.year * _MONTHS + self.month, _MONTHS)
        return Period(year, month + 1)

    @property
    def preceding(self) -> Period:
        """The month before it."""
        year, month = divmod(self.year * _MONTHS + self.month - 2, _MONTHS)
        return Period(year, month + 1)

    @property
    def start_ms(self) -> int:
        """Its first millisecond since the epoch."""
        first = datetime(self.year, self.month, 1, tzinfo=UTC)
        return (first - _EPOCH) // timedelta(milliseconds=1)

    @property
    def stop_ms(self) -> int:
        """The first millisecond after it."""
        return self.following.start_ms


class State(enum.Enum):
    """Where a period stands; it only ever goes on to the next.

    Usage of a period counts in its own invoice while it is `open` or in `grace`;
    what comes once it is `closed` becomes a correction in the next invoice.
    """

    OPEN = "open"
    GRACE = "grace"
    CLOSED = "closed"
    ISSUED = "issued"


def state(
    period: Period,
    now_ms: int,
    *,
    closed: bool = False,
    issued: bool = False,
) -> State:
    """Return where a period stands; `closed` and `issued` are what is recorded."""
    if issued:
        return State.ISSUED
    if closed:
        return State.CLOSED
    return State.OPEN if now_ms < period.stop_ms else State.GRACE


class Line(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """One line: amounts, quantities and prices are decimal text.

    `exact` is the amount before its one rounding; a correction's amount is what is
    owed of its month less what was billed, each rounded once.  `period` is the month
    that it is of, so for a correction the one that it corrects.  `refers` is the
    credit's id, or in a credit note the number of the invoice's line, from 1.
    `base_minor` is what a tax line taxes.
    """

    kind: Literal["usage", "minimum", "correction", "credit", "credited", "tax"]
    period: str
    sku: str = ""
    model: str = ""
    unit: str = ""
    quantity: str = ""
    unit_price: str = ""
    list_price: str = ""
    tier_from: str = "0"
    included: bool = False
    rate_card: str = ""
    exact: str = ""
    amount: str
    amount_minor: int
    tax: Tax = UNTAXED
    base_minor: int | None = None
    refers: str = ""
    note: str = ""


class Invoice(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """What a tenant owes for a period; or, in a credit note, is owed back.

    `kind` goes by the total: below zero it is a credit note, whether corrections were
    more than what was used in a period, or an invoice is taken back; what takes such
    a period back is an invoice again.  `refers` is the number of what is taken back.
    `*_minor` count the currency's smallest coins.  `total` is the payable, the sum of
    all lines; `net` is that of usage, minimums and corrections.  `events` is the set
    of usage events that no earlier invoice took up, as SHA-256 digests; `jobs` that
    of their jobs' ids, under which the audit log `log` has the receipts.
    """

    version: Literal[1]
    kind: Literal["invoice", "credit-note"]
    status: Literal["draft", "issued"]
    number: str = ""
    tenant: str
    period: str
    currency: str
    minor_digits: int
    issued: str = ""
    due: str = ""
    refers: str = ""
    reason: str = ""
    issuer: Party = NOBODY
    customer: Party = NOBODY
    lines: tuple[Line, ...]
    net: str
    net_minor: int
    credits: str
    credits_minor: int
    tax: str
    tax_minor: int
    total: str
    total_minor: int
    events: Root = NOTHING
    jobs: Root = NOTHING
    log: str = ""

    @property
    def billing_period(self) -> str:
        """The month in which it is charged.

        What takes an invoice back is of that one's month, and is charged in the month
        in which it was issued: what was exported of a month stays as it is.
        """
        return self.issued[:_MONTH_LETTERS] if self.refers else self.period


def assemble(lines: Sequence[Line], digits: int, fields: Mapping[str, Any]) -> Invoice:
    """Return a document whose sums are those of its lines."""
    sums: defaultdict[str, int] = defaultdict(int)
    for line in lines:
        name = line.kind if line.kind in {"credit", "tax"} else "net"
        sums[name] += line.amount_minor
    total = sum(sums.values())
    # Where credits had paid all of an invoice, what takes it back comes to nothing.
    given_back = total < 0 or (total == 0 and bool(fields.get("refers")))
    return Invoice(
        version=1,
        kind="credit-note" if given_back else "invoice",
        status="draft",
        **fields,
        minor_digits=digits,
        lines=tuple(lines),
        net=coins(sums["net"], digits),
        net_minor=sums["net"],
        credits=coins(sums["credit"], digits),
        credits_minor=sums["credit"],
        tax=coins(sums["tax"], digits),
        tax_minor=sums["tax"],
        total=coins(total, digits),
        total_minor=total,
    )


def tax_minor(tax: Tax, base_minor: int) -> int:
    """Return the tax on whole coins, rounded half up to a coin."""
    return round_half_up(EXACT.multiply(Decimal(base_minor), Decimal(tax.rate)), 0)


def tax_line(period: str, tax: Tax, base_minor: int, minor: int, digits: int) -> Line:
    """Return the line of a tax on `base_minor`."""
    base = Decimal(coins(base_minor, digits))
    return Line(
        kind="tax",
        period=period,
        exact=plain(EXACT.multiply(base, Decimal(tax.rate))),
        amount=coins(minor, digits),
        amount_minor=minor,
        tax=tax,
        base_minor=base_minor,
    )


def number(tenant: str, sequence: int) -> str:
    """Return the number of a tenant's n-th document, counted from 1.

    Each tenant has a series of its own, without gaps, in which invoices and credit
    notes are numbered alike; so a number tells nobody how many others there are, and
    does not depend on who was billed first.
    """
    return f"{tenant}-{sequence:06d}"


def is_number(tenant: str, text: str) -> bool:
    """Return whether this names a document of a tenant, which may be called `2026`."""
    sequence = text.removeprefix(f"{tenant}-")
    return sequence != text and _SEQUENCE.fullmatch(sequence) is not None


def issue(invoice: Invoice, number_: str, issued: date, due_days: int) -> Invoice:
    """Return the document as it is sent and never changed again."""
    return msgspec.structs.replace(
        invoice,
        status="issued",
        number=number_,
        issued=issued.isoformat(),
        due=(issued + timedelta(days=due_days)).isoformat(),
    )


def parse(text: bytes) -> Invoice:
    """Return the invoice whose `canonical` bytes these are, or raise `ValueError`."""
    return msgspec.json.decode(text, type=Invoice)
