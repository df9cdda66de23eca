"""The broker's door: events in, and what an operator asks of the machine.

* `POST /` and `POST /<namespace>/<broker>`: a CloudEvent; 202 when it is durable
* `GET /status`: the machine's state; asking wakes nothing
* `GET /dead-letters`, `POST /dead-letters/<number>/replay`

On loopback only.  It asks nobody who they are: an event is a hint, and audit and
billing trust signatures.
"""

from __future__ import annotations

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.problems import Failed, InvalidRequest, NotFound, Problem, TooLarge

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from functions.events import Event
    from functions.local.broker import Broker

log = logging.getLogger(__name__)

_THREADS_MAX: Final = 32
_SECONDS_MAX: Final = 10.0
_POLL_SECONDS: Final = 0.2
_DIGITS_MAX: Final = 18  # what Python, SQLite and any count of ours can hold


class Ingress:
    """Serves a broker on `listener`; `status` returns what `/status` shows.

    `refresh` is called when an event is for a tenant that the broker does not know:
    it may have come a moment ago.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        listener: socket.socket,
        status: Callable[[], object],
        refresh: Callable[[], object] = lambda: None,
    ) -> None:
        self._server = _Server(listener, broker, status, refresh)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_POLL_SECONDS,),
            name="ingress",
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        listener: socket.socket,
        broker: Broker,
        status: Callable[[], object],
        refresh: Callable[[], object],
    ) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.broker = broker
        self.status = status
        self.refresh = refresh
        self._slots = threading.BoundedSemaphore(_THREADS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # the library's
        """Answer on a thread of its own, when there is one left."""
        self._slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # the library's
        """Answer, and give the thread back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002  # the library's
        """Log who went away in the middle of it."""
        log.debug("a request was not finished", exc_info=True)  # noqa: LOG014  # in an except block of the library


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS_MAX
    server: _Server

    def do_POST(self) -> None:
        """Take an event, or replay a dead letter."""
        self._answer(self._post)

    def do_GET(self) -> None:
        """Show the machine's state."""
        self._answer(self._get)

    def _answer(self, work: Callable[[], tuple[int, object]]) -> None:
        self.close_connection = True
        try:
            status, document = work()
        except Problem as problem:
            status, document = problem.status, problem.document()
        except Exception:
            log.exception("%s %s", self.command, self.path)
            status, document = Failed.status, Failed().document()
        self._send(status, document)

    def _post(self) -> tuple[int, object]:
        body = self._body()
        match self.path.split("/")[1:]:
            case [""]:
                self._publish(events.decode(self._headers(), body))
            case ["dead-letters", number, "replay"] if _is_number(number):
                self.server.broker.replay(int(number))
            case [namespace, name]:
                event = events.decode(self._headers(), body)
                self._publish(event, namespace, name)
            case _:
                raise NotFound("there is no such page")
        return 202, None

    def _publish(
        self, event: Event, namespace: str = "", name: str = "default"
    ) -> None:
        """Publish, and once more if the tenant has only just come."""
        broker = self.server.broker
        try:
            broker.publish(
                event, namespace=namespace or broker.home_of(event), name=name
            )
        except (InvalidRequest, NotFound):
            self.server.refresh()
            broker.publish(
                event, namespace=namespace or broker.home_of(event), name=name
            )

    def _get(self) -> tuple[int, object]:
        match self.path:
            case "/status":
                return 200, self.server.status()
            case "/dead-letters":
                return 200, self.server.broker.queue.dead_letters()
        raise NotFound("there is no such page")

    def _headers(self) -> dict[str, str]:
        return dict(self.headers.items())

    def _body(self) -> bytes:
        length = self.headers.get("content-length", "")
        if not _is_number(length):
            raise InvalidRequest("send a Content-Length")
        if int(length) > events.EVENT_BYTES_MAX:
            raise TooLarge(f"an event has at most {events.EVENT_BYTES_MAX} bytes")
        return self.rfile.read(int(length))

    def _send(self, status: int, document: object) -> None:
        body = b"" if document is None else msgspec.json.encode(document)
        kind = "application/json" if status == 200 else "application/problem+json"  # noqa: PLR2004  # OK
        self.send_response(status)
        if body:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's
        """Log below what anybody reads."""
        log.debug(format, *args)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS_MAX
