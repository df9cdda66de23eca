"""A real stack in a process of its own, over tiny services."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

import knative
from functions.local.home import Home
from functions.local.status import StackStatus, status
from functions.problems import Unavailable
from tests.local.rig import alive, get, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """
import json, os, time

def create_app(name):
    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/slow/"):
            time.sleep(float(path.rpartition("/")[2]))
        seen = {
            "service": name,
            "path": path,
            "id": environ.get("HTTP_CE_ID"),
            "subject": environ.get("HTTP_CE_SUBJECT"),
            "sink": os.environ.get("K_SINK"),
        }
        with open("seen.jsonl", "a") as file:
            file.write(json.dumps(seen) + "\\n")
        status = "400 Bad Request" if os.path.exists("refuse") else "204 No Content"
        start_response(status, [("Content-Length", "0")])
        return []
    return app
"""
_FACTORY = re.compile(r"functions\.[\w.]+:create_app\(\)")
WHOLE = b'{"operation": "swap"}'


def small_manifests(folder: Path) -> Path:
    """Return the manifests with a tiny application in each Service."""
    for path in sorted(knative.folder().glob("*/*.yaml")):
        text = _FACTORY.sub(f"tiny:create_app({path.stem!r})", path.read_text())
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder


@dataclass
class Machine:
    """A running `python -m functions.local`."""

    home: Path
    process: subprocess.Popen[bytes]

    @property
    def status(self) -> StackStatus:
        found = status(self.home)
        assert found is not None
        return found

    def port(self, name: str = "door") -> int:
        return int(self.status.urls[name].rpartition(":")[2])

    def get(self, path: str = "/", name: str = "door") -> tuple[int, bytes]:
        return get(self.port(name), path)

    def state(self, name: str = "door") -> str:
        [found] = [each for each in self.status.services if each.name == name]
        return found.state

    def drop(self, job: str) -> None:
        (self.home / "tenants" / "acme" / "requests" / f"{job}.json").write_bytes(WHOLE)

    def seen(self) -> list[dict[str, Any]]:
        path = self.home / "run" / "seen.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def children(self) -> list[int]:
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [each.pid for each in found]


def prepare(folder: Path) -> Path:
    """Return a home in which tiny services can be run."""
    home = folder / "home"
    (home / "run").mkdir(parents=True, exist_ok=True)
    (home / "run" / "tiny.py").write_text(APP)
    small_manifests(folder / "knative")
    return home


def start(folder: Path, *, idle: float = 0.5, port: int = 0) -> subprocess.Popen[bytes]:
    """Start a stack in `folder`, and do not wait for it."""
    home = prepare(folder)
    command = [sys.executable, "-m", "functions.local", "--tenant", "acme"]
    command += ["--home", str(home), "--manifests", str(folder / "knative")]
    command += ["--idle", str(idle), "--port", str(port)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


@contextmanager
def machine(folder: Path, *, idle: float = 0.5, port: int = 0) -> Iterator[Machine]:
    """Yield a stack that answers, and end it as Ctrl-C does."""
    process = start(folder, idle=idle, port=port)
    made = Machine(folder / "home", process)
    try:
        until(lambda: answers(made))
        yield made
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(30)
        if process.stderr:
            process.stderr.close()


def answers(made: Machine) -> bool:
    """Return whether this very process serves the home."""
    assert made.process.poll() is None, "the stack ended"
    with suppress(Unavailable):
        found = status(made.home)
        return found is not None and found.pid == made.process.pid
    return False


def five_free_ports() -> int:
    """Return the first of five ports in a row that nobody listens on."""
    for base in range(21_000 + os.getpid() % 500 * 10, 32_000, 5):
        with suppress(OSError):
            for port in range(base, base + 5):
                socket.create_server(("127.0.0.1", port)).close()
            return base
    raise AssertionError("no five free ports in a row")


def nothing_left(pids: list[int]) -> None:
    """Wait until none of `pids` is a process, or fail."""
    until(lambda: not alive(pids), 5)


def running_at(home: Path) -> Any:
    """Return the addresses that a home announces."""
    return Home(home.resolve()).running()
