"""A token issuer at a real https socket, which an attacker may have bent."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from tests.certificates import self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass
class Issuer:
    """What the server answers, and the paths that it was asked for, as whom.

    `pause` is how many seconds it waits before each byte of a body.
    """

    url: str
    context: ssl.SSLContext
    certificate: str
    answer: tuple[int, Mapping[str, str], bytes] = (200, {}, b"")
    pause: float = 0.0
    seen: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Issuer]:
        """Serve until the block ends, by a certificate that `context` vouches for."""
        pem, key = self_signed("127.0.0.1")
        server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(pem + key)
            file.flush()
            context.load_cert_chain(file.name)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        made = cls(
            f"https://127.0.0.1:{server.server_port}/jwks",
            ssl.create_default_context(cadata=pem),
            pem,
        )
        server.RequestHandlerClass = _handler(made)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hangs up is expected
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            made.pause = 0
            server.shutdown()
            thread.join()
            server.server_close()


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.seen.append(self.path)
            issuer.sent.append(self.headers.get("Authorization", ""))
            status, headers, body = issuer.answer
            self.send_response(status)
            for name, text in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            step = 1 if issuer.pause else max(1, len(body))
            with suppress(OSError):  # the client has had enough
                for start in range(0, len(body), step):
                    time.sleep(issuer.pause)
                    self.wfile.write(body[start : start + step])
                    self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base
            """Be silent."""

    return Handler
