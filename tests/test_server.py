"""The server's clock for bodies, over real sockets."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from functions.server import Hasty

SECOND = 0.2
"""What is counted in here instead."""


def test_a_body_that_trickles_has_its_time_and_no_more() -> None:
    """However steadily a byte comes: each buys next to nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = threading.Event()

        def trickle() -> None:
            while not done.wait(SECOND / 20):
                theirs.sendall(b"a")

        thread = threading.Thread(target=trickle)
        thread.start()
        began = time.monotonic()
        body = Hasty(ours, seconds=SECOND, rate=1_000_000)
        with pytest.raises(TimeoutError):
            read(body)
        done.set()
        thread.join(30)
        assert SECOND <= time.monotonic() - began < 20 * SECOND


def read(body: Hasty) -> None:
    """Read until there is an end."""
    while body.recv(8192):
        continue


def test_a_silent_body_has_its_time_and_no_more() -> None:
    """And then the socket waits for whatever it is used for, as it did before."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(TimeoutError):
            Hasty(ours, seconds=SECOND).recv(8192)
        assert ours.gettimeout() is None


def test_what_has_come_buys_time() -> None:
    """A large body takes as long as it takes, at the least rate."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        body = Hasty(ours, seconds=SECOND, rate=5)
        theirs.sendall(b"a" * 100)
        assert body.recv(8192) == b"a" * 100  # twenty seconds more
        time.sleep(2 * SECOND)
        theirs.sendall(b"b")
        assert body.recv(8192) == b"b"
