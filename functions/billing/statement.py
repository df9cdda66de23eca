"""What a reader is shown of the ledger: usage with its price, and invoices."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from functions.billing import drafting, order
from functions.billing.drafting import Bill, Late
from functions.billing.evidence import NOTHING
from functions.billing.ledger import Selection
from functions.billing.money import gib_months, plain, seconds, total
from functions.billing.rating import Meter, Metered, rate_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from functions.billing.evidence import Root
    from functions.billing.invoice import Invoice, Period
    from functions.billing.ledger import Ledger, Part, Sum
    from functions.billing.rates import RateCards, Sku
    from functions.billing.rating import Charge

_DAY_SECONDS: Final = 86_400
_COUNTS: Final = (
    "events",
    "billed_events",
    "lease_ms",
    "load_ms",
    "requests",
    "faces",
    "frames",
    "input_bytes",
    "output_bytes",
)


@dataclass(frozen=True, slots=True)
class Span:
    """From a moment to before another, in milliseconds since the epoch."""

    start_ms: int
    stop_ms: int


def usage(
    ledger: Ledger,
    cards: RateCards,
    tenant: str,
    span: Span,
    by: str,
) -> dict[str, Any]:
    """Return the usage of a span and its exact price, in all and for each group."""
    groups = _priced(ledger, cards, tenant, span, by) if by else {}
    whole = _priced(ledger, cards, tenant, span, "")
    return {
        "tenant": tenant,
        "from": _rfc3339(span.start_ms),
        "to": _rfc3339(span.stop_ms),
        "by": by,
        "currency": cards.currency,
        "total": _shown(whole.get("", [])),
        "groups": [
            {"group": _label(by, name), **_shown(groups[name])} for name in groups
        ],
    }


def draft(ledger: Ledger, cards: RateCards, tenant: str, period: Period) -> Invoice:
    """Return the invoice of a period as it stands."""
    return drafting.draft(bill_of(ledger, cards, tenant, period), cards)


def bill_of(
    ledger: Ledger,
    cards: RateCards,
    tenant: str,
    period: Period,
    *,
    evidence: bool = True,
) -> Bill:
    """Return what was used and the invoice of a period takes up, without credits.

    Without `evidence` no event is read by itself, and the roots over them are empty.
    """
    if evidence:
        metered, events, jobs = _taken_up(ledger, cards, tenant, period)
    else:
        metered = metered_of(ledger, cards, tenant, period, period)
        events = jobs = NOTHING
    return Bill(
        tenant=tenant,
        period=period,
        metered=metered,
        late=tuple(
            _late(ledger, cards, tenant, month, period)
            for month in ledger.late_months(tenant, period)
        ),
        events=events,
        jobs=jobs,
        log=f"guise.audit/{tenant}",
    )


def _taken_up(
    ledger: Ledger, cards: RateCards, tenant: str, period: Period
) -> tuple[tuple[Metered, ...], Root, Root]:
    """Return what was used in a period, and the roots over what its invoice takes up.

    Read at once where one may hold it all, else each by itself.
    """
    spans = list(cards.spans(tenant, period.start_ms, period.stop_ms))
    taken = ledger.taken_up(tenant, period, [stop for _, _, stop in spans])
    if taken is None:
        metered = metered_of(ledger, cards, tenant, period, period)
        return metered, *ledger.evidence(tenant, period)
    metered = tuple(
        Metered(terms, start_ms, stop_ms, quantities(parts))
        for (terms, start_ms, stop_ms), parts in zip(spans, taken.spans, strict=True)
    )
    return metered, taken.events, taken.jobs


def _late(
    ledger: Ledger, cards: RateCards, tenant: str, month: Period, period: Period
) -> Late:
    """Return what a period's invoice corrects of a month.

    Of a month that was passed over nothing was billed, no minimum either.
    """
    with ledger.reading(tenant) as db:
        billed = order.was_billed(db, tenant, month, period)
    return Late(
        month,
        before=metered_of(ledger, cards, tenant, month, period.preceding)
        if billed
        else (),
        after=metered_of(ledger, cards, tenant, month, period),
    )


def metered_of(
    ledger: Ledger, cards: RateCards, tenant: str, month: Period, upto: Period
) -> tuple[Metered, ...]:
    """Return what was used in a month, of what the invoices up to one have."""
    span = Span(month.start_ms, month.stop_ms)
    parts = _parts(ledger, cards, tenant, span, upto=str(upto))
    return tuple(metered for _, _, metered in parts)


_Priced = tuple["list[Sum]", "list[Charge]"]


def _priced(
    ledger: Ledger,
    cards: RateCards,
    tenant: str,
    span: Span,
    by: str,
) -> dict[str, list[_Priced]]:
    """Return for each group its sums and charges, one for each card that held."""
    found: defaultdict[str, list[_Priced]] = defaultdict(list)
    parts = _parts(ledger, cards, tenant, span, by)
    charged = rate_parts(metered for _, _, metered in parts)
    for (name, sums, _), charges in zip(parts, charged, strict=True):
        found[name].append((sums, charges))
    return found


def _parts(
    ledger: Ledger,
    cards: RateCards,
    tenant: str,
    span: Span,
    by: str = "",
    upto: str = "",
) -> list[tuple[str, list[Sum], Metered]]:
    """Return (group, sums, what is to be billed) in the order of time and group.

    Where nothing was used there is still a part for each of the terms: they may ask
    for a minimum.  A group is of no time of its own, so idle devices are in the whole
    and in none of its groups.
    """
    found = []
    for terms, start_ms, stop_ms in cards.spans(tenant, span.start_ms, span.stop_ms):
        groups: dict[str, list[Part]] = {} if by else {"": []}
        for part in ledger.sums(Selection(tenant, start_ms, stop_ms, upto), by):
            groups.setdefault(part.group, []).append(part)
        for name, parts in groups.items():
            stop = start_ms if by else stop_ms
            metered = Metered(terms, start_ms, stop, quantities(parts))
            found.append((name, [part.sum for part in parts], metered))
    return found


def quantities(parts: Iterable[Part]) -> dict[Meter, Decimal]:
    """Return how much of each SKU is to be billed, in the SKU's unit."""
    found: defaultdict[Meter, int] = defaultdict(int)
    for part in parts:
        found[Meter("gpu.exec", part.model)] += part.sum.billed_gpu_ms
        found[Meter("gpu.load", part.model)] += part.sum.billed_load_ms
        found[Meter("cpu.exec")] += part.sum.billed_cpu_ms
        found[Meter("request")] += part.sum.billed_requests
        found[Meter("storage")] += part.sum.billed_byte_hours
    return {meter: _IN_UNITS[meter.sku](count) for meter, count in found.items()}


