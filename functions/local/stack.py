"""The whole of one machine: activator, broker, uploads and timers in one process.

```
run(): lock the home -> prepare it -> read the manifests -> open five sockets
       -> broker, watchers and timers on threads, the activator on this one
       -> until SIGINT or SIGTERM: end the services, then the rest
```
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import knative
from functions.local import wiring
from functions.local.activator import Activator, Limits
from functions.local.broker import Broker
from functions.local.home import Home, Running
from functions.local.ingress import Ingress
from functions.local.polling import POLL_SECONDS, BucketUploads
from functions.local.ports import LOOPBACK, listen, url_of
from functions.local.queue import Queue
from functions.local.status import StackStatus, rss_bytes
from functions.local.tenants import LOOK_SECONDS as ROSTER_SECONDS
from functions.local.tenants import Blueprint, Tenants
from functions.local.timers import PING_SECONDS, Pings, Timer
from functions.local.uploads import LOOK_SECONDS, Uploads
from functions.storage.base import StoreDenied
from functions.structs import prepare
from functions.tenant import REQUESTS

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from functions.local.manifests import Reference
    from functions.roster import Spec
    from functions.storage import Stores
    from functions.tenant import Tenant

log = logging.getLogger(__name__)

DOORS: Final = ("door", "audit", "billing", "broker", "worker")
"""Who listens, in the order of their ports: the door on P, the next on P + 1."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Work for a timer: what to call, and how many seconds apart.

    It is called in the stack's own process: what it imports stays in memory.
    """

    work: Callable[[Running], object]
    seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may be decided beyond the home, the port and the tenants.

    `models` is the prepared pack, by default the newest lite pack in the home;
    `manifests` the folder they lie in; `stores` the tenants', by default folders
    in the home; `settings` what the functions are told besides, see
    `wiring.chosen`.
    """

    idle_seconds: float = 5.0
    models: Path | None = None
    sweep: Sweep | None = None
    limits: Limits = Limits()  # noqa: RUF009  # frozen
    manifests: Path | None = None
    stores: Stores | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


