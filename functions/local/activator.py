"""The activator: no process at rest, and no connection lost.

It opens each service's listening socket and keeps it.  When a connection waits,
it starts a gunicorn on the socket; when that has been idle for long enough, it
asks it to end, waits until the last of its processes is gone, and looks at the
socket again.  In between the kernel queues.  There are never two of one service.
A request that has outlived the manifest's timeout counts as idling: it hangs.

```
asleep --connection--> starting --ready--> awake --idle--> ending --gone--> asleep
                          |                  |
                          +---- ended unasked, thrice ----> failing --a while--> asleep
```
While failing, the activator itself answers 503.  Everything happens on the one
thread that calls `run`; only `stop` and `snapshot` may be called from others.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from functions.local.apology import Apologist
from functions.local.ports import url_of
from functions.local.process import Gunicorn, Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)

State = Literal["asleep", "starting", "awake", "ending", "failing"]
_STOPPING_IDLE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long everything may take, and how often it may go wrong."""

    idle_seconds: float = 5.0
    boot_seconds_max: float = 60.0
    end_seconds_max: float = 10.0
    """From the request to end, nothing in flight, to the end by force."""
    stop_seconds_max: float = 30.0
    failures_max: int = 3
    apology_seconds: float = 10.0


class ServiceStatus(msgspec.Struct, frozen=True):
    """What one service is doing.  `starts` counts since the activator began."""

    name: str
    url: str
    state: State
    pids: tuple[int, ...]
    starts: int
    boot_seconds: float
    """From the waiting connection to the loaded application, the last time."""


class Service:
    """One service: its socket, its state, and its gunicorn when it has one."""

    def __init__(self, spec: Spec, limits: Limits) -> None:
        self.spec = spec
        self.state: State = "asleep"
        self.gunicorn: Gunicorn | None = None
        self.starts = 0
        self.boot_seconds = 0.0
        self._limits = limits
        self._failures = 0
        self._since = 0.0

    def status(self) -> ServiceStatus:
        """Return what it is doing."""
        gunicorn = self.gunicorn
        return ServiceStatus(
            name=self.spec.name,
            url=url_of(self.spec.listener),
            state=self.state,
            pids=gunicorn.pids if gunicorn else (),
            starts=self.starts,
            boot_seconds=self.boot_seconds,
        )

    def start(self) -> Gunicorn | None:
        """Start its gunicorn, and return it if that is possible."""
        self._enter("starting")
        self.starts += 1
        try:
            self.gunicorn = Gunicorn(self.spec)
        except OSError as error:
            self._failed(str(error))
        return self.gunicorn

    def heard(self, gunicorn: Gunicorn) -> None:
        """Draw the conclusions from what the gunicorn has told."""
        if self.state == "starting" and gunicorn.ready:
            self.boot_seconds = time.monotonic() - self._since
            self._enter("awake")
        elif self.state != "starting" and not gunicorn.in_flight:
            self._since = time.monotonic()
        if gunicorn.answered:
            self._failures = 0

    def deadline(self, idle_seconds: float) -> float:
        """Return when, by the monotonic clock, something must happen here."""
        if self.state == "asleep":
            return float("inf")
        busy_until = self.gunicorn.busy_until if self.gunicorn else None
        if busy_until is not None and self.state == "awake":
            return busy_until
        waits = {
            "starting": self._limits.boot_seconds_max,
            "awake": idle_seconds,
            "ending": self._limits.end_seconds_max,
            "failing": self._limits.apology_seconds,
        }
        # While it ends, what is under way has its whole time; and who was killed
        # for it, whose `_since` is infinite, is not killed again.
        return max(self._since + waits[self.state], busy_until or 0.0)

    def wind_down(self) -> None:
        """End its gunicorn now rather than when it has been idle.

        What is starting has taken no connection yet, and a worker may miss the
        signal while it is being forked: it is killed.
        """
        if self.gunicorn is None or self.state == "ending":
            return
        end = self.gunicorn.kill if self.state == "starting" else self.gunicorn.end
        self._enter("ending")
        end()

    def overdue(self) -> None:
        """Do what is to be done at the deadline."""
        if self.state == "failing":
            self._enter("asleep")
        elif self.state == "awake":
            if self.gunicorn and self.gunicorn.in_flight:
                limit = self.spec.timeout_seconds
                log.warning("%s: a request took over %d s", self.spec.name, limit)
            self.wind_down()
        elif self.gunicorn is not None:
            log.warning("%s: %s for too long: killed", self.spec.name, self.state)
            self.gunicorn.kill()
            self._since = float("inf")

    def ended(self, gunicorn: Gunicorn) -> None:
        """Take note that the last process of its gunicorn is gone."""
        self.gunicorn = None
        asked = self.state == "ending"
        status = gunicorn.reap()
        self._enter("asleep")
        if not asked:
            self._failed(f"status {status}: {gunicorn.cause()}")

    def _failed(self, cause: str) -> None:
        self._failures += 1
        name = self.spec.name
        log.error("%s ended unasked: %s", name, cause)
        self._enter("asleep")
        if self._failures >= self._limits.failures_max:
            log.error("%s: answering 503; its log: %s", name, self.spec.log)
            self._enter("failing")

    def _enter(self, state: State) -> None:
        self.state = state
        self._since = time.monotonic()


