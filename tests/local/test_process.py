"""One gunicorn and its pipe: what it tells, and whom it dies with."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from functions.local import gunicorn_conf
from functions.local.apology import Apologist
from functions.local.process import Gunicorn
from tests.local.rig import ARGS, alive, get, running, spec, uncovered, until

if TYPE_CHECKING:
    from pathlib import Path

ORPHAN = """
import os, signal, sys, time
from pathlib import Path
from functions.local.process import Gunicorn
from tests.local.rig import spec, until

gunicorn = Gunicorn(spec(Path(sys.argv[1])))
until(lambda: gunicorn.listen() and gunicorn.ready)
print(*gunicorn.pids, flush=True)
time.sleep(600)
"""


def test_what_a_gunicorn_tells(tmp_path: Path) -> None:
    """Its worker, that it is ready, and each request's begin and end."""
    service = spec(tmp_path)
    gunicorn = Gunicorn(service)
    until(lambda: gunicorn.listen() and gunicorn.ready)
    assert gunicorn.listen()  # nothing more to read is not the end
    assert len(gunicorn.pids) == 2
    get(service.listener.getsockname()[1])
    until(lambda: gunicorn.listen() and gunicorn.answered == 1)
    assert gunicorn.in_flight == 0
    gunicorn.end()
    until(lambda: not gunicorn.listen())
    assert gunicorn.reap() == 0
    service.listener.close()


def test_kill_9_of_the_activator_leaves_no_gunicorn(tmp_path: Path) -> None:
    """The kernel kills the arbiter with its parent, and the worker with the arbiter."""
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=uncovered(),
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(alive(pids)) == 2
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: not alive(pids), 5)


def test_a_gunicorn_whose_activator_is_gone_already(tmp_path: Path) -> None:
    """It was not told of its parent's death, so it looks: and ends before it serves."""
    service = spec(tmp_path)
    read, write = os.pipe()
    listener = service.listener.fileno()
    environ = {gunicorn_conf.PIPE: str(write), gunicorn_conf.PARENT: "1"}
    command = [sys.executable, "-m", "gunicorn", *ARGS, "-b", f"fd://{listener}"]
    command += ["-c", f"python:{gunicorn_conf.__name__}", "tiny:create_app()"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | environ,
        pass_fds=(listener, write),
        capture_output=True,
        check=False,
        timeout=60,
    )
    os.close(write)
    told = os.read(read, 100)
    os.close(read)
    service.listener.close()
    assert done.returncode == 1
    assert told == b""


def test_what_is_told_in_pieces(tmp_path: Path) -> None:
    """A line is a line wherever the read ends, and a strange one is passed over."""
    gunicorn = Gunicorn(spec(tmp_path, environ=uncovered()))
    try:
        read, write = os.pipe()
        os.set_blocking(read, False)  # the library's signature
        gunicorn.pipe, real = read, gunicorn.pipe
        for piece in (b"+", b" 7\n+ 8\n- 7", b"\nwhat\nworker 4", b"2\n"):
            os.write(write, piece)
            assert gunicorn.listen()
        assert (gunicorn.in_flight, gunicorn.answered, gunicorn.worker) == (1, 1, 42)
        os.close(write)
        assert not gunicorn.listen()
        os.close(read)
        gunicorn.pipe = real
    finally:
        gunicorn.kill()
        assert gunicorn.reap() == -signal.SIGKILL
        gunicorn.spec.listener.close()


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("[1] [INFO] Starting\nTraceback\nValueError: no\n[1] [ERROR] end\n", "no"),
        ("[1] [INFO] Starting\n[1] [ERROR] end\n", "[ERROR] end"),
        ("", "it left no word"),
    ],
)
def test_why_it_ended(tmp_path: Path, log: str, cause: str) -> None:
    """What the application said last; what gunicorn said, if that is all there is."""
    gunicorn = Gunicorn(spec(tmp_path, environ=uncovered()))
    gunicorn.kill()
    gunicorn.reap()
    gunicorn.spec.listener.close()
    gunicorn.spec.log.write_text(log)
    assert gunicorn.cause().endswith(cause)
    gunicorn.spec.log.unlink()
    assert gunicorn.cause().startswith("its log cannot be read")


def test_an_apology_to_nobody() -> None:
    """Who connected may be gone again, or there is no descriptor left: no fault."""
    apologist = Apologist()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        apologist.answer(listener)
    apologist.close()


def test_attack_a_client_that_never_ends_its_request(tmp_path: Path) -> None:
    """An apology takes a second at most, and the next client gets its own."""
    (tmp_path / "broken").write_text("")
    with running(
        tmp_path, spec(tmp_path, environ=uncovered()), apology_seconds=9
    ) as rig:
        assert rig.get()[0] == 503
        silent = [socket.create_connection(("127.0.0.1", rig.port())) for _ in range(3)]
        assert rig.get()[0] == 503
        for client in silent:
            client.settimeout(10)
            client.recv(100)
            client.close()
