"""What finance watches, tenant by tenant, from usage events and nothing else.

They are figures to look at, for the counters begin anew with each process: what is
owed is in the ledger.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from functions.billing.usage import Usage
    from functions.metrics import Metrics

PRICED_AT_ONCE_MAX: Final = 20
"""Tenants whose month is priced before one push; the others are, before the next."""


class Figures:
    """Counts usage that is new, and prices the month of whoever had some."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._touched: dict[str, None] = {}

    def note(self, usage: Usage) -> None:
        """Count a usage event that the ledger had not had before."""
        data, count, who = usage.data, self._metrics.count, usage.tenant
        what = data.operation
        seconds = Fraction(data.device.share) * Fraction(data.lease_ms, 1000)
        kind = data.device.kind
        count("usage_device_seconds", seconds, operation=what, device=kind, tenant=who)
        count("usage_requests", data.requests, operation=what, tenant=who)
        count("usage_faces", data.faces, operation=what, tenant=who)
        with self._lock:
            self._touched[usage.tenant] = None

    def price(
        self, month: str, currency: str, spent: Callable[[str, str], Decimal]
    ) -> None:
        """Bring up to date what the month has cost whoever used something since."""
        with self._lock:
            some = list(self._touched)[:PRICED_AT_ONCE_MAX]
            for tenant in some:
                del self._touched[tenant]
        for tenant in some:
            cost = spent(tenant, month)
            self._metrics.gauge(
                "cost", cost, month=month, currency=currency, tenant=tenant
            )
