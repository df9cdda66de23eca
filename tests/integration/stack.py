"""A real stack: `guise up` in a process of its own, driven from outside."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import psutil

from functions.local.status import status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.local.status import StackStatus

REPOSITORY = Path(__file__).parents[2]
GUISE = Path(sys.executable).with_name("guise")
COLLINS = REPOSITORY / "examples" / "collins.jpg"
HOPPER = REPOSITORY / "examples" / "hopper.jpg"
SWAP = {"operation": "swap", "consent": {"basis": "public-domain"}}


@dataclass
class Stack:
    """A running `guise up`."""

    home: Path
    process: subprocess.Popen[bytes]
    urls: dict[str, str]

    @property
    def token(self) -> str:
        return (self.home / "token").read_text()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def store(self) -> Path:
        return self.home / "tenants" / "demo"

    def status(self) -> StackStatus:
        found = status(self.home)
        assert found is not None
        return found

    def service(self, name: str) -> Any:
        [found] = [each for each in self.status().services if each.name == name]
        return found

    def sleep(self) -> None:
        """Wait until everything is asleep and nothing is owed."""
        until(lambda: self.status().settled)

    def post(
        self,
        request: Any = None,
        source: bytes | None = None,
        target: bytes | None = None,
        **headers: str,
    ) -> httpx.Response:
        """Send a multipart request as curl would."""
        files = {
            "source": ("source", source or COLLINS.read_bytes()),
            "target": ("target", target or HOPPER.read_bytes()),
        }
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        return httpx.post(
            f"{self.urls['door']}/v1/swaps",
            data={"request": json.dumps(request or SWAP)},
            files=files,
            headers=self.headers | names,
            timeout=60,
            trust_env=False,
        )

    def get(self, path: str, service: str = "door", **headers: str) -> httpx.Response:
        return httpx.get(
            self.urls[service] + path,
            headers=headers or self.headers,
            timeout=60,
            trust_env=False,
        )

    def connect(self, service: str) -> http.client.HTTPConnection:
        parts = urlsplit(self.urls[service])
        assert parts.hostname is not None
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)


def until(done: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something to be true, or fail."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def free_ports(count: int = 5) -> int:
    """Return the first of `count` free ports in a row.

    Below the range the kernel hands out, so that no other test is given one.
    """
    while True:
        first = random.randrange(20_000, 30_000)  # noqa: S311  # no secret
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


@contextmanager
def up(
    home: Path, *, idle: float = 1, port: int = 0, store: str = ""
) -> Iterator[Stack]:
    """Run `guise up` in `home`, with the pack that this checkout has."""
    home.mkdir(exist_ok=True)
    if not (home / "models").exists():
        (home / "models").symlink_to(REPOSITORY / ".guise" / "models")
    command = [str(GUISE), "up", "--json", "--home", str(home)]
    command += ["--port", str(port), "--idle", str(idle), "--store", store]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        urls = json.loads(process.stdout.readline())["urls"]
        yield Stack(home, process, urls)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


def relatives(pid: int) -> set[int]:
    """Return every process that descends from `pid`."""
    return {each.pid for each in psutil.Process(pid).children(recursive=True)}


def alive(pids: set[int]) -> set[int]:
    """Return those of `pids` that are still processes, and no zombies."""
    return {pid for pid in pids if psutil.pid_exists(pid) and not _zombie(pid)}


def _zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def kill(pid: int) -> None:
    """Kill -9."""
    os.kill(pid, signal.SIGKILL)
