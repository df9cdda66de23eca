"""What a bill comes to: usage, minimums, corrections, credits, tax.  Pure.

The order is fixed: usage is rated, the minimum fills it up, corrections of earlier
periods are added, credits come off, and what is left is taxed, tax by tax.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from msgspec import structs

from functions.billing import credits as credit_ledger
from functions.billing.evidence import NOTHING
from functions.billing.invoice import Line, assemble, tax_line, tax_minor
from functions.billing.money import coins, minor_of, plain, round_half_up
from functions.billing.rates import UNTAXED
from functions.billing.rating import difference, rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from functions.billing.credits import Available
    from functions.billing.evidence import Root
    from functions.billing.invoice import Invoice, Period
    from functions.billing.rates import RateCards, Tax
    from functions.billing.rating import Charge, Metered


@dataclass(frozen=True, slots=True)
class Late:
    """Usage of a closed period that came after: what was billed of it, and what is."""

    period: Period
    before: tuple[Metered, ...]
    after: tuple[Metered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """All that an invoice is made from."""

    tenant: str
    period: Period
    metered: tuple[Metered, ...]
    late: tuple[Late, ...] = ()
    credits: tuple[Available, ...] = ()
    events: Root = NOTHING
    jobs: Root = NOTHING
    log: str = ""


def versions(bill: Bill) -> set[str]:
    """Return the cards and contracts that hold in a bill's months.

    One that changes a tax or reserves devices is on no line of its own, and may
    change as little as one whose prices are.
    """
    spans = (*bill.metered, *(span for late in bill.late for span in late.after))
    held = [(span.terms.card, span.terms.contract) for span in spans]
    return {each.version for pair in held for each in pair if each is not None}


def draft(bill: Bill, cards: RateCards) -> Invoice:
    """Return the invoice, without a number.

    Raises `Unpriced` where no card has a price, `ValueError` where an amount is more
    than an invoice can hold or a credit is another tenant's or currency's.
    """
    lines = _priced(bill.period, bill.metered, cards.minor_digits)
    for late in sorted(bill.late, key=lambda each: each.period):
        lines += _corrections(late, cards.minor_digits)
    owed = _owed(lines)
    lines += _credited(bill, cards, owed)
    lines += _taxes(str(bill.period), _owed(lines), cards.minor_digits)
    return assemble(
        lines,
        cards.minor_digits,
        {
            "tenant": bill.tenant,
            "period": str(bill.period),
            "currency": cards.currency,
            "issuer": cards.issuer,
            "customer": cards.customer(bill.tenant),
            "events": bill.events,
            "jobs": bill.jobs,
            "log": bill.log,
        },
    )


def _priced(period: Period, metered: Sequence[Metered], digits: int) -> list[Line]:
    """Return the lines of a period's own usage, and what is missing to its minimum."""
    lines = [_line("usage", period, each, digits) for each in rate(metered)]
    if not metered:
        return lines
    terms = metered[-1].terms
    least, version = terms.minimum
    missing = minor_of(least, digits) - sum(line.amount_minor for line in lines)
    if missing > 0:
        lines.append(_minimum(period, missing, version, terms.tax, digits))
    return lines


def _line(
    kind: Literal["usage", "correction"], period: Period, charge: Charge, digits: int
) -> Line:
    minor = round_half_up(charge.amount, digits)
    return Line(
        kind=kind,
        period=str(period),
        sku=charge.item.sku,
        model=charge.item.model,
        unit=charge.item.unit,
        quantity=plain(charge.quantity),
        unit_price=plain(charge.item.unit_price),
        list_price=plain(charge.item.list_price),
        tier_from=plain(charge.item.tier_from),
        included=charge.item.included,
        rate_card=charge.item.rate_card,
        exact=plain(charge.amount),
        amount=coins(minor, digits),
        amount_minor=minor,
        tax=charge.item.tax,
    )


def _minimum(period: Period, minor: int, version: str, tax: Tax, digits: int) -> Line:
    return Line(
        kind="minimum",
        period=str(period),
        rate_card=version,
        exact=plain(Decimal(coins(minor, digits))),
        amount=coins(minor, digits),
        amount_minor=minor,
        tax=tax,
    )


def _corrections(late: Late, digits: int) -> list[Line]:
    """Return what late usage adds to its period, at that period's prices.

    The whole period is rated anew and what was billed of it is taken off, so tiers,
    included quantities and the minimum come out as if nothing had been late.  That
    holds to the coin: what is taken off is what was billed, rounded as it was, so
    usage that trickles in month after month is rounded as if it had come at once.
    """
    before, after = rate(late.before), rate(late.after)
    billed, owed = (
        {each.item: round_half_up(each.amount, digits) for each in charges}
        for charges in (before, after)
    )
    lines = []
    for each in difference(before, after):
        minor = owed.get(each.item, 0) - billed.get(each.item, 0)
        line = _line("correction", late.period, each, digits)
        lines.append(
            structs.replace(line, amount=coins(minor, digits), amount_minor=minor)
        )
    sums: defaultdict[tuple[str, Tax], int] = defaultdict(int)
    for sign, metered in ((-1, late.before), (1, late.after)):
        for line in _priced(late.period, metered, digits):
            if line.kind == "minimum":
                sums[line.rate_card, line.tax] += sign * line.amount_minor
    for (version, tax), minor in sorted(sums.items()):
        if minor:
            line = _minimum(late.period, minor, version, tax, digits)
            lines.append(structs.replace(line, kind="correction"))
    return lines


def _owed(lines: Iterable[Line]) -> dict[Tax, int]:
    """Return what lines come to under each tax, the first line's tax first."""
    owed: defaultdict[Tax, int] = defaultdict(int)
    for line in lines:
        owed[line.tax] += line.amount_minor
    return dict(owed)


def _credited(bill: Bill, cards: RateCards, owed: Mapping[Tax, int]) -> list[Line]:
    """Return a line for each part of a credit that is used up."""
    for each in bill.credits:
        if (each.credit.tenant, each.credit.currency) != (bill.tenant, cards.currency):
            who, coin = each.credit.tenant, each.credit.currency
            raise ValueError(
                f"credit {each.credit.id} is of {who} in {coin},"
                f" the bill of {bill.tenant} in {cards.currency}"
            )
    span = bill.period.start_ms, bill.period.stop_ms
    held = [each for each in bill.credits if each.credit.holds(*span)]
    return [
        Line(
            kind="credit",
            period=str(bill.period),
            amount=coins(-each.amount_minor, cards.minor_digits),
            amount_minor=-each.amount_minor,
            tax=each.tax,
            refers=each.credit.id,
            note=each.credit.note,
        )
        for each in credit_ledger.spend(held, owed)
    ]


def _taxes(period: str, owed: Mapping[Tax, int], digits: int) -> list[Line]:
    """Return a line for each tax; what it taxes is already in coins."""
    return [
        tax_line(period, tax, owed[tax], tax_minor(tax, owed[tax]), digits)
        for tax in sorted(owed)
        if tax != UNTAXED
    ]
