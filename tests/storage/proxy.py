"""A way to a server on which things go wrong, as often as one asks for."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 64 * 1024
_OURS = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})

Wrong = Callable[["Handler"], None]
"""What goes wrong with one request, instead of what would go right."""


@dataclass
class Proxy:
    """Passes requests on to `server`; each is noted, and may go `wrong`.

    `left` says how many more will, of those whose method and path `which` fits.
    """

    server: str
    endpoint: str = ""
    wrong: Wrong | None = None
    left: int = 0
    which: str = ""
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def goes(self, wrong: Wrong, *, times: int = 10**9, which: str = "") -> None:
        """Let it go wrong from now on."""
        self.wrong, self.left, self.which = wrong, times, which

    def turn(self, request: str) -> Wrong | None:
        """Return what goes wrong with this one, if anything does."""
        with self.lock:
            self.seen.append(request)
            if self.wrong is None or not self.left or self.which not in request:
                return None
            self.left -= 1
            return self.wrong


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy
    body: bytes = b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # whoever asked has given up
            self.close_connection = True

    def do_GET(self) -> None:  # http.server's name
        wrong = self.proxy.turn(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if wrong is None:
            self.pass_on()
        else:
            wrong(self)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  # its names

    def ask(self) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the server's answer, and the whole of its body."""
        parts = urlsplit(self.proxy.server)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _OURS}
        connection.request(self.command, self.path, self.body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def head(self, answer: http.client.HTTPResponse) -> None:
        """Pass the head of an answer on."""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {*_OURS, "date", "server"}:
                self.send_header(name, value)
        self.end_headers()

    def pass_on(self) -> None:
        """Do as if we were not there."""
        answer, data = self.ask()
        self.head(answer)
        self.wfile.write(data)


@contextmanager
def to(server: str) -> Iterator[Proxy]:
    """Yield a proxy to `server`."""
    proxy = Proxy(server)
    handler = type("Ours", (Handler,), {"proxy": proxy})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        listening.block_on_close = False
        proxy.endpoint = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            listening.shutdown()
            thread.join()


def answering(status: int, code: str) -> Wrong:
    """Answer with a refusal as S3 words it."""

    def wrong(handler: Handler) -> None:
        text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/xml")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(text)

    return wrong


def silent(handler: Handler) -> None:
    """Take the request and never answer."""
    handler.proxy.ended.wait(60)
    handler.close_connection = True


def hanging_up(handler: Handler) -> None:
    """Close the connection, the request not passed on."""
    handler.close_connection = True


def losing(handler: Handler) -> None:
    """Let it be done, and lose the answer."""
    handler.ask()
    handler.close_connection = True


def cut(after: int) -> Wrong:
    """Close the connection amid the body."""

    def wrong(handler: Handler) -> None:
        answer, data = handler.ask()
        handler.head(answer)
        handler.wfile.write(data[:after])
        handler.close_connection = True

    return wrong


def stalled(after: int) -> Wrong:
    """Say nothing more amid the body."""

    def wrong(handler: Handler) -> None:
        answer, data = handler.ask()
        handler.head(answer)
        handler.wfile.write(data[:after])
        handler.wfile.flush()
        silent(handler)

    return wrong


def flipped(at: int) -> Wrong:
    """Change one bit of the body that comes back."""

    def wrong(handler: Handler) -> None:
        answer, data = handler.ask()
        handler.head(answer)
        handler.wfile.write(_flip(data, at))

    return wrong


def flipped_there(at: int) -> Wrong:
    """Change one bit of the body on its way to the server."""

    def wrong(handler: Handler) -> None:
        handler.body = _flip(handler.body, at)
        handler.pass_on()

    return wrong


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
