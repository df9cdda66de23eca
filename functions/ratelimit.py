"""How often a tenant may ask, and how much at once, in one process.

**Rates** are token buckets.  One holds `burst` tokens at most and gains `rate` a
second; a request takes one.  It is kept as the one moment at which it will be full
again (the virtual scheduling of ITU-T I.371's generic cell rate algorithm, which is the
same thing): so whose moment is past is as who never asked, and is forgotten.

**Room** to wait in is bounded, and shared by a dynamic threshold (A. K. Choudhury,
E. L. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches",
IEEE/ACM Transactions on Networking 6(2), 1998): a tenant is let in while it has fewer
places than are free.  So one greedy tenant has half of all at most, k have a k+1st part
each, and another k+1st part is free.

Each process counts for itself: of a door with n replicas a tenant has up to n times
its rate.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from functions.problems import TooManyRequests, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.tenant import Tenant

TENANTS_MAX: Final = 4_096


class Rates:
    """Who asked how often; at most `tenants_max` are remembered.

    `clock` gives seconds, and never goes back.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        tenants_max: int = TENANTS_MAX,
    ) -> None:
        self._clock = clock
        self._tenants_max = tenants_max
        self._lock = threading.Lock()
        self._full_at: dict[Tenant, float] = {}

    def __len__(self) -> int:
        """Return how many tenants something is remembered of."""
        return len(self._full_at)

    def take(self, tenant: Tenant, rate: float, burst: int) -> None:
        """Take a token, or raise `TooManyRequests` that says when there is one.

        `rate` is tokens a second, `burst` how many there are at most.
        """
        with self._lock:
            now = self._clock()
            full_at = max(now, self._full_at.get(tenant, now))
            # In this form a full bucket has exactly no wait, whatever is rounded.
            wait = (full_at - now) - (burst - 1) / rate
            if wait <= 0:
                self._keep(tenant, full_at + 1 / rate, now)
                return
        raise TooManyRequests(
            f"more than {rate:g} requests a second",
            retry_seconds=max(1, math.ceil(wait)),
        )

    def _keep(self, tenant: Tenant, full_at: float, now: float) -> None:
        if tenant not in self._full_at and len(self._full_at) >= self._tenants_max:
            self._forget(now)
        self._full_at[tenant] = full_at

    def _forget(self, now: float) -> None:
        """Drop all whose bucket is full, or else the one that is the nearest to it."""
        full = [tenant for tenant, at in self._full_at.items() if at <= now]
        for tenant in full or [min(self._full_at, key=self._full_at.__getitem__)]:
            del self._full_at[tenant]


class Room:
    """So many places, of which no tenant can take the last ones.

    With `shared=False` all of them are there for whoever comes.
    """

    def __init__(self, places: int, *, shared: bool = True) -> None:
        self._places = places
        self._shared = shared
        self._lock = threading.Lock()
        self._held: dict[Tenant, int] = {}

    def enter(self, tenant: Tenant, each_max: int | None = None) -> bool:
        """Take a place, and return whether there was one for this tenant.

        `each_max` is how many it may have whatever is free.
        """
        with self._lock:
            free = self._places - sum(self._held.values())
            held = self._held.get(tenant, 0)
            least = held + 1 if self._shared else 1
            if free < least or (each_max is not None and held >= each_max):
                return False
            self._held[tenant] = held + 1
            return True

    def leave(self, tenant: Tenant) -> None:
        """Give a place back."""
        with self._lock:
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]

    @contextmanager
    def place(self, tenant: Tenant, each_max: int | None = None) -> Iterator[None]:
        """Hold a place while the body works, or raise `Unavailable`."""
        if not self.enter(tenant, each_max):
            raise Unavailable(internal=f"{tenant.id} has all the places it may have")
        try:
            yield
        finally:
            self.leave(tenant)
