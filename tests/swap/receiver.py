"""A tenant's own server on this machine, which webhooks call."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Receiver:
    """Keeps headers, in lower case, and bodies; the last of `statuses` is for good."""

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [204])
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who hangs up, or trusts us not, is the test's affair."""


@contextmanager
def receiving(*, silent: bool = False, chain: Path | None = None) -> Iterator[Receiver]:
    """Yield a receiver; with `chain`, a PEM file, it speaks TLS."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # http.server's name
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if silent:
                receiver.ended.wait(10)
                return
            names = {name.lower(): value for name, value in self.headers.items()}
            receiver.seen.append((names, body))
            more = len(receiver.statuses) > 1
            status = receiver.statuses.pop(0) if more else receiver.statuses[0]
            self.send_response(status)
            if status in range(300, 400):
                self.send_header("Location", receiver.url)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        scheme = "http"
        if chain is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        receiver.url = f"{scheme}://127.0.0.1:{server.server_port}/hooks"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.ended.set()
            server.shutdown()
            thread.join()
