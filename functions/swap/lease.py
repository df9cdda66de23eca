"""The lease on a device: one holder at a time, fair among tenants, and the meter.

A GPU-second is lease wall time on a monotonic clock, from the grant to the
release after the device is synchronised.  One device has one holder, so over any
window the leases on it add up to no more than the wall time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.tenant import Tenant

_NS_PER_MS: Final = 1_000_000


@dataclass(slots=True)
class Meter:
    """What one lease measured, in nanoseconds of the wall."""

    wall_ns: int = 0

    @property
    def lease_ms(self) -> int:
        """Whole milliseconds held, cut off so that the sum never exceeds the wall."""
        return self.wall_ns // _NS_PER_MS


def decimal_seconds(ns: int) -> str:
    """Return nanoseconds as decimal seconds, cut off at milliseconds."""
    return str(Decimal(ns // _NS_PER_MS).scaleb(-3).quantize(Decimal("0.001")))


class Device:
    """One device, leased to one job at a time, or to `holders` of them.

    Tenants that wait take turns, whatever the number each has waiting; within a
    tenant, first come, first served.
    """

    def __init__(
        self, clock: Callable[[], int] = time.monotonic_ns, *, holders: int = 1
    ) -> None:
        self._clock = clock
        self._free = holders
        self._turn = threading.Condition()
        self._waiting: OrderedDict[Tenant, deque[object]] = OrderedDict()

    @contextmanager
    def lease(self, tenant: Tenant) -> Iterator[Meter]:
        """Wait for the turn, hold the device, and measure for how long."""
        self._take(tenant)
        meter = Meter()
        granted = self._clock()
        try:
            yield meter
        finally:
            meter.wall_ns = self._clock() - granted
            self._give()

    def _take(self, tenant: Tenant) -> None:
        ticket = object()
        with self._turn:
            self._waiting.setdefault(tenant, deque()).append(ticket)
            self._turn.wait_for(lambda: self._free and self._next() is ticket)
            self._free -= 1
            self._leave(tenant)

    def _next(self) -> object:
        return next(iter(self._waiting.values()))[0]

    def _leave(self, tenant: Tenant) -> None:
        """Take the tenant's first ticket; its others go behind everybody else's."""
        queue = self._waiting.pop(tenant)
        queue.popleft()
        if queue:
            self._waiting[tenant] = queue

    def _give(self) -> None:
        with self._turn:
            self._free += 1
            self._turn.notify_all()
