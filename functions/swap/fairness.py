"""Whose turn it is.  Whoever calls gives the time.

**Turns** are start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair
Queueing", SIGCOMM 1996).  Time here is virtual: what a tenant of weight 1 would have
had of the resource.

    start  = max(virtual time when it was asked, the tenant's finish)
    finish = start + cost / weight
    next   = the least start;   virtual time = that start, and it never goes back

A cost is expected when the turn is given, and corrected to what it was when it ends: a
tenant pays for what it took and never for what we guessed.  Who comes back from doing
nothing starts at the virtual time, with neither credit nor debt.

**Priorities** warp (K. J. Duda, D. R. Cheriton, "Borrowed-virtual-time scheduling",
SOSP 1999): for each step above the lowest, a tenant is looked at as if its start were
`WARP_NS` less.  It is a loan, for the tenant pays all the same: one with a backlog is
back among the others once it has had that much more.  And a tenant that waits *ages*:
its priority is a step higher for each `AGING_NS` in which it had no turn.

So, over any time in which tenants f and m both have something waiting for one resource,
with c the largest cost of either,

    |had(f) / weight(f) - had(m) / weight(m)| <= c(f) / weight(f) + c(m) / weight(m)

(Goyal's Theorem 1) as long as no priority counts, and `2 * PRIORITY_MAX * WARP_NS` more
at most where one does.  After `PRIORITY_MAX * AGING_NS` none counts against who waits:
only those are ahead whom plain queueing has ahead.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from functions.swap.job import SwapJob
    from functions.tenant import Tenant

PRIORITY_MAX: Final = 2
WARP_NS: Final = 250_000_000
AGING_NS: Final = 1_000_000_000
MIXED_NS: Final = 10_000_000_000
"""For so long after two tenants asked in turn, others are expected to come."""
_MEAN_OF: Final = 8
"""A running mean moves by an eighth of the way, as TCP's does (RFC 6298)."""
_FIRST_NS: Final = 20_000_000
"""Of the device, for each unit of `load`, as long as nothing has been measured."""
_PIXELS_A_BYTE: Final = 4
_FACES_OF_ALL: Final = 4
_MEGA: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What a tenant is due beside others: its share, and how soon its turn comes."""

    weight: Fraction = Fraction(1)  # immutable
    priority: int = 0


_PLAIN: Final = Standing()


@dataclass(slots=True, eq=False)
class Ticket:
    """One who asked for a turn, at a moment and at a virtual time."""

    tenant: Tenant
    standing: Standing
    expected_ns: int
    asked_ns: int
    virtual: Fraction
    number: int


@dataclass(slots=True)
class _Flow:
    """One tenant's: those of its jobs that wait, and how many have their turn."""

    finish: Fraction = Fraction(0)  # immutable
    waiting: deque[Ticket] = field(default_factory=deque)
    holding: int = 0
    granted_ns: int = 0
    """When it had its last turn."""

    def start(self) -> Fraction:
        """Return where the first that waits would start."""
        return max(self.finish, self.waiting[0].virtual)

    def ahead_ns(self, now_ns: int) -> int:
        """Return how much earlier that is looked at: by priority, and by waiting."""
        first = self.waiting[0]
        waited = now_ns - max(first.asked_ns, self.granted_ns)
        lifted = first.standing.priority + waited // AGING_NS
        return min(PRIORITY_MAX, lifted) * WARP_NS


