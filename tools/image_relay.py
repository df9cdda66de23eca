"""What stands for the broker between containers, and keeps what passes through it.

`POST /broker` goes on to audit or to billing by its type, as the Triggers have it; any
other path is audit's own, which the worker and the door ask through here.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import msgspec

from functions import events, sink
from functions.sink import Answer, Receipt

_HOP: Final = frozenset({"host", "connection", "content-length", "transfer-encoding"})
SECONDS: Final = 60.0


class Relay:
    """A server at `url`, with what was delivered (headers) and what audit receipted."""

    def __init__(self, audit: str, billing: str) -> None:
        self.delivered: list[dict[str, str]] = []
        self.receipts: list[Receipt] = []
        self._audit, self._billing = audit, billing
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): told for name, told in self.headers.items()}
                answer = relay.pass_on(self.path, headers, self.rfile.read(length))
                self._answer(answer)

            def do_GET(self) -> None:
                self._answer(sink.get(audit + self.path, {}, timeout=SECONDS))

            def _answer(self, answer: Answer) -> None:
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("content-type", ""))
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def pass_on(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send a request to whom it is for, and return the answer."""
        to = self._audit + path
        if path == "/broker":
            self.delivered.append(headers)
            usage = headers.get("ce-type") == events.USAGE_RECORDED
            place = self._billing if usage else self._audit
            to = f"{place}/v1/tenants/{headers.get('ce-tenant', '')}/events"
        kept = {name: told for name, told in headers.items() if name not in _HOP}
        answer = sink.post(to, kept, body, timeout=SECONDS)
        with suppress(msgspec.DecodeError):  # an answer without one
            self.receipts.append(msgspec.json.decode(answer.body, type=Receipt))
        return answer

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
