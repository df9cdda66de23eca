"""A tenant's usage as a page: by day and SKU, the bill so far, the month's forecast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions.billing import drafting, statement
from functions.billing.forecast import forecast
from functions.billing.invoice import Period
from functions.billing.money import EXACT, plain
from functions.pages import render
from functions.pages.chart import Row, chart
from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from functions.billing.invoice import Invoice, Line
    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards
    from functions.billing.statement import Span
    from functions.pages.chart import Chart

DAYS_MAX: Final = 366
TEMPLATE: Final = Path(__file__).with_name("usage.html.j2")

_DAY_MS: Final = 86_400_000
_SKUS: Final = {
    "gpu.exec": "GPU time",
    "gpu.idle": "GPU reserved and idle",
    "gpu.load": "Loading models",
    "cpu.exec": "CPU time",
    "request": "Requests",
    "storage": "Storage",
}


@dataclass(frozen=True, slots=True)
class Day:
    """What one day came to: quantities by SKU, and their exact price."""

    day: date
    quantities: Mapping[str, Decimal]
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Column:
    """One SKU in the table of days."""

    sku: str
    name: str
    unit: str

    @property
    def title(self) -> str:
        """Its name with its unit, where a number alone would not tell."""
        unit = _units(self.unit)
        return f"{self.name} ({unit})" if unit else self.name


def usage_page(
    ledger: Ledger, cards: RateCards, tenant: str, span: Span, now: datetime
) -> str:
    """Return the page of a span; the bill and its forecast are of the current month.

    Raises `InvalidRequest` for more than `DAYS_MAX` days.
    """
    usage = statement.usage(ledger, cards, tenant, span, "day")
    days = _days(usage, span, now)
    columns = _columns(usage, days)
    month = Period.of(now)
    bill = statement.bill_of(ledger, cards, tenant, month, evidence=False)
    now_ms = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    coming = forecast(bill, now_ms)
    invoice = drafting.draft(bill, cards)
    ahead = drafting.draft(coming, cards) if coming else None
    return render(
        TEMPLATE,
        {
            "tenant": tenant,
            "usage": usage,
            "began": _short(usage["from"]),
            "ended": _short(usage["to"]),
            "chart": _chart(days, columns, cards.currency),
            "chart_name": _in_words(days, columns, cards.currency),
            "of_no_day": _of_no_day(usage, columns),
            "columns": columns,
            "days": [each for each in days if each.quantities],
            "sums": _sums(days, columns),
            "names": _SKUS,
            "invoice": invoice,
            "forecast": ahead,
            "compared": _compared(invoice, ahead) if ahead else [],
            "elapsed": _in_days(now_ms - month.start_ms),
            "whole": _in_days(month.stop_ms - month.start_ms),
            "now": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
        },
        {"plain": plain},
    )


def _days(usage: Mapping[str, Any], span: Span, now: datetime) -> list[Day]:
    """Return every day of the span that has begun, also those without usage."""
    first = _date(span.start_ms)
    last = min(_date(span.stop_ms - 1), now.astimezone(UTC).date())
    last = max([first, last, *(_group(each) for each in usage["groups"])])
    number = (last - first).days + 1
    if number > DAYS_MAX:
        raise InvalidRequest(f"the page shows {DAYS_MAX} days: ask for a shorter time")
    groups = {_group(each): each for each in usage["groups"]}
    wanted = (first + timedelta(days=each) for each in range(number))
    return [_day(each, groups.get(each)) for each in wanted]


def _group(group: Mapping[str, Any]) -> date:
    return date.fromisoformat(group["group"])


def _day(day: date, group: Mapping[str, Any] | None) -> Day:
    if group is None:
        return Day(day, {}, Decimal(0))
    return Day(day, _by_sku(group["charges"]), Decimal(group["amount"]))


def _by_sku(charges: Iterable[Mapping[str, str]]) -> dict[str, Decimal]:
    """Return quantities by SKU, over all its models, cards and tiers."""
    found: dict[str, Decimal] = {}
    for charge in charges:
        before = found.get(charge["sku"], Decimal(0))
        found[charge["sku"]] = EXACT.add(before, Decimal(charge["quantity"]))
    return found


def _columns(usage: Mapping[str, Any], days: Sequence[Day]) -> list[Column]:
    """Return the SKUs that were used on some day, in the order of `_SKUS`."""
    used = {sku for day in days for sku in day.quantities}
    return [each for each in _charged(usage) if each.sku in used]


def _charged(usage: Mapping[str, Any]) -> list[Column]:
    """Return every SKU that is charged in the span, in the order of `_SKUS`."""
    charges = usage["total"]["charges"]
    units = {charge["sku"]: charge["unit"] for charge in charges}
    return [
        Column(sku, name, units[sku]) for sku, name in _SKUS.items() if sku in units
    ]


def _of_no_day(usage: Mapping[str, Any], columns: Sequence[Column]) -> list[str]:
    """Return what is charged and is of no single day: a reserved device that idles."""
    totals = _by_sku(usage["total"]["charges"])
    return [
        f"{each.name} {plain(totals[each.sku])} {_units(each.unit)}".rstrip()
        for each in _charged(usage)
        if each not in columns
    ]


def _chart(days: Sequence[Day], columns: Sequence[Column], currency: str) -> Chart:
    amounts = [each.amount for each in days]
    rows = [_row("Cost", "money", amounts, currency)]
    for column in columns:
        values = [each.quantities.get(column.sku, Decimal(0)) for each in days]
        kind = column.sku.replace(".", "-")
        rows.append(_row(column.name, kind, values, _units(column.unit)))
    steps = [each.day.isoformat() for each in days]
    ticks = [each.day.strftime("%d %b").lstrip("0") for each in days]
    return chart(rows, steps, ticks)


def _row(name: str, kind: str, values: Sequence[Decimal], unit: str) -> Row:
    shown = [f"{plain(each)} {unit}".rstrip() for each in (*values, _sum(values))]
    return Row(name, kind, values, shown[:-1], shown[-1])


def _units(unit: str) -> str:
    return {"second": "s", "request": "", "gib-month": "GiB-months"}.get(unit, unit)


def _sum(values: Iterable[Decimal]) -> Decimal:
    result = Decimal(0)
    for each in values:
        result = EXACT.add(result, each)
    return result


def _sums(days: Sequence[Day], columns: Sequence[Column]) -> list[Decimal]:
    zero = Decimal(0)
    return [
        *(_sum(day.quantities.get(each.sku, zero) for day in days) for each in columns),
        _sum(day.amount for day in days),
    ]


def _in_words(days: Sequence[Day], columns: Sequence[Column], currency: str) -> str:
    """Return what somebody who does not see the chart is told in its place."""
    *quantities, cost = (plain(each) for each in _sums(days, columns))
    parts = [
        f"{each.name} {quantity} {_units(each.unit)}".rstrip()
        for each, quantity in zip(columns, quantities, strict=True)
    ]
    told = ", ".join([f"Cost {cost} {currency}", *parts])
    return f"By day: {told}. The numbers are in the table below."


def _compared(now: Invoice, then: Invoice) -> list[tuple[str, str, str, str]]:
    """Return what was used of each SKU, what will be, and the unit."""
    before, after = _quantities(now.lines), _quantities(then.lines)
    return [
        (
            _SKUS.get(sku, sku),
            plain(before.get((sku, unit), Decimal(0))),
            plain(q),
            unit,
        )
        for (sku, unit), q in after.items()
    ]


def _quantities(lines: Iterable[Line]) -> dict[tuple[str, str], Decimal]:
    found: dict[tuple[str, str], Decimal] = {}
    for line in lines:
        if line.kind == "usage":
            name = (line.sku, line.unit)
            before = found.get(name, Decimal(0))
            found[name] = EXACT.add(before, Decimal(line.quantity))
    return found


def _in_days(span_ms: int) -> str:
    """Return a span in days, cut off at a tenth."""
    tenths = span_ms * 10 // _DAY_MS
    return plain(Decimal(tenths).scaleb(-1, context=EXACT))


def _date(at_ms: int) -> date:
    return date(1970, 1, 1) + timedelta(days=at_ms // _DAY_MS)


def _short(moment: str) -> str:
    """Return an RFC 3339 time as people write it, in UTC."""
    text = moment.replace("T", " ").removesuffix("Z").removesuffix(".000")
    return text.removesuffix(" 00:00:00")