class FairQueue:
    """Tickets of many tenants, and whose turn it is.

    Of `shared` slots each of k tenants has a k+1st part at most, and one at least: the
    last part is kept free for who comes next, as long as somebody may be expected.
    """

    def __init__(self, shared: int | None = None) -> None:
        self._shared = shared
        self._flows: dict[Tenant, _Flow] = {}
        self._virtual = Fraction(0)
        self._asked = 0
        self._asker: Tenant | None = None
        self._mixed_until_ns: int | None = None

    def __len__(self) -> int:
        """Return how many tenants something is remembered of."""
        return len(self._flows)

    def ask(
        self,
        tenant: Tenant,
        now_ns: int,
        standing: Standing = _PLAIN,
        expected_ns: int = 0,
    ) -> Ticket:
        """Have somebody wait; `expected_ns` is what the turn is expected to cost."""
        self._asked += 1
        if self._asker not in {None, tenant}:
            self._mixed_until_ns = now_ns + MIXED_NS
        self._asker = tenant
        ticket = Ticket(
            tenant, standing, expected_ns, now_ns, self._virtual, self._asked
        )
        self._flows.setdefault(tenant, _Flow()).waiting.append(ticket)
        return ticket

    def grant(self, now_ns: int) -> Ticket | None:
        """Give the next one its turn; None where nobody waits who may have one."""
        most = self._most(now_ns)
        able = [
            flow
            for flow in self._flows.values()
            if flow.waiting and (most is None or flow.holding < most)
        ]
        if not able:
            return None
        starts = {id(flow): flow.start() for flow in able}

        def order(flow: _Flow) -> tuple[Fraction, int]:
            return starts[id(flow)] - flow.ahead_ns(now_ns), flow.waiting[0].number

        flow = min(able, key=order)
        # Of all who wait: whoever goes first by priority is ahead of the virtual time.
        self._virtual = max(self._virtual, min(starts.values()))
        ticket = flow.waiting.popleft()
        flow.finish = starts[id(flow)] + _charge(ticket.expected_ns, ticket)
        flow.holding += 1
        flow.granted_ns = now_ns
        return ticket

    def settle(self, ticket: Ticket, took_ns: int) -> None:
        """End a turn, and charge what it took in place of what was expected."""
        flow = self._flows[ticket.tenant]
        flow.holding -= 1
        flow.finish += _charge(took_ns - ticket.expected_ns, ticket)
        self._forget()

    def _most(self, now_ns: int) -> int | None:
        """Return how many turns one tenant may have now; None for any number."""
        mixed = self._mixed_until_ns is not None and now_ns < self._mixed_until_ns
        if self._shared is None or not mixed:
            return None
        here = sum(bool(each.waiting or each.holding) for each in self._flows.values())
        return max(1, self._shared // (here + 1))

    def _forget(self) -> None:
        """Drop those who would start at the virtual time anyway."""
        if not any(flow.waiting or flow.holding for flow in self._flows.values()):
            self._flows.clear()  # idle: everybody starts anew
            self._virtual = Fraction(0)
            return
        behind = [
            tenant
            for tenant, flow in self._flows.items()
            if not (flow.waiting or flow.holding) and flow.finish <= self._virtual
        ]
        for tenant in behind:
            del self._flows[tenant]


def _charge(ns: int, ticket: Ticket) -> Fraction:
    return Fraction(ns) / ticket.standing.weight


class Estimates:
    """What jobs are expected to take of the device: a running mean by operation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._means: dict[str, float] = {}

    def expect(self, operation: str, load: float) -> int:
        """Return the nanoseconds that a job with this `load` is expected to take."""
        with self._lock:
            return int(self._means.get(operation, _FIRST_NS) * load)

    def learn(self, operation: str, load: float, took_ns: int) -> None:
        """Take account of what a job took."""
        each = took_ns / load
        with self._lock:
            mean = self._means.get(operation, each)
            self._means[operation] = mean + (each - mean) / _MEAN_OF


def load(job: SwapJob, input_bytes: int) -> float:
    """Return how much work a job is, in faces and megapixels: a face is as one.

    Before anything is fetched, pixels are what the stored bytes may come to: a good
    JPEG has two bits a pixel.  What such a guess is off by, on average, the running
    mean of the same operation is off by the other way.
    """
    faces = job.faces
    if isinstance(faces, list):
        asked = len(faces)
    else:
        asked = _FACES_OF_ALL if faces == "all" else 1
    times = job.request.options.upscale or 1
    return asked + input_bytes * _PIXELS_A_BYTE * times**2 / _MEGA
