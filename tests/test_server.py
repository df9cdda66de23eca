"""The server's clock for bodies, and its end, over real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from functions.server import Hasty

if TYPE_CHECKING:
    from pathlib import Path

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


APP = """
import time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(2)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
"""


def test_who_ends_refuses_and_finishes(tmp_path: Path) -> None:
    """From SIGTERM on a new connection is refused; the job in hand is answered."""
    (tmp_path / "slow.py").write_text(APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-k", "functions.server.Patient"]
    command += ["--threads", "2", "--timeout", "0", "--graceful-timeout", "20"]
    command += ["--no-control-socket", "--chdir", str(tmp_path)]
    command += ["--bind", f"127.0.0.1:{port}", "slow:app"]
    with subprocess.Popen(command) as process:
        try:
            made = connected(port)
            with made:
                made.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
                time.sleep(0.3)
                process.terminate()
                assert refused_within(port, seconds=1.0)
                assert answer(made).startswith(b"HTTP/1.1 200")
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_every_line_of_a_process_is_json_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    """Gunicorn's own from its first on, and what an app says before it is one."""
    early = "import logging\nlogging.getLogger('early').warning('before the app')\n"
    (tmp_path / "slow.py").write_text(early + APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-k", "functions.server.Patient"]
    command += ["--threads", "2", "--no-control-socket", "--chdir", str(tmp_path)]
    command += ["--bind", f"127.0.0.1:{port}", "slow:app"]
    args = {"GUNICORN_CMD_ARGS": "--logger-class functions.server.JsonLogger"}
    with subprocess.Popen(
        command, env=os.environ | args, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            connected(port).close()
            process.terminate()
            _, told = process.communicate(timeout=30)
        finally:
            process.kill()
    lines = [json.loads(line) for line in told.splitlines()]
    said = [line["message"] for line in lines]
    assert said[0].startswith("Starting gunicorn")
    assert "before the app" in said
    assert {line["logger"] for line in lines} == {"gunicorn.error", "early"}


def connected(port: int) -> socket.socket:
    """Return a connection that is answered: whoever listens has a worker, too."""
    deadline = time.monotonic() + 60
    while True:
        try:
            made = socket.create_connection(("127.0.0.1", port), timeout=30)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            continue
        made.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer(made).startswith(b"HTTP/1.1 200")
        return made


def answer(made: socket.socket) -> bytes:
    """Return one whole answer, in however many pieces it comes."""
    found = b""
    while not found.endswith(b"done"):
        data = made.recv(8192)
        assert data, "hung up"
        found += data
    return found


def refused_within(port: int, *, seconds: float) -> bool:
    """Return whether nobody listens any more within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return True
        time.sleep(0.02)
    return False
