"""A subscriber that answers as it is told, and brokers that deliver to it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from functions import events
from functions.events import Event
from functions.local import manifests
from functions.local.broker import Broker
from functions.local.filters import parse_all
from functions.local.manifests import Delivery, Reference, Trigger
from functions.local.queue import Queue
from tests.local.rig import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Reply = tuple[int, dict[str, str], bytes]
DONE: Reply = (204, {}, b"")
HOME = "guise-acme"


class Subscriber:
    """Answers every delivery with what `answer` returns for it."""

    def __init__(self, answer: Callable[[Event], Reply]) -> None:
        self.answer = answer
        self.seen: list[Event] = []
        self.at_once_most = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def receive(self, event: Event) -> Reply:
        with self._lock:
            self.seen.append(event)
            self._at_once += 1
            self.at_once_most = max(self.at_once_most, self._at_once)
        try:
            return self.answer(event)
        finally:
            with self._lock:
                self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        subscriber = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                event = events.decode(dict(self.headers.items()), body)
                status, headers, data = subscriber.receive(event)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@contextmanager
def subscriber(
    answer: Callable[[Event], Reply] = lambda _: DONE,
) -> Iterator[Subscriber]:
    """Yield a subscriber that serves."""
    made = Subscriber(answer)
    try:
        yield made
    finally:
        made.close()


def trigger(name: str = "all", **changes: Any) -> Trigger:
    """Return a Trigger that passes everything and tries thrice, quickly."""
    delivery: dict[str, Any] = {
        "retry": 2,
        "policy": "exponential",
        "delay_seconds": 0.02,
        "timeout_seconds": 5.0,
        "dead_letters": Reference("Broker", HOME, "dead-letters"),
    }
    chosen = {key: changes.pop(key) for key in list(changes) if key in delivery}
    fields = {
        "broker": "default",
        "passes": parse_all([]),
        "subscriber": Reference("Service", HOME, "any", "/events"),
        "delivery": Delivery(**(delivery | chosen)),
        **changes,
    }
    return Trigger(HOME, name, **fields)


@contextmanager
def broker(folder: Path, url: str, *triggers: Trigger) -> Iterator[Broker]:
    """Yield a broker that delivers to `url`."""
    queue = Queue(folder / "broker.db")
    made = Broker(
        queue,
        brokers=[manifests.Broker(HOME, "default")],
        triggers=triggers or [trigger()],
        address=lambda _: url,
    )
    made.start()
    try:
        yield made
    finally:
        made.stop()
        queue.close()


def event(number: int = 1, **changes: Any) -> Event:
    """Return a small event."""
    fields = {
        "id": f"id-{number}",
        "source": "/tenants/acme/swap",
        "type": "dev.guise.swap.requested.v1",
        "tenant": "acme",
        "time": "2026-01-01T00:00:00.000Z",
        "data": {"job": f"job-{number}"},
        **changes,
    }
    return Event(**fields)


def drained(made: Broker) -> None:
    """Wait until nothing is owed."""
    until(lambda: not any(made.depth().values()))
