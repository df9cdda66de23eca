"""The broker: takes events, and delivers each to every Trigger it passes.

At least once, and durably: an event is committed before its sender is answered,
and owed until its subscriber has answered.  A kill at any line loses nothing.
Each Trigger has its own few deliveries at a time, and what fails waits in the
file and not on a thread, so no event holds up another; nor does a tenant, see
`shares`.  Tenants come and go while it runs (`serve`).
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions import events
from functions.local.delivery import Outcome, dead_letter, judge
from functions.local.manifests import namespace_of
from functions.local.shares import Shares
from functions.problems import InvalidRequest, NotFound, Problem, Refused, Unavailable
from functions.sink import post_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from functions.events import Event
    from functions.local import manifests
    from functions.local.manifests import Reference, Trigger
    from functions.local.queue import Queue
    from functions.local.stored import Owed

log = logging.getLogger(__name__)

_FAULT_PAUSE_SECONDS: Final = 1.0
_STOP_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Routes:
    """Which brokers there are and who listens; replaced as a whole."""

    brokers: frozenset[tuple[str, str]]
    namespaces: frozenset[str]
    triggers: Mapping[str, Trigger]
    listening: Mapping[tuple[str, str], Sequence[Trigger]]
    held: frozenset[str]


def _routes(
    brokers: Iterable[manifests.Broker],
    triggers: Iterable[Trigger],
    held: Iterable[str],
) -> _Routes:
    keys = frozenset((each.namespace, each.name) for each in brokers)
    by_key = {each.key: each for each in triggers}
    listening = defaultdict(list)
    for each in by_key.values():
        listening[each.namespace, each.broker].append(each)
    homes = frozenset(namespace for namespace, _ in keys)
    return _Routes(keys, homes, by_key, listening, frozenset(held))


class Broker:
    """One machine's brokers over one queue.

    `address` gives the base URL of a subscriber that is referred to.  Brokers,
    Triggers and what is `held` are as in `serve`.
    """

    def __init__(  # all by name
        self,
        queue: Queue,
        *,
        brokers: Iterable[manifests.Broker],
        triggers: Iterable[Trigger],
        address: Callable[[Reference], str],
        held: Iterable[str] = (),
    ) -> None:
        self.queue = queue
        self._routes = _routes(brokers, triggers, held)
        self._address = address
        self._shares = Shares()
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatcher")

    def serve(
        self,
        brokers: Iterable[manifests.Broker],
        triggers: Iterable[Trigger],
        held: Iterable[str] = (),
    ) -> None:
        """Be these brokers from now on, and deliver by these Triggers.

        What is owed in a namespace that is `held` is neither delivered nor given up
        until it is held no more.  What is owed to a Trigger that is gone is a dead
        letter.
        """
        self._routes = _routes(brokers, triggers, held)
        self._work.set()

    def start(self) -> None:
        """Begin to deliver what is owed."""
        self._dispatcher.start()

    def pause(self) -> None:
        """Begin no more deliveries; events are still taken."""
        self._stopping.set()
        self._work.set()

    def stop(self, *, wait_seconds: float = 2.0) -> None:
        """Begin no more deliveries, and wait a moment for those under way.

        What is not settled by then is made again at the next start.
        """
        self.pause()
        deadline = time.monotonic() + wait_seconds
        while self.under_way and time.monotonic() < deadline:
            time.sleep(_STOP_POLL_SECONDS)
        if self._dispatcher.is_alive():
            self._dispatcher.join()

    @property
    def under_way(self) -> int:
        """How many deliveries are being made."""
        return self._shares.total

    def publish(
        self,
        event: Event,
        *,
        namespace: str,
        name: str = "default",
        seen: tuple[str, str, int] | None = None,
    ) -> None:
        """Take an event into a broker, durably when this returns.

        Raises `NotFound` when there is no such broker, `Unavailable` when the
        queue cannot take it.  `seen` is as in `Queue.put`.
        """
        routes = self._routes
        if (namespace, name) not in routes.brokers:
            raise NotFound(f"there is no broker {namespace}/{name}")
        listeners = _listeners(routes, event, namespace, name)
        self.queue.put(event, listeners, seen=seen)
        self._work.set()

    def home_of(self, event: Event) -> str:
        """Return the namespace whose broker takes an event sent to no broker.

        It is the tenant's, or the only one there is.  Raises `InvalidRequest`.
        """
        namespaces = self._routes.namespaces
        own = namespace_of(event.tenant)
        if event.tenant and own in namespaces:
            return own
        if not event.tenant and len(namespaces) == 1:
            return next(iter(namespaces))
        raise InvalidRequest("the event names no tenant that is served here")

    def replay(self, number: int) -> None:
        """Deliver a dead letter anew, or raise `NotFound`."""
        self.queue.replay(number)
        self._work.set()

    def depth(self) -> dict[str, int]:
        """Return how many events each Trigger is owed."""
        return dict.fromkeys(self._routes.triggers, 0) | self.queue.depth()

    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._work.clear()
            pause = self._hand_out()
            self._work.wait(pause)

    def _hand_out(self) -> float | None:
        """Start what is due, and return the seconds until more is (None: never)."""
        routes = self._routes
        try:
            waiting = self.queue.waiting()
            for each in waiting:
                self._bury_if_orphaned(each.trigger, routes)
            self._start_due([each.trigger for each in waiting if each.is_due], routes)
        except Problem as problem:
            log.error("the queue cannot be read: %s", problem)  # noqa: TRY400  # known
            return _FAULT_PAUSE_SECONDS
        later = [each.next_due for each in waiting if each.next_due is not None]
        return max(0.0, min(later) - time.time()) if later else None

    def _bury_if_orphaned(self, key: str, routes: _Routes) -> None:
        """Give up what is owed to a Trigger that is gone, unless it is held."""
        if key in routes.triggers or key.partition("/")[0] in routes.held:
            return
        under_way = self._shares.under_way(key)
        for owed in self.queue.owed_to(key):
            if owed.number not in under_way:
                self.queue.bury(owed, reason="there is no such Trigger any more")

    def _start_due(self, keys: Iterable[str], routes: _Routes) -> None:
        """Start deliveries of the Triggers in `keys`, each tenant in its turn."""
        known = [routes.triggers[key] for key in keys if key in routes.triggers]
        free = [each for each in known if each.namespace not in routes.held]
        heap = [(self._shares.turn(each), each.key) for each in free]
        heapq.heapify(heap)
        while heap:
            turn, key = heapq.heappop(heap)
            trigger = routes.triggers[key]
            now = self._shares.turn(trigger)
            if turn == now and not self._start_next(trigger):
                continue
            heapq.heappush(heap, (self._shares.turn(trigger), key))

    def _start_next(self, trigger: Trigger) -> bool:
        """Start the next delivery of a Trigger, if there is one and a place for it."""
        if not self._shares.admits(trigger):
            return False
        # Before the query: what ends between the two must not be made twice.
        before = self._shares.under_way(trigger.key)
        for owed in self.queue.due(trigger.key, len(before) + 1):
            if owed.number not in before:
                self._shares.begin(trigger, owed.number)
                self._start(trigger, owed)
                return True
        return False

    def _start(self, trigger: Trigger, owed: Owed) -> None:
        # A daemon: a subscriber may take its time, and we may be told to end.
        work = (trigger, owed)
        threading.Thread(target=self._deliver, args=work, daemon=True).start()

    def _deliver(self, trigger: Trigger, owed: Owed) -> None:
        try:
            self._try(trigger, owed)
        except Problem:
            # It stays owed.  Not at once: whatever is wrong would be wrong again.
            log.exception("%s: a delivery could not be settled", trigger.key)
            self._stopping.wait(_FAULT_PAUSE_SECONDS)
        finally:
            self._shares.end(trigger, owed.number)
            self._work.set()

    def _try(self, trigger: Trigger, owed: Owed) -> None:
        try:
            event = owed.event()
            url = self._destination(trigger)
            outcome = _post(url, event, trigger.delivery.timeout_seconds)
            self._settle(trigger, owed, event, outcome)
        except Refused as problem:
            self.queue.bury(owed, reason=f"not a readable event: {problem}")

    def _settle(
        self,
        trigger: Trigger,
        owed: Owed,
        event: Event,
        outcome: Outcome,
    ) -> None:
        if outcome.verdict == "done":
            self._done(trigger, owed, outcome.reply)
        elif self._stopping.is_set():
            pass  # who ended may be us: it stays owed, and no try is counted
        elif outcome.verdict == "again" and owed.attempts < trigger.delivery.retry:
            pause = trigger.delivery.pause_seconds(owed.attempts)
            log.info("%s: %s; again in %.1f s", trigger.key, outcome.reason, pause)
            self.queue.postpone(owed, pause)
        else:
            self._bury(trigger, owed, event, outcome)

    def _bury(
        self,
        trigger: Trigger,
        owed: Owed,
        event: Event,
        outcome: Outcome,
    ) -> None:
        log.warning("%s: %s: a dead letter", trigger.key, outcome.reason)
        destination = self._destination(trigger)
        letter = dead_letter(event, outcome, destination)
        reason = outcome.reason
        self.queue.bury(owed, letter, destination=destination, reason=reason)

    def _destination(self, trigger: Trigger) -> str:
        return self._address(trigger.subscriber) + trigger.subscriber.uri

    def _done(self, trigger: Trigger, owed: Owed, reply: Event | None) -> None:
        listeners: list[str] = []
        if reply is not None:
            namespace, name = trigger.namespace, trigger.broker
            listeners = _listeners(self._routes, reply, namespace, name)
        self.queue.delivered(owed, reply, listeners)


def _listeners(routes: _Routes, event: Event, namespace: str, name: str) -> list[str]:
    attributes = {
        key: str(value) for key, value in events.as_dict(event).items() if key != "data"
    }
    there = routes.listening.get((namespace, name), ())
    return [trigger.key for trigger in there if trigger.passes(attributes)]


def _post(destination: str, event: Event, timeout: float) -> Outcome:
    try:
        answer = post_event(destination, event, timeout=timeout)
    except Unavailable as error:
        return judge(str(error), event)
    return judge(answer, event)
