"""The lease on a device: few holders at a time, fair among tenants, and the meter.

A GPU-second is lease wall time on a monotonic clock, from the grant to the release
after the device is synchronised (a run of ONNX Runtime returns with its outputs in
host memory), times the part of a whole device that this one is.  While N leases are
held at once, each earns 1/N of the time.  So over any window, what the leases in it
earn adds up to no more than its wall time x the device's share.

All of it is exact: whole nanoseconds and fractions.  The one rounding is that of a
lease to the millisecond, and it is down, for each lease by itself: nothing is carried
from one to the next, so no lease is ever billed for more than it was held, and the
sum over any of them keeps below the wall.  It costs us half a millisecond a lease.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from functions.swap.threads import taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.swap.threads import Helpers
    from functions.tenant import Tenant

_NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """The three clocks a lease is measured by, in nanoseconds.

    `monotonic` measures; `thread` is the CPU time of the thread that asks; `wall`
    (since the epoch) only says when it was.
    """

    monotonic: Callable[[], int] = time.monotonic_ns
    thread: Callable[[], int] = time.thread_time_ns
    wall: Callable[[], int] = time.time_ns


@dataclass(slots=True)
class Meter:
    """What one lease measured, in nanoseconds.

    `wall_ns` is how long it was held, `earned_ns` its part of that among those who
    held the device with it, `cpu_ns` the CPU time of its own thread meanwhile, and
    `helpers_ns` that of the device's threads.
    `share` is the part of a whole device that was leased; `granted_ms` says when, in
    milliseconds since the epoch.
    """

    wall_ns: int = 0
    earned_ns: Fraction = Fraction(0)  # immutable
    cpu_ns: int = 0
    helpers_ns: int = 0
    share: Fraction = Fraction(1)  # immutable
    granted_ms: int = 0

    @property
    def lease_ms(self) -> int:
        """Whole milliseconds held, cut off."""
        return self.wall_ns // _NS_PER_MS

    @property
    def device_ns(self) -> int:
        """What is billed of the device: what was earned x the share, cut off."""
        return int(self.earned_ns * self.share)

    def up_to(self, end_ms: int) -> Meter:
        """Return the part of the lease before a moment (milliseconds since the epoch).

        The moment is of another machine's clock, perhaps; whatever it says, the part
        is none of the lease at least, and all of it at most.
        """
        held = (end_ms - self.granted_ms) * _NS_PER_MS
        wall_ns = max(0, min(self.wall_ns, held))
        part = Fraction(wall_ns, self.wall_ns or 1)
        return replace(
            self,
            wall_ns=wall_ns,
            earned_ns=self.earned_ns * part,
            cpu_ns=int(self.cpu_ns * part),
            helpers_ns=int(self.helpers_ns * part),
        )


def decimal_seconds(ns: int) -> str:
    """Return nanoseconds as decimal seconds, cut off at milliseconds."""
    return str(Decimal(ns // _NS_PER_MS).scaleb(-3).quantize(Decimal("0.001")))


class Sharing:
    """What holders of one device earn: of any time, each of N gets 1/N.

    It knows no threads: whoever calls gives the time, which never runs backwards.
    """

    def __init__(self) -> None:
        self._holders = 0
        self._at = 0
        # What somebody would have earned who held it all along.  The denominators
        # divide the least common multiple of 1 to the most holders there can be.
        self._earned = Fraction(0)

    def grant(self, now_ns: int) -> Fraction:
        """Begin a lease; return what `release` wants to know of its beginning."""
        self._advance(now_ns)
        self._holders += 1
        return self._earned

    def release(self, now_ns: int, since: Fraction) -> Fraction:
        """End a lease, and return the nanoseconds it has earned."""
        self._advance(now_ns)
        self._holders -= 1
        return self._earned - since

    def _advance(self, now_ns: int) -> None:
        if self._holders:
            self._earned += Fraction(now_ns - self._at, self._holders)
        self._at = now_ns


_REAL: Final = Clocks()


class Device:
    """One device, leased to one job at a time, or to `holders` of them.

    `share` is the part of a whole device that it is: 1/7 for one of seven instances
    of a GPU, 1/4 for a quarter of its threads.
    Tenants that wait take turns, whatever the number each has waiting; within a
    tenant, first come, first served.
    """

    def __init__(
        self,
        clocks: Clocks = _REAL,
        *,
        holders: int = 1,
        share: Fraction = Fraction(1),  # immutable
    ) -> None:
        self._clocks = clocks
        self._free = holders
        self._share = share
        self._sharing = Sharing()
        self._turn = threading.Condition()
        self._waiting: OrderedDict[Tenant, deque[object]] = OrderedDict()

    @contextmanager
    def lease(self, tenant: Tenant, helpers: Helpers | None = None) -> Iterator[Meter]:
        """Wait for the turn, hold the device, and measure for how long.

        `helpers` are the device's threads, if they work for its holder alone: of
        several holders none can be told what they took.
        """
        if helpers is not None:
            helpers.look()
        granted, since = self._take(tenant)
        wall_ms = self._clocks.wall() // _NS_PER_MS
        meter = Meter(share=self._share, granted_ms=wall_ms)
        cpu, before = self._clocks.thread(), helpers.clocks() if helpers else {}
        try:
            yield meter
        finally:
            meter.cpu_ns = self._clocks.thread() - cpu
            meter.helpers_ns = taken(before, helpers.clocks()) if helpers else 0
            released, meter.earned_ns = self._give(since)
            meter.wall_ns = released - granted

    def _take(self, tenant: Tenant) -> tuple[int, Fraction]:
        ticket = object()
        with self._turn:
            self._waiting.setdefault(tenant, deque()).append(ticket)
            self._turn.wait_for(lambda: self._free and self._next() is ticket)
            self._free -= 1
            self._leave(tenant)
            now = self._clocks.monotonic()  # under the lock: moments in their order
            return now, self._sharing.grant(now)

    def _next(self) -> object:
        return next(iter(self._waiting.values()))[0]

    def _leave(self, tenant: Tenant) -> None:
        """Take the tenant's first ticket; its others go behind everybody else's."""
        queue = self._waiting.pop(tenant)
        queue.popleft()
        if queue:
            self._waiting[tenant] = queue

    def _give(self, since: Fraction) -> tuple[int, Fraction]:
        with self._turn:
            now = self._clocks.monotonic()
            earned = self._sharing.release(now, since)
            self._free += 1
            self._turn.notify_all()
            return now, earned
