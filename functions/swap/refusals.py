"""Refusals that end no job are on record too: an audited event each, up to a rate.

A malformed request has no job to end, and a second request under a used job id
must not end the first.  Past the rate they are counted, and the count goes with
the next one that is sent.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from functions import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.events import Event
    from functions.problems import Refused
    from functions.settings import Limits
    from functions.swap.journal import Books
    from functions.tenant import Tenant

_WINDOW_SECONDS = 60.0


class Refusals:
    """How many refusals of each tenant were put on record in the last minute."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max = limits.refusals_per_minute_max
        self._clock = clock
        self._lock = threading.Lock()
        self._began: dict[Tenant, float] = {}
        self._sent: dict[Tenant, int] = {}
        self._unsent: dict[Tenant, int] = {}

    def event(self, problem: Refused, books: Books, *what: str) -> Event | None:
        """Return the event to send, or None when the tenant is over its rate.

        `what` tells this refusal from others: the same words give the same id.
        """
        unsent = self._count(books.tenant)
        if unsent is None:
            return None
        data: dict[str, Any] = {"reason": problem.document()["type"], "where": what[0]}
        if unsent:
            data["unsent"] = unsent
        return books.signed("refused", events.SWAP_REFUSED, data, *what)

    def _count(self, tenant: Tenant) -> int | None:
        """Return how many went unsent before this one; None if it does too."""
        now = self._clock()
        with self._lock:
            if now - self._began.get(tenant, -_WINDOW_SECONDS) >= _WINDOW_SECONDS:
                self._began[tenant], self._sent[tenant] = now, 0
            if self._sent[tenant] >= self._max:
                self._unsent[tenant] = self._unsent.get(tenant, 0) + 1
                return None
            self._sent[tenant] += 1
            return self._unsent.pop(tenant, 0)
