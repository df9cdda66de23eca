"""Who may begin a delivery, and whose turn it is: fair among tenants.

On a cluster each tenant has a Broker and pods of its own.  Here one process of each
function serves them all, so what one tenant has waiting must not fill it.  A Trigger
may have as many deliveries under way as twice the places that its subscriber has left:
one alone takes two thirds of them, two take two fifths each, and a place is left for a
tenant who has none.  That is the dynamic threshold of Choudhury and Hahne ("Dynamic
queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on
Networking 6, 1998) with an alpha of 2.  Among those who wait, the tenant with the
fewest under way comes first, and among such the one whose last turn is longest ago: so
where many have come at once, the next place is for who has none.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from functions.local.manifests import Trigger

AT_ONCE_MAX: Final = 8
"""Deliveries of one Trigger under way at a time."""
SERVICE_AT_ONCE_MAX: Final = 12
"""Deliveries to one Service: its other threads are left to who calls it directly."""
_ALPHA: Final = 2


def fits(own: int, everybody: int, places: int) -> bool:
    """Return whether one of many who has `own` of the `places` may take one more."""
    return own < _ALPHA * (places - everybody)


class Shares:
    """The deliveries under way.  Safe from any thread."""

    def __init__(self, service_at_once_max: int = SERVICE_AT_ONCE_MAX) -> None:
        self._places = service_at_once_max
        self._lock = threading.Lock()
        self._under_way: dict[str, set[int]] = defaultdict(set)
        self._taken: Counter[str] = Counter()
        self._loads: Counter[tuple[str, str]] = Counter()
        self._last: Counter[str] = Counter()
        self._turns = itertools.count(1)

    @property
    def total(self) -> int:
        """How many deliveries are under way."""
        return self._taken.total()

    def under_way(self, trigger: str) -> frozenset[int]:
        """Return the numbers of the deliveries of a Trigger that are under way."""
        with self._lock:
            return frozenset(self._under_way.get(trigger, ()))

    def admits(self, trigger: Trigger) -> bool:
        """Return whether one more delivery of a Trigger may begin."""
        with self._lock:
            own = len(self._under_way.get(trigger.key, ()))
            taken = self._taken[trigger.subscriber.name]
        return own < AT_ONCE_MAX and fits(own, taken, self._places)

    def turn(self, trigger: Trigger) -> tuple[int, int]:
        """Return what sorts Triggers by whose turn it is, the next one first."""
        with self._lock:
            load = self._loads[trigger.namespace, trigger.subscriber.name]
            return load, self._last[trigger.namespace]

    def begin(self, trigger: Trigger, number: int) -> None:
        """Note that a delivery begins."""
        with self._lock:
            self._under_way[trigger.key].add(number)
            self._count(trigger, 1)
            self._last[trigger.namespace] = next(self._turns)

    def end(self, trigger: Trigger, number: int) -> None:
        """Note that it has ended."""
        with self._lock:
            mine = self._under_way[trigger.key]
            mine.discard(number)
            if not mine:
                del self._under_way[trigger.key]
            self._count(trigger, -1)

    def _count(self, trigger: Trigger, change: int) -> None:
        service = trigger.subscriber.name
        self._taken[service] += change
        self._loads[trigger.namespace, service] += change
