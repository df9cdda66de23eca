"""What a reader is shown of the ledger: usage with its price, and invoices."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from functions.billing import drafting
from functions.billing.drafting import Bill
from functions.billing.evidence import Root
from functions.billing.money import plain, seconds, total
from functions.billing.rating import Meter, Metered, rate_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from functions.billing.invoice import Invoice, Period
    from functions.billing.ledger import Ledger, Sum
    from functions.billing.rates import RateCards
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
    span = Span(period.start_ms, period.stop_ms)
    parts = _parts(ledger, cards, tenant, span, "")
    metered = tuple(each for _, _, each in parts)
    events = Root(sum(each.events for _, each, _ in parts), root="")
    bill = Bill(tenant=tenant, period=period, metered=metered, events=events)
    return drafting.draft(bill, cards)


_Priced = tuple["Sum", "list[Charge]"]


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
    for (name, each, _), charges in zip(parts, charged, strict=True):
        found[name].append((each, charges))
    return found


def _parts(
    ledger: Ledger,
    cards: RateCards,
    tenant: str,
    span: Span,
    by: str,
) -> list[tuple[str, Sum, Metered]]:
    """Return (group, sums, what is to be billed) in the order of time and group."""
    return [
        (name, each, Metered(terms, start_ms, stop_ms, quantities(each)))
        for terms, start_ms, stop_ms in cards.spans(tenant, span.start_ms, span.stop_ms)
        for name, each in ledger.sums(tenant, start_ms, stop_ms, by).items()
    ]


def quantities(summed: Sum) -> dict[Meter, Decimal]:
    """Return how much of each SKU is to be billed, in the SKU's unit."""
    return {
        Meter("gpu.exec"): seconds(summed.billed_gpu_ms),
        Meter("gpu.load"): seconds(summed.billed_load_ms),
        Meter("cpu.exec"): seconds(summed.billed_cpu_ms),
        Meter("request"): Decimal(summed.billed_requests),
    }


def _shown(priced: Iterable[_Priced]) -> dict[str, Any]:
    priced = list(priced)
    counts = {name: _added(priced, name) for name in _COUNTS}
    charges = [charge for _, some in priced for charge in some]
    return {
        **counts,
        "gpu_seconds": f"{seconds(_added(priced, 'gpu_ms')):f}",
        "cpu_seconds": f"{seconds(_added(priced, 'cpu_ms')):f}",
        "charges": list(_lines(charges)),
        "amount": plain(total(charge.amount for charge in charges)),
    }


def _added(priced: Iterable[_Priced], name: str) -> int:
    return sum(getattr(each, name) for each, _ in priced)


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
