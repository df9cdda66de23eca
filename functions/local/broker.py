"""The broker: takes events, and delivers each to every Trigger it passes.

At least once, and durably: an event is committed before its sender is answered,
and owed until its subscriber has answered.  A kill at any line loses nothing.
Each Trigger has its own few deliveries at a time, and what fails waits in the
file and not on a thread, so no event holds up another.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from functions import events
from functions.local.delivery import Outcome, dead_letter, judge
from functions.local.manifests import namespace_of
from functions.problems import InvalidRequest, NotFound, Problem, Refused, Unavailable
from functions.sink import post_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from functions.events import Event
    from functions.local import manifests
    from functions.local.manifests import Reference, Trigger
    from functions.local.queue import Owed, Queue

log = logging.getLogger(__name__)

AT_ONCE_MAX: Final = 8
"""Deliveries of one Trigger under way at a time."""
_FAULT_PAUSE_SECONDS: Final = 1.0
_STOP_POLL_SECONDS: Final = 0.02


class Broker:
    """One machine's brokers over one queue.

    `address` gives the base URL of a subscriber that is referred to.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        brokers: Iterable[manifests.Broker],
        triggers: Iterable[Trigger],
        address: Callable[[Reference], str],
    ) -> None:
        self.queue = queue
        self._brokers = {(each.namespace, each.name) for each in brokers}
        self._triggers = {each.key: each for each in triggers}
        self._address = address
        self._under_way: dict[str, set[int]] = {key: set() for key in self._triggers}
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatcher")

    def start(self) -> None:
        """Begin to deliver what is owed."""
        for owed in self.queue.orphans(self._triggers):
            self.queue.bury(owed, reason="there is no such Trigger any more")
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
        return sum(map(len, self._under_way.values()))

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
        if (namespace, name) not in self._brokers:
            raise NotFound(f"there is no broker {namespace}/{name}")
        self.queue.put(event, self._listeners(event, namespace, name), seen=seen)
        self._work.set()

    def home_of(self, event: Event) -> str:
        """Return the namespace whose broker takes an event sent to no broker.

        It is the tenant's, or the only one there is.  Raises `InvalidRequest`.
        """
        namespaces = {namespace for namespace, _ in self._brokers}
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
        return dict.fromkeys(self._triggers, 0) | self.queue.depth()

    def _listeners(self, event: Event, namespace: str, name: str) -> list[str]:
        attributes = {
            key: str(value)
            for key, value in events.as_dict(event).items()
            if key != "data"
        }
        return [
            key
            for key, trigger in self._triggers.items()
            if (trigger.namespace, trigger.broker) == (namespace, name)
            and trigger.passes(attributes)
        ]

    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._work.clear()
            pause = self._hand_out()
            self._work.wait(pause)

    def _hand_out(self) -> float | None:
        """Start what is due, and return the seconds until more is (None: never)."""
        try:
            for trigger in self._triggers.values():
                self._start_due(trigger)
            due = self.queue.next_due()
        except Problem as problem:
            log.error("the queue cannot be read: %s", problem)  # noqa: TRY400  # known
            return _FAULT_PAUSE_SECONDS
        return None if due is None else max(0.0, due - time.time())

    def _start_due(self, trigger: Trigger) -> None:
        under_way = self._under_way[trigger.key]
        # Before the query: what ends between the two must not be made twice.
        before = frozenset(under_way)
        if len(before) >= AT_ONCE_MAX:
            return
        due = self.queue.due(trigger.key, AT_ONCE_MAX)
        new = [owed for owed in due if owed.number not in before]
        for owed in new[: AT_ONCE_MAX - len(before)]:
            under_way.add(owed.number)
            self._start(trigger, owed)

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
            self._under_way[trigger.key].discard(owed.number)
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
            listeners = self._listeners(reply, trigger.namespace, trigger.broker)
        self.queue.delivered(owed, reply, listeners)


def _post(destination: str, event: Event, timeout: float) -> Outcome:
    try:
        answer = post_event(destination, event, timeout=timeout)
    except Unavailable as error:
        return judge(str(error), event)
    return judge(answer, event)
