"""Work that is done every so often, while the stack runs."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from functions import events
from functions.events import Event
from functions.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from functions.local.broker import Broker
    from functions.local.manifests import Ping

log = logging.getLogger(__name__)

PING_SECONDS: Final = 60.0
"""How often it is looked whether a PingSource is due."""


class Timer:
    """Calls `work` every `seconds`, counted from the end of the last call.

    A call that fails is logged, and the next is made all the same.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        self._name = name
        self._seconds = seconds
        self._work = work
        self._stopping = threading.Event()
        # A daemon: a call that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call is due after one interval."""
        self._thread.start()

    def stop(self, *, wait_seconds: float = 2.0) -> None:
        """Make no more calls, and wait a moment for the one under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._work()
            except Exception:
                log.exception("the timer %s failed", self._name)


def _now() -> datetime:
    return datetime.now(UTC)


class Pings:
    """What PingSources do on a cluster: an event each, once a day.

    A machine that was off when one was due makes up for it as soon as it is on.
    `file` remembers the day of each, over restarts; an event that went out and was
    not remembered goes out again, under the same id.
    """

    def __init__(
        self,
        pings: Sequence[Ping],
        broker: Broker,
        file: Path,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._pings = pings
        self._broker = broker
        self._file = file
        self._now = now

    def serve(self, pings: Sequence[Ping]) -> None:
        """Send these from now on."""
        self._pings = pings

    def look(self) -> None:
        """Send what is due and was not sent today.  One that fails keeps no other."""
        now = self._now()
        today, minutes = now.date().isoformat(), now.hour * 60 + now.minute
        sent = self._sent()
        for ping in self._pings:
            if minutes >= ping.minutes and sent.get(ping.source) != today:
                try:
                    self._send(ping, now)
                except Problem:
                    log.exception("the ping %s cannot be sent", ping.source)
                    continue
                sent[ping.source] = today
                self._file.write_bytes(msgspec.json.encode(sent))

    def _send(self, ping: Ping, now: datetime) -> None:
        event = Event(
            id=events.derived_id(ping.source, now.date().isoformat()),
            source=ping.source,
            type=events.PING,
            time=events.rfc3339(now),
        )
        self._broker.publish(event, namespace=ping.namespace, name=ping.broker)

    def _sent(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
