"""Listening sockets on this machine."""

from __future__ import annotations

import socket
import struct
import time
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_BACKLOG: Final = 2048
_SECONDS_MAX: Final = 5.0
_PAUSE_SECONDS: Final = 0.05
_SILENCE_SECONDS_MAX: Final = 5
_SILENCE: Final = struct.pack("@ll", _SILENCE_SECONDS_MAX, 0)  # a `struct timeval`


class PortTaken(Exception):
    """Another program listens where one of ours should."""


def listen(host: str, port: int, name: str) -> socket.socket:
    """Return a non-blocking listening socket for `name`; port 0 takes a free one.

    A client that says nothing, or takes nothing, for five seconds in the middle of
    a request is cut off.

    Raises `PortTaken` after five seconds of trying: what a killed predecessor
    started may hold the port for a moment longer than it lives.
    """
    deadline = time.monotonic() + _SECONDS_MAX
    while True:
        try:
            return _listen(host, port)
        except OSError as error:
            if time.monotonic() > deadline or port == 0:
                where = f"{host}:{port}"
                raise PortTaken(f"{name}: {where}: {error.strerror}") from error
            time.sleep(_PAUSE_SECONDS)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    try:
        # A port whose last connections still linger may be taken; one that is
        # listened on may not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it, also those queued before gunicorn was there to
        # ask for it; without it a second answer on one of them waits 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # As is this.  Gunicorn reads and writes without a limit of its own, and who
        # sends half a request, or takes no answer, would hold a thread for ever.
        for side in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.setsockopt(socket.SOL_SOCKET, side, _SILENCE)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.settimeout(0)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address a client asks for."""
    host, port = listener.getsockname()
    return f"http://{host}:{port}"