class Activator:
    """Runs services while somebody asks for them.

    It owns the sockets it is given, and closes them in `close`.
    """

    def __init__(self, specs: Iterable[Spec], limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._selector = selectors.DefaultSelector()
        self._apologist = Apologist()
        self._ear, self._mouth = socket.socketpair()
        self._ear.settimeout(0)
        self._mouth.settimeout(0)
        self._selector.register(self._ear, selectors.EVENT_READ, self._woken)
        self._stops = 0
        self._stop_by = float("inf")
        self._services = [Service(spec, self._limits) for spec in specs]

    def snapshot(self) -> tuple[ServiceStatus, ...]:
        """Return what every service is doing; asking wakes nothing."""
        return tuple(service.status() for service in self._services)

    @property
    def waker(self) -> int:
        """A descriptor for `signal.set_wakeup_fd`, so that a signal is seen at once."""
        return self._mouth.fileno()

    def stop(self) -> None:
        """Let `run` end: gracefully when asked once, at once when asked again."""
        self._stops += 1
        with suppress(BlockingIOError):
            self._mouth.send(b"\0")

    def run(self) -> None:
        """Serve until `stop`, and return when every service has ended."""
        for service in self._services:
            self._watch(service)
        while not self._finished():
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._meet_deadlines()

    def close(self) -> None:
        """Leave nothing behind: no process, no socket."""
        self._selector.close()
        self._apologist.close()
        for service in self._services:
            if service.gunicorn:
                service.gunicorn.kill()
                service.gunicorn.reap()
            service.spec.listener.close()
        self._ear.close()
        self._mouth.close()

    def _woken(self) -> None:
        self._ear.recv(4096)

    def _timeout(self) -> float | None:
        first = min(self._stop_by, *map(self._deadline, self._services))
        if first == float("inf"):
            return None
        return max(0.0, first - time.monotonic())

    def _deadline(self, service: Service) -> float:
        idle = _STOPPING_IDLE_SECONDS if self._stops else self._limits.idle_seconds
        return service.deadline(idle)

    def _meet_deadlines(self) -> None:
        now = time.monotonic()
        for service in self._services:
            if self._deadline(service) <= now:
                service.overdue()
        if self._stop_by <= now or self._stops > 1:
            self._kill_all()

    def _watch(self, service: Service) -> None:
        """Wake the service when somebody connects."""
        waiting = self._on_connection(service)
        self._selector.register(service.spec.listener, selectors.EVENT_READ, waiting)

    def _on_connection(self, service: Service) -> Callable[[], None]:
        def on_connection() -> None:
            if service.state == "failing":
                self._apologist.answer(service.spec.listener)
                return
            gunicorn = service.start()
            if gunicorn is not None:
                self._selector.unregister(service.spec.listener)
                told = self._on_told(service, gunicorn)
                self._selector.register(gunicorn.pipe, selectors.EVENT_READ, told)

        return on_connection

    def _on_told(self, service: Service, gunicorn: Gunicorn) -> Callable[[], None]:
        def on_told() -> None:
            if gunicorn.listen():
                service.heard(gunicorn)
                return
            self._selector.unregister(gunicorn.pipe)
            service.ended(gunicorn)
            if not (self._stops and service.spec.public):
                self._watch(service)

        return on_told

    def _finished(self) -> bool:
        """Return whether we were asked to stop and nothing runs any more."""
        if self._stops and self._stop_by == float("inf"):
            self._stop_by = time.monotonic() + self._limits.stop_seconds_max
            for service in self._services:
                self._wind_down(service)
        running = any(service.gunicorn for service in self._services)
        return bool(self._stops) and not running

    def _wind_down(self, service: Service) -> None:
        """End the service; who is not public may still wake while others end."""
        if service.spec.public and service.gunicorn is None:
            self._selector.unregister(service.spec.listener)
        service.wind_down()

    def _kill_all(self) -> None:
        for service in self._services:
            if service.gunicorn:
                service.gunicorn.kill()