_IN_UNITS: Final[dict[Sku, Callable[[int], Decimal]]] = {
    "gpu.exec": seconds,
    "gpu.load": seconds,
    "cpu.exec": seconds,
    "request": Decimal,
    "storage": gib_months,
}


def _shown(priced: Iterable[_Priced]) -> dict[str, Any]:
    priced = list(priced)
    counts = {name: _added(priced, name) for name in _COUNTS}
    charges = [charge for _, some in priced for charge in some]
    return {
        **counts,
        "gpu_seconds": f"{seconds(_added(priced, 'gpu_ms')):f}",
        "cpu_seconds": f"{seconds(_added(priced, 'cpu_ms')):f}",
        "byte_hours": str(_added(priced, "byte_hours")),
        "gib_months": f"{gib_months(_added(priced, 'byte_hours')):f}",
        "charges": list(_lines(charges)),
        "amount": plain(total(charge.amount for charge in charges)),
    }


def _added(priced: Iterable[_Priced], name: str) -> int:
    return sum(getattr(each, name) for sums, _ in priced for each in sums)


def _lines(charges: Iterable[Charge]) -> Iterator[dict[str, str]]:
    for charge in charges:
        yield {
            "sku": charge.item.sku,
            "unit": charge.item.unit,
            "quantity": plain(charge.quantity),
            "unit_price": plain(charge.item.unit_price),
            "rate_card": charge.item.rate_card,
            "amount": plain(charge.amount),
        }


def _label(by: str, name: str) -> str:
    if by != "day":
        return name
    return datetime.fromtimestamp(int(name) * _DAY_SECONDS, UTC).date().isoformat()


def _rfc3339(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    moment = moment.replace(microsecond=milliseconds % 1000 * 1000)
    text = moment.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
