"""What the billing function works with: the ledger, the rate cards, and the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from functions.billing.figures import Figures
from functions.metrics import Metrics
from functions.warm import Opening

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal
    from pathlib import Path

    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards

OPEN_SECONDS_MAX: Final = 15.0


def clock() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Books:
    """The ledger and the rate cards, opened on a thread, and the clock."""

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        now: Callable[[], datetime] = clock,
        rates: Path | None = None,
        tenants: Path | None = None,
    ) -> None:
        self.now = now
        self._rates, self._tenants = rates, tenants
        self.metrics = Metrics()
        self.figures = Figures(self.metrics)
        self._open_ledger = open_ledger
        self._opening = Opening(self._open)

    def _open(self) -> tuple[Ledger, RateCards]:
        from functions.billing.customers import names_in
        from functions.billing.rates import FILE, RateCards

        cards = RateCards.load(self._rates or FILE, names_in(self._tenants))
        return self._open_ledger(), cards

    @property
    def ledger(self) -> Ledger:
        """The opened ledger; `Unavailable` if it does not open."""
        return self._opening.get(timeout=OPEN_SECONDS_MAX)[0]

    @property
    def cards(self) -> RateCards:
        """Every rate card."""
        return self._opening.get(timeout=OPEN_SECONDS_MAX)[1]

    def spent(self, tenant: str, month: str) -> Decimal:
        """Return what a month has cost a tenant so far, before credits and tax."""
        from functions.billing import budgeting

        return budgeting.spent(self.ledger, self.cards, tenant, month)

    def price(self) -> None:
        """Bring the figures that finance watches up to date."""
        month = f"{self.now():%Y-%m}"
        self.figures.price(month, self.cards.currency, self.spent)
