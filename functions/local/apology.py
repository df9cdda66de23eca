"""503 in place of a service that does not start, spoken by the activator itself."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import msgspec

from functions.problems import Unavailable

_THREADS: Final = 4
_SECONDS_MAX: Final = 1.0
_HEAD_BYTES_MAX: Final = 65_536
_RETRY_SECONDS: Final = 10
_FAULT_PAUSE_SECONDS: Final = 0.05


class Apologist:
    """Answers connections with 503, a few at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "apology")

    def answer(self, listener: socket.socket) -> None:
        """Take the waiting connection and have it answered, without waiting."""
        try:
            connection, _ = listener.accept()
        except OSError:  # it went away, or we are out of descriptors: do not spin
            time.sleep(_FAULT_PAUSE_SECONDS)
        else:
            self._pool.submit(_answer, connection)

    def close(self) -> None:
        """Finish what is being said, and say no more."""
        self._pool.shutdown(cancel_futures=True)


def _answer(connection: socket.socket) -> None:
    deadline = time.monotonic() + _SECONDS_MAX
    with connection, suppress(OSError):
        _read(connection, b"\r\n\r\n", deadline)
        connection.sendall(_message())
        connection.shutdown(socket.SHUT_WR)
        # To close on bytes unread would reset the connection, and the answer with it.
        _read(connection, b"", deadline)


def _read(connection: socket.socket, until: bytes, deadline: float) -> None:
    """Read up to `until`, the end, 64 KiB or the deadline, whichever comes first."""
    seen = b""
    while not (until and until in seen) and len(seen) < _HEAD_BYTES_MAX:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        more = connection.recv(4096)
        if not more:
            return
        seen += more


def _message() -> bytes:
    problem = Unavailable("the service does not start; its log says why")
    body = msgspec.json.encode(problem.document())
    head = (
        f"HTTP/1.1 {Unavailable.status} Service Unavailable\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Retry-After: {_RETRY_SECONDS}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
