"""Tiny real services, and a little of what it takes to watch them."""

from __future__ import annotations

import http.client
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

from functions.local.activator import Activator, Limits, ServiceStatus
from functions.local.ports import LOOPBACK, listen
from functions.local.process import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

THREADS = 16
ARGS = (
    *(
        "-k",
        "functions.server.Patient",
        "--workers",
        "1",
        "--threads",
        str(THREADS),
        "--timeout",
        "0",
    ),
    *("--graceful-timeout", "30", "--worker-tmp-dir", "/tmp"),  # noqa: S108  # the manifests'
)
APP = """
import os, time

def create_app():
    if os.path.exists("broken"):
        raise RuntimeError(open("broken").read())
    if os.path.exists("stuck"):
        time.sleep(600)

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/crash":
            os._exit(7)
        if path.startswith("/slow/"):
            time.sleep(float(path.rpartition("/")[2]))
        while path.startswith("/until/") and not os.path.exists(path[7:]):
            time.sleep(0.01)
        body = str(os.getpid()).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return app
"""


def uncovered() -> dict[str, str]:
    """Return the environment without coverage, where many processes are started."""
    return {n: value for n, value in os.environ.items() if not n.startswith("COVERAGE")}


@dataclass
class Rig:
    """An activator on a thread of its own, and the folder its services run in."""

    activator: Activator
    folder: Path
    thread: threading.Thread

    def service(self, name: str = "tiny") -> ServiceStatus:
        [found] = [each for each in self.activator.snapshot() if each.name == name]
        return found

    def port(self, name: str = "tiny") -> int:
        port = urlsplit(self.service(name).url).port
        assert port is not None
        return port

    def get(self, path: str = "/", name: str = "tiny") -> tuple[int, bytes]:
        return get(self.port(name), path)

    def until(self, *states: str, name: str = "tiny") -> None:
        until(lambda: self.service(name).state in states)


def get(port: int, path: str = "/", **headers: str) -> tuple[int, bytes]:
    """Return the status and body of one GET."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until(done: Callable[[], Any], seconds: float = 30) -> None:
    """Wait for something to be true, or fail."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def alive(pids: Any) -> set[int]:
    """Return those of `pids` that are processes still, and no zombies."""
    return {pid for pid in pids if not _gone(pid)}


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def spec(folder: Path, name: str = "tiny", **changes: Any) -> Spec:
    """Return a tiny service in `folder`."""
    (folder / "tiny.py").write_text(APP)
    fields = {
        "listener": listen(LOOPBACK, 0, name),
        "args": (*ARGS, "tiny:create_app()"),
        "environ": dict(os.environ),
        "folder": folder,
        "log": folder / f"{name}.log",
        "timeout_seconds": 60.0,
        **changes,
    }
    return Spec(name=name, **fields)


@contextmanager
def running(folder: Path, *specs: Spec, **limits: Any) -> Iterator[Rig]:
    """Yield an activator that serves `specs`, by default one tiny service."""
    chosen = {"idle_seconds": 0.1, "apology_seconds": 1.0} | limits
    activator = Activator(specs or [spec(folder)], Limits(**chosen))
    thread = threading.Thread(target=activator.run)
    thread.start()
    try:
        yield Rig(activator, folder, thread)
    finally:
        activator.stop()
        thread.join(30)
        activator.close()
        assert not thread.is_alive()
