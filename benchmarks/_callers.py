"""Many callers of one door at once, each on a connection it keeps."""

from __future__ import annotations

import os
import selectors
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANSWER_BYTES_MAX = 65_536
_DONE = (b"HTTP/1.1 200 ", b"HTTP/1.1 204 ")
SECONDS_MAX = 60


@dataclass(frozen=True)
class Load:
    """How one load was answered: answers a second, and milliseconds each took."""

    per_second: float
    p50_ms: float
    p99_ms: float


def request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: audit", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def call(port: int, requests: Sequence[bytes], callers: int) -> Load:
    """Send `requests` from so many callers; each waits for its answer.

    Raises `SystemExit` on any answer but 200 and 204.
    """
    waiting = iter(requests)
    took: list[float] = []
    with selectors.DefaultSelector() as selector:
        for _ in range(min(callers, len(requests))):
            _Caller(port, waiting, took, selector).send()
        began = time.perf_counter()
        while selector.get_map():
            ready = selector.select(SECONDS_MAX)
            if not ready:
                raise SystemExit(f"no answer for {SECONDS_MAX} s")
            for key, _ in ready:
                key.data.receive()
        seconds = time.perf_counter() - began
    took.sort()
    p50, p99 = (1000 * took[int(len(took) * each)] for each in (0.5, 0.99))
    return Load(len(took) / seconds, p50, p99)


class _Caller:
    def __init__(
        self,
        port: int,
        waiting: Iterator[bytes],
        took: list[float],
        selector: selectors.BaseSelector,
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(SECONDS_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._waiting, self._took, self._selector = waiting, took, selector
        self._answer = b""
        self._began = 0.0
        selector.register(self._socket, selectors.EVENT_READ, self)

    def send(self) -> None:
        """Send the next request; go when there is none."""
        following = next(self._waiting, None)
        if following is None:
            self._selector.unregister(self._socket)
            self._socket.close()
            return
        self._answer = b""
        self._began = time.perf_counter()
        self._socket.sendall(following)

    def receive(self) -> None:
        """Take what has come; once that is the whole answer, send the next one."""
        piece = self._socket.recv(ANSWER_BYTES_MAX)
        self._answer += piece
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not piece or (found and not head.startswith(_DONE)):
            raise SystemExit(f"the door answers {self._answer!r}")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        length = length or b"0"  # 204 has no body, and says no length
        if found and len(body) >= int(length):
            self._took.append(time.perf_counter() - self._began)
            self.send()


def stolen() -> tuple[int, int]:
    """Return the ticks of all cores that others had, and all ticks there were."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().split()[1:9]]
    return ticks[7], sum(ticks)


def device() -> str:
    """Return on what this ran."""
    return f"cpu, {len(os.sched_getaffinity(0))} cores"
