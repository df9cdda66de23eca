"""Gunicorn's threaded worker, which no slow client holds up.

`gunicorn -k functions.server.Patient`.  Gunicorn's own hands a connection to a
thread when it is made, and the thread waits for the request's head: as many silent
connections as there are threads keep everybody else out (slowloris).  Here the one
loop that waits for all of them reads the heads, and a thread gets a connection whose
head is whole.  A head that is not, in time, is a connection that is closed.

A body is read by the function itself, which looks at the token first.  What it did
not read nobody waits for.  One that comes too slowly (`BODY_SECONDS_MAX`, and more by
what has come) ends like one whose sender hung up: a byte now and then holds no thread.

The process holds pictures of people, so the kernel writes no image of it, and what is
freed is written over: see `seal`.
"""

from __future__ import annotations

import ctypes
import io
import resource
import time
from functools import partial
from selectors import EVENT_READ
from typing import TYPE_CHECKING, Any, Final

from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.http.body import ChunkedReader  # type: ignore[import-untyped]
from gunicorn.workers.gthread import (  # type: ignore[import-untyped]
    TConn,
    ThreadWorker,
)

from functions.logs import JsonFormatter, configure_logging

if TYPE_CHECKING:
    import socket

HEAD_SECONDS_MAX: Final = 10.0
HEAD_BYTES_MAX: Final = 64 * 1024
"""Gunicorn's parser has the last word on a longer one, and that is a refusal."""
UNREAD_BYTES_MAX: Final = 1024 * 1024
BODY_SECONDS_MAX: Final = 20.0
BODY_BYTES_A_SECOND_MIN: Final = 1024
"""What has come buys time: for a second of it a body has a second more."""
_END: Final = b"\r\n\r\n"
_LOOK_SECONDS: Final = 1.0
_PR_SET_DUMPABLE: Final = 4
"""prctl(2), as `linux/prctl.h` numbers it."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_M_PERTURB: Final = -6
_M_ARENA_MAX: Final = -8
"""mallopt(3), as glibc's `malloc.h` numbers them."""
_OVER: Final = 0xA5
"""What freed memory is written over with; any byte but 0 does."""
_KEPT_BYTES: Final = 2**30
"""How much memory that is free stays with the process; what is beyond goes back."""


class JsonLogger(Logger):  # type: ignore[misc]  # untyped
    """Writes gunicorn's own lines as `GUISE_LOG_FORMAT=json` writes the functions'.

    `--logger-class functions.server.JsonLogger`, or by GUNICORN_CMD_ARGS.
    """

    def setup(self, cfg: Any) -> None:  # noqa: ANN401  # untyped
        """Give each handler our form, and the root's, whoever logs before the app."""
        super().setup(cfg)
        configure_logging(form="json")
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(JsonFormatter())


