"""The lease on a device: few holders at a time, fair among tenants, and the meter.

A job takes two leases, one inside the other: a *slot* in the memory, for as long as it
holds pictures (`Memory`), and the device, for as long as that works (`Device`).  Whose
turn it is, `fairness` says, of each by itself.  Before both comes the room to wait in:
see `ratelimit.Room`.

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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from functions.swap.fairness import FairQueue, Standing
from functions.swap.threads import taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.swap.fairness import Ticket
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


def coarse_bytes(count: int) -> int:
    """Return a number of bytes rounded up to a power of two; of none, 0.

    Usage is kept for ever, and the exact size of a file is as good as its name to
    whoever has the file.  Nobody is billed by it.
    """
    return 1 << (count - 1).bit_length() if count else 0


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
_PLAIN: Final = Standing()


def _nobody_listens(_tenant: Tenant, _priority: int, _seconds: float) -> None:
    """Take no notice of how long somebody waited."""


class Turns:
    """Threads that wait for one of a few slots, and get it as a `FairQueue` says.

    With `shared` some are kept free for who comes next.  `heard` is told of each turn:
    whose it was, its priority, and the seconds it waited.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        slots: int,
        *,
        shared: bool = False,
        heard: Callable[[Tenant, int, float], None] = _nobody_listens,
    ) -> None:
        self._clock = clock
        self._free = slots
        self._queue = FairQueue(slots if shared else None)
        self._heard = heard
        self._lock = threading.Lock()
        self._called: dict[Ticket, threading.Event] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._called)

    def take(self, tenant: Tenant, standing: Standing, expected_ns: int) -> Ticket:
        """Wait for a slot."""
        called = threading.Event()
        with self._lock:
            now = self._clock()
            ticket = self._queue.ask(tenant, now, standing, expected_ns)
            self._called[ticket] = called
            self._hand_out(now)
        called.wait()
        self._heard(
            tenant, standing.priority, (self._clock() - ticket.asked_ns) / 10**9
        )
        return ticket

    def give(self, ticket: Ticket, took_ns: int) -> None:
        """Give the slot back; `took_ns` is what the turn is charged."""
        with self._lock:
            self._queue.settle(ticket, took_ns)
            self._free += 1
            self._hand_out(self._clock())

    def _hand_out(self, now_ns: int) -> None:
        while self._free and (ticket := self._queue.grant(now_ns)):
            self._free -= 1
            self._called.pop(ticket).set()


@dataclass(slots=True)
class Slot:
    """One job's part of the memory for pictures, and what the device did meanwhile.

    `waited_ns` is how long its holder waited for the device, `device_ns` how long it
    held that.
    """

    standing: Standing = _PLAIN
    expected_ns: int = 0
    waited_ns: int = 0
    device_ns: int = 0


class Memory:
    """Slots for jobs that hold pictures, so that no crowd waits with all decoded.

    A turn is charged what the device did, or its part of the slots for as long as
    its holder was busy, whichever is more (as A. Ghodsi et al., "Multi-Resource Fair
    Queueing for Packet Processing", SIGCOMM 2012, charge for the dominant resource):
    so pictures that fail before the device is reached are not free.
    """

    def __init__(
        self,
        slots: int,
        *,
        shared: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
        heard: Callable[[Tenant, int, float], None] = _nobody_listens,
    ) -> None:
        self._slots = slots
        self._clock = clock
        self._turns = Turns(clock, slots, shared=shared, heard=heard)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a slot."""
        return self._turns.waiting

    @contextmanager
    def lease(
        self, tenant: Tenant, standing: Standing = _PLAIN, expected_ns: int = 0
    ) -> Iterator[Slot]:
        """Wait for the turn, and hold a slot."""
        ticket = self._turns.take(tenant, standing, expected_ns)
        began = self._clock()
        slot = Slot(standing, expected_ns)
        try:
            yield slot
        finally:
            busy = self._clock() - began - slot.waited_ns
            self._turns.give(ticket, max(slot.device_ns, busy // self._slots))


class Device:
    """One device, leased to one job at a time, or to `holders` of them.

    `share` is the part of a whole device that it is: 1/7 for one of seven instances
    of a GPU, 1/4 for a quarter of its threads.
    Whose turn it is among tenants, `fairness` says; within a tenant, first come,
    first served.
    """

    def __init__(
        self,
        clocks: Clocks = _REAL,
        *,
        holders: int = 1,
        share: Fraction = Fraction(1),  # immutable
        heard: Callable[[Tenant, int, float], None] = _nobody_listens,
    ) -> None:
        self._clocks = clocks
        self._share = share
        self._sharing = Sharing()
        self._lock = threading.Lock()
        self._turns = Turns(clocks.monotonic, holders, heard=heard)

    @contextmanager
    def lease(
        self,
        tenant: Tenant,
        helpers: Helpers | None = None,
        *,
        slot: Slot | None = None,
    ) -> Iterator[Meter]:
        """Wait for the turn, hold the device, and measure for how long.

        `helpers` are the device's threads, if they work for its holder alone: of
        several holders none can be told what they took.  `slot` is where the job's
        pictures are, and learns of the wait and of the work.
        """
        slot = slot or Slot()
        if helpers is not None:
            helpers.look()
        asked = self._clocks.monotonic()
        ticket = self._turns.take(tenant, slot.standing, slot.expected_ns)
        granted, since = self._begin()
        slot.waited_ns += granted - asked
        wall_ms = self._clocks.wall() // _NS_PER_MS
        meter = Meter(share=self._share, granted_ms=wall_ms)
        cpu, before = self._clocks.thread(), helpers.clocks() if helpers else {}
        try:
            yield meter
        finally:
            meter.cpu_ns = self._clocks.thread() - cpu
            meter.helpers_ns = taken(before, helpers.clocks()) if helpers else 0
            released, meter.earned_ns = self._end(since)
            meter.wall_ns = released - granted
            slot.device_ns += meter.wall_ns
            self._turns.give(ticket, meter.wall_ns)

    def _begin(self) -> tuple[int, Fraction]:
        with self._lock:  # moments in their order
            now = self._clocks.monotonic()
            return now, self._sharing.grant(now)

    def _end(self, since: Fraction) -> tuple[int, Fraction]:
        with self._lock:
            now = self._clocks.monotonic()
            return now, self._sharing.release(now, since)
