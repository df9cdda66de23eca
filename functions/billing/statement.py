"""What a reader is shown of the ledger: usage with its price, and invoices."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from functions.billing import invoice, rates
from functions.billing.rates import EXACT, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from functions.billing.invoice import Invoice, Period
    from functions.billing.ledger import Ledger, Sum
    from functions.billing.rates import Charge, RateCards, Sku

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
    priced = _priced(ledger, cards, tenant, span, "").get("", [])
    return invoice.draft(
        tenant,
        period,
        [charge for _, charges in priced for charge in charges],
        currency=cards.currency,
        minor_digits=cards.minor_digits,
        events=sum(each.events for each, _ in priced),
    )


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
    for card, start_ms, stop_ms in cards.between(span.start_ms, span.stop_ms):
        for name, each in ledger.sums(tenant, start_ms, stop_ms, by).items():
            found[name].append((each, rates.charges(card, quantities(each))))
    return found


def quantities(summed: Sum) -> dict[Sku, Decimal]:
    """Return how much of each SKU is to be billed, in the SKU's unit."""
    return {
        "gpu.exec": seconds(summed.billed_gpu_ms),
        "gpu.load": seconds(summed.billed_load_ms),
        "cpu.exec": seconds(summed.billed_cpu_ms),
        "request": Decimal(summed.billed_requests),
    }


def seconds(milliseconds: int) -> Decimal:
    """Return whole milliseconds as exact seconds."""
    return Decimal(milliseconds).scaleb(-3, context=EXACT)


def _shown(priced: Iterable[_Priced]) -> dict[str, Any]:
    priced = list(priced)
    counts = {name: _added(priced, name) for name in _COUNTS}
    charges = [charge for _, some in priced for charge in some]
    return {
        **counts,
        "gpu_seconds": f"{seconds(_added(priced, 'gpu_ms')):f}",
        "cpu_seconds": f"{seconds(_added(priced, 'cpu_ms')):f}",
        "charges": list(_lines(charges)),
        "amount": plain(rates.total(charge.amount for charge in charges)),
    }


def _added(priced: Iterable[_Priced], name: str) -> int:
    return sum(getattr(each, name) for each, _ in priced)


def _lines(charges: Iterable[Charge]) -> Iterator[dict[str, str]]:
    for charge in charges:
        yield {
            "sku": charge.sku,
            "unit": charge.unit,
            "quantity": plain(charge.quantity),
            "unit_price": plain(charge.unit_price),
            "rate_card": charge.rate_card,
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
