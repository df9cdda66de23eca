"""An OpenTelemetry collector for tests: takes OTLP in JSON, and keeps it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Labels = tuple[tuple[str, str], ...]


class Collector(ThreadingHTTPServer):
    """Keeps each document under the path that it came to; `status` is its answer.

    A path in `failing` gets 503, and what came to it is not kept.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.status = 200
        self.failing: set[str] = set()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def points(self, name: str) -> dict[Labels, list[dict[str, Any]]]:
        """Return every point of a metric so far, by its labels but for the version."""
        found: dict[Labels, list[dict[str, Any]]] = {}
        for metric in self.metrics():
            if metric["name"] != name:
                continue
            kind = next(
                each for each in ("sum", "gauge", "histogram") if each in metric
            )
            for point in metric[kind]["dataPoints"]:
                labels = dict(_plain(point["attributes"]))
                del labels["version"]
                found.setdefault(tuple(sorted(labels.items())), []).append(point)
        return found

    def metrics(self) -> list[dict[str, Any]]:
        return [
            metric
            for path, document in self.seen
            if path == "/v1/metrics"
            for resource in document["resourceMetrics"]
            for scope in resource["scopeMetrics"]
            for metric in scope["metrics"]
        ]

    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for path, document in self.seen
            if path == "/v1/traces"
            for resource in document["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:  # as its base
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 503 if self.path in self.server.failing else self.server.status
        if status == 200:
            self.server.seen.append((self.path, json.loads(body)))
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base
        """Say nothing."""


def _plain(attributes: list[dict[str, Any]]) -> Labels:
    return tuple(
        sorted((each["key"], *map(str, each["value"].values())) for each in attributes)
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on this machine."""
    with Collector() as collector:
        threading.Thread(
            target=collector.serve_forever, args=(0.01,), daemon=True
        ).start()
        try:
            yield collector
        finally:
            collector.shutdown()


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds, for 10 s at most."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
