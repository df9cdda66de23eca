"""Who asks how much a tenant stored, and what becomes of the answer.

A tick bears no signature.  Where the cluster's tokens are on, who brings it is the
tenant's namespace: the answer is the usage event, which the broker carries to billing's
events, where it is counted, and to any other meter.  Where they are off it may be
anybody, so what it can do is what the clock would have had done anyway: the day is
counted, once, here, and nobody is told of it.

To list a store takes long, and threads that usage needs: a tenant is measured once at
a time, and few at all.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from functions.keys import events_key
from functions.problems import Failed
from functions.ratelimit import Room

if TYPE_CHECKING:
    from datetime import date

    from functions.billing.books import Books
    from functions.billing.budgets import Watch
    from functions.events import Event
    from functions.keys import KeyProvider
    from functions.storage import Stores
    from functions.tenant import Tenant

log = logging.getLogger(__name__)

AT_ONCE_MAX: Final = 8
"""Stores that one process lists at a time; of the threads it has the fifth part."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """Measures what lies in the tenants' stores, when a tick asks for it."""

    books: Books
    keys: KeyProvider
    stores: Stores
    room: Room = field(default_factory=lambda: Room(AT_ONCE_MAX))
    empty_max: int = 4_096
    _empty: set[tuple[str, date]] = field(default_factory=set)

    def usage(self, tick: Event, tenant: Tenant) -> Event | None:
        """Return the usage event of what was stored on the day before the tick.

        None where that is counted, or there is nothing to count.  Raises
        `InvalidRequest` (400), `Unavailable` (503) where the tenant is being measured
        or too many are, or what the store does.
        """
        from functions.billing import storing

        day = storing.day_before(tick, self.books.now())
        if not self.keys.verifiers(events_key(tenant.id)):
            log.warning("a tick of %s, whose key is not here", tenant.id)
            return None
        ledger = self.books.ledger
        if (tenant.id, day) in self._empty:
            return None
        if not storing.is_due(ledger, tenant, day, self.books.now()):
            return None
        with self.room.place(tenant, 1):
            stored = storing.measure(self.stores.of(tenant), day)
        if not storing.is_worth_counting(ledger, tenant, day, stored):
            self._remember(tenant, day)
            return None
        return storing.told(tenant, day, stored, self.keys)

    def _remember(self, tenant: Tenant, day: date) -> None:
        """Keep in mind that a day had nothing: no row in the ledger says so."""
        if len(self._empty) >= self.empty_max:
            self._empty.clear()
        self._empty.add((tenant.id, day))


def brake(tenant: Tenant, watch: Watch) -> None:
    """Have the tenant's budget stand as it should; who asked is not told of it.

    The next usage tells.  The day is counted, whatever becomes of this.
    """
    try:
        watch.look(tenant)
    except Failed:
        log.exception("the budget of %s", tenant.id)