class Stack:
    """One machine in the folder `home`, in the development profile.

    It serves every tenant who has a spec in the home; for those of `tenants` who
    have none it writes one.  `port` is the door's and the others follow; 0 takes
    five free ones.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int,
        tenants: Sequence[Tenant],
        options: Options | None = None,
    ) -> None:
        self._home = Home(home.resolve())
        self._port = port
        self._tenants = tuple(tenants)
        self._options = options or Options()
        self._stoppers: list[Callable[[], None]] = []

    def run(self, on_ready: Callable[[Running], object] = lambda _: None) -> None:
        """Serve until SIGINT, SIGTERM or `stop`, and leave no process behind.

        `on_ready` is called once, on this thread, when every door listens.  Raises
        `HomeTaken`, `PortTaken`, `ManifestError`, and what is wrong with the stores:
        `SettingsError` or a `Problem`.  Call it from the main thread:
        when the thread ends that started a service, the kernel kills the service.
        """
        with ExitStack() as ending:
            ending.callback(os.close, self._home.lock())
            prepare()  # before there are threads
            # Held first: the token and the stores are those of the stack that runs.
            self._home.prepare(self._tenants)
            self._look_into_stores()
            self._put_places()
            folder = self._options.manifests or knative.folder()
            blueprint = Blueprint(folder, DOORS, self._prefix)
            listeners = _listen(self._port, ending)
            urls = {name: url_of(listener) for name, listener in listeners.items()}
            running = Running(os.getpid(), urls)
            broker = self._broker(urls, ending)
            # Closed before the broker: a delivery to a closed socket ends at once.
            activator = self._activator(blueprint, urls, listeners)
            ending.enter_context(closing(activator))
            tenants, timers = self._watchers(blueprint, broker, ending)
            ingress = Ingress(
                broker,
                listener=listeners["broker"],
                status=partial(_status, running, broker, activator),
                refresh=tenants.look,
            )
            timers += self._sweeps(running)
            _start_threads(ingress, broker, timers, ending)
            self._home.announce(running)
            self._stoppers = [broker.pause, activator.stop]
            with _signals(self.stop, activator.waker):
                on_ready(running)
                activator.run()

    def stop(self) -> None:
        """Let `run` return, from any thread: gracefully, at once when asked again."""
        for stop in self._stoppers:
            stop()

    def _activator(
        self,
        blueprint: Blueprint,
        urls: Mapping[str, str],
        listeners: Mapping[str, socket.socket],
    ) -> Activator:
        models = self._options.models or self._home.pack()
        place = wiring.Place(
            home=self._home,
            urls=urls,
            models=models,
            stores=self._options.stores,
            chosen=self._options.settings,
        )
        parts = blueprint.system, blueprint.shared
        specs = [
            wiring.spec(each, place, listener=listeners[each.name])
            for part in parts
            for each in part.services
        ]
        idle = self._options.idle_seconds
        return Activator(specs, replace(self._options.limits, idle_seconds=idle))

    def _broker(self, urls: Mapping[str, str], ending: ExitStack) -> Broker:
        def address(reference: Reference) -> str:
            return urls[reference.name]

        queue = ending.enter_context(closing(Queue(self._home.queue)))
        broker = Broker(queue, brokers=(), triggers=(), address=address)
        ending.callback(broker.stop)
        return broker

    def _watchers(
        self, blueprint: Blueprint, broker: Broker, ending: ExitStack
    ) -> tuple[Tenants, list[Timer]]:
        """Serve whom the specs name, and return them and what keeps looking."""
        stores = self._options.stores
        inside = stores or wiring.stores(self._home, self._options.settings)
        buckets = BucketUploads(inside, (), broker)
        ending.callback(buckets.close)
        folders = Uploads(self._home.tenants, (), broker)
        pings = Pings((), broker, self._home.run / "pinged.json")

        def watch(specs: Sequence[Spec]) -> None:
            """Only the store itself can tell what lies in a bucket, or encrypted."""
            far = [each for each in specs if stores or each.isolation.data > 0]
            buckets.serve([each.tenant for each in far])
            folders.serve([each.id for each in specs if each not in far])

        tenants = Tenants(
            self._home.roster(self._options.settings.get("GUISE_REGION", "")),
            blueprint,
            welcome=self._home.welcome,
            broker=broker,
            watch=watch,
            tick=pings.serve,
        )
        tenants.look()
        return tenants, [
            Timer("tenants", ROSTER_SECONDS, tenants.look),
            Timer("folders", LOOK_SECONDS, folders.look),
            Timer("buckets", POLL_SECONDS, buckets.look),
            Timer("pings", PING_SECONDS, pings.look),
        ]

    def _look_into_stores(self) -> None:
        """Raise what is wrong with the stores that were named, before it matters.

        What is wrong with one tenant's data shuts out that tenant alone.
        """
        stores = self._options.stores
        if stores is None:
            return
        for tenant in self._tenants:
            with suppress(*(() if stores.pinned else (StoreDenied,))):
                stores.of(tenant).list(REQUESTS, limit=1)

    def _put_places(self) -> None:
        """Write down for commands on this home which store and keys are in use."""
        stores = self._options.stores
        pinned = stores.pinned if stores else None
        self._home.put_places(
            store=stores.url if stores else "",
            envelopes=self._options.settings.get(wiring.ENVELOPES, ""),
            tenant=pinned.id if pinned else "",
        )

    def _prefix(self, tenant: Tenant) -> str:
        stores = self._options.stores
        return stores.place(tenant)[1] if stores is not None else ""

    def _sweeps(self, running: Running) -> list[Timer]:
        sweep = self._options.sweep
        if sweep is None:
            return []
        return [Timer("sweep", sweep.seconds, lambda: sweep.work(running))]


def _status(running: Running, broker: Broker, activator: Activator) -> StackStatus:
    return StackStatus(
        pid=running.pid,
        rss_bytes=rss_bytes(),
        urls=dict(running.urls),
        services=activator.snapshot(),
        queue=broker.depth(),
        dead_letters=broker.queue.dead_count(),
    )


def _start_threads(
    ingress: Ingress, broker: Broker, timers: Sequence[Timer], ending: ExitStack
) -> None:
    ending.callback(ingress.close)
    ingress.start()
    broker.start()
    for timer in timers:
        timer.start()
        ending.callback(timer.stop)


def _listen(port: int, ending: ExitStack) -> dict[str, socket.socket]:
    """Open every door, or raise `PortTaken`."""
    listeners = {}
    for offset, name in enumerate(DOORS):
        listener = listen(LOOPBACK, port and port + offset, name)
        ending.callback(listener.close)
        listeners[name] = listener
    return listeners


@contextmanager
def _signals(stop: Callable[[], None], waker: int) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the stack, and wake its selector."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, lambda *_: stop()) for kind in kinds}
    old = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        for kind, handler in before.items():
            signal.signal(kind, handler)
