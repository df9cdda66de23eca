"""The three doors by the real server, each with an installation of its own behind it.

`gunicorn 'tests.fuzz.doors:create_app("swap", FOLDER)'`: two tenants, of whom acme
has swapped, been audited and been billed; acme's token lies in `FOLDER/token`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.attacks.town import ACME, GLOBEX, open_town
from tests.swap.house import picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

_START_SECONDS: Final = 30.0
_opened = ExitStack()


@dataclass(frozen=True, slots=True)
class Door:
    """A door that listens, a good token of acme's, a job of its, and the door's log."""

    name: str
    port: int
    token: str
    job: str
    log: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def create_app(which: str, folder: str) -> Flask:
    """Return a door of a new installation in `folder`."""
    here = Path(folder)
    town = _opened.enter_context(open_town(here))
    town.work()
    town.work(GLOBEX)
    store = town.swap.stores.of(ACME)
    for name in ("collins", "hopper"):  # as the description's example names them
        store.put(ACME.upload(f"uploads/{name}.jpg"), picture(1))
    (here / "job").write_text(town.work() if which == "swap" else "job-e1")
    (here / "token").write_text(town.token(exp=int(time.time()) + 3600))
    return town.clients[which].application


@contextmanager
def serving(which: str, folder: Path) -> Iterator[Door]:
    """Serve a door until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-k", "functions.server.Patient"]
    command += ["--workers", "1", "--threads", "8", "--timeout", "0"]
    command += ["--no-control-socket", "--bind", f"127.0.0.1:{port}"]
    command += [f"tests.fuzz.doors:create_app({which!r}, {str(folder)!r})"]
    log = folder / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command,
            env={k: v for k, v in os.environ.items() if not k.startswith("GUISE_")},
            cwd=Path(__file__).parents[2],
            stdout=file,
            stderr=file,
        ) as process,
    ):
        try:
            _await(port, log)
            token, job = ((folder / each).read_text() for each in ("token", "job"))
            yield Door(which, port, token, job, log)
        finally:
            process.terminate()


def _await(port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as made:
            made.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            if made.recv(64).startswith(b"HTTP/1.1 204"):
                return
        time.sleep(0.05)
    raise TimeoutError(log.read_text())