class Patient(ThreadWorker):  # type: ignore[misc]  # untyped
    """Reads heads in its loop, and answers whole requests on its threads."""

    def init_process(self) -> None:
        """Serve, and let no header of a request say where the application lies.

        By default a peer on loopback, such as a sidecar that passes on what it got,
        may send SCRIPT_NAME, and thereby another path than was checked before us.
        """
        self.cfg.set("forwarder_headers", "")
        seal()
        super().init_process()

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001  # as its base
        """Take connections, or none; once it is ending, refuse them, too.

        Gunicorn's own keeps the socket until the last request is answered: who comes
        meanwhile waits in the kernel's queue, and is hung up on in the end.
        """
        super().set_accept_enabled(enabled)
        if not (enabled or self.alive):
            for listener in self.sockets:
                listener.close()

    def enqueue_req(self, conn: TConn) -> None:
        """Wait for the head of a connection's next request; called by the loop."""
        conn.head = _left_over(conn)
        conn.sock.settimeout(0)
        conn.timeout = time.monotonic() + HEAD_SECONDS_MAX
        self.pending_conns.append(conn)
        ready = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, EVENT_READ, ready)

    def on_pending_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Read on; hand the connection to a thread when its head is whole."""
        try:
            data = client.recv(HEAD_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        head = conn.head
        start = max(0, len(head) - len(_END))
        head += data
        if data and len(head) < HEAD_BYTES_MAX and head.find(_END, start) < 0:
            return
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        if head:
            super().enqueue_req(conn)
        else:
            self.nr_conns -= 1
            conn.close()

    def handle(self, conn: TConn) -> Any:  # noqa: ANN401  # as its base
        """Answer a request whose head has been read; called on a thread."""
        conn.init()
        unreader = conn.parser.unreader
        unreader.buf.seek(0, io.SEEK_END)
        unreader.buf.write(conn.head)
        unreader.sock = Hasty(conn.sock)
        return super().handle(conn)

    def handle_request(self, req: Any, conn: TConn) -> bool:  # noqa: ANN401  # untyped
        """Answer a request; return whether the connection is kept for another.

        Not behind chunks, of whose ends there are as many readings as parsers; and
        not behind a body that nobody read, unless it is all here: a refusal waits
        for nobody.
        """
        if isinstance(req.body.reader, ChunkedReader):
            req.force_close()
        kept = super().handle_request(req, conn)
        conn.parser.unreader.sock = conn.sock
        return kept and _is_read(req, conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for what comes, and look at the clock now and then, at the end too."""
        super().wait_for_and_dispatch_events(min(timeout, _LOOK_SECONDS))


class Hasty:
    """The socket of a request whose body has its time, for who reads from it.

    So many seconds from now on, and one more for each `rate` bytes that have come: as
    Apache's mod_reqtimeout counts.
    """

    def __init__(
        self,
        sock: socket.socket,
        seconds: float = BODY_SECONDS_MAX,
        rate: float = BODY_BYTES_A_SECOND_MIN,
    ) -> None:
        self._sock = sock
        self._rate = rate
        self._until = time.monotonic() + seconds

    def recv(self, size: int) -> bytes:
        """Return what comes next, or raise `TimeoutError` once there is no time left.

        However long an answer takes to be sent is not bounded by this.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        try:
            data = self._sock.recv(size)
        finally:
            self._sock.settimeout(None)
        self._until += len(data) / self._rate
        return data


def seal() -> None:
    """Keep what is in this process's memory from leaving it, or from staying in it.

    No core of it is written, and no other process looks into it.  A limit of 0 stops
    a core file, yet not a program that core files are piped to (core(5)); a process
    that is not dumpable gives neither, and only who may trace any process
    (CAP_SYS_PTRACE) attaches to it or reads its `/proc/<pid>/mem`.

    What is freed is written over by the allocator at once, Python's and every
    library's, where it is larger than a kilobyte: a picture, a crop, an embedding.
    (Up to that size glibc keeps some for the next who asks, as they are.)  That costs a
    picture of 1080p 2 ms from file to file.

    What is given out is written over, too, and by default large memory comes from the
    kernel each time anew, a page at a time, while Python's lock is held: 40 ms for a
    picture of 30 megapixels, in which no probe is answered.  So memory that was freed
    stays here, in one piece, for the next picture: then it is 4 ms.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.mallopt(_M_PERTURB, _OVER)
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _is_read(req: Any, conn: TConn) -> bool:  # noqa: ANN401  # untyped
    """Return whether the end of a request's body has come, and read up to it."""
    conn.sock.settimeout(0)
    try:
        return len(req.body.read(UNREAD_BYTES_MAX)) < UNREAD_BYTES_MAX
    except OSError:  # there is more to come
        return False


def _left_over(conn: TConn) -> bytearray:
    """Return what has come after a kept connection's last request."""
    if conn.parser is None:
        return bytearray()
    unread = conn.parser.unreader
    found = bytearray(unread.buf.getvalue())
    unread.buf = io.BytesIO()
    return found
