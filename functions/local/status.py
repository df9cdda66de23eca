"""What a stack is doing, asked from outside without waking anything."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from functions.local.activator import ServiceStatus
from functions.local.home import Home
from functions.local.queue import Queue
from functions.problems import NotFound, Unavailable

if TYPE_CHECKING:
    from functions.local.home import Running
    from functions.local.stored import DeadLetter

_SECONDS_MAX: Final = 5.0
_OK: Final = 200
_ACCEPTED: Final = 202


class StackStatus(msgspec.Struct, frozen=True):
    """A running stack.

    `queue` holds how many events each Trigger is owed, `rss_bytes` what the
    stack's own process takes of memory, `processes` how many gunicorns run.
    """

    pid: int
    rss_bytes: int
    urls: dict[str, str]
    services: tuple[ServiceStatus, ...]
    queue: dict[str, int]
    dead_letters: int

    @property
    def processes(self) -> int:
        """How many processes run besides the stack's own."""
        return sum(len(service.pids) for service in self.services)

    @property
    def settled(self) -> bool:
        """Whether every service sleeps and nothing is owed."""
        asleep = all(service.state == "asleep" for service in self.services)
        return asleep and not any(self.queue.values())


def status(home: Path) -> StackStatus | None:
    """Return what the stack in `home` is doing, None when none runs.

    Raises `Unavailable` when it does not answer.
    """
    running = Home(home.resolve()).running()
    if running is None:
        return None
    code, body = _ask(running, "GET", "/status")
    if code != _OK:
        raise Unavailable(internal=f"the stack's status: {code}")
    return msgspec.json.decode(body, type=StackStatus)


def dead_letters(home: Path) -> list[DeadLetter]:
    """Return up to 100 dead letters of `home`, the newest first, running or not."""
    place = Home(home.resolve())
    if not place.queue.exists():
        return []
    queue = Queue(place.queue)
    try:
        return queue.dead_letters()
    finally:
        queue.close()


def replay(home: Path, number: int) -> None:
    """Owe dead letter `number` to its Trigger again, or raise `NotFound`.

    A stack that runs delivers it at once, another at its next start.
    """
    place = Home(home.resolve())
    running = place.running()
    if running is None:
        _replay_asleep(place, number)
        return
    code, _ = _ask(running, "POST", f"/dead-letters/{number}/replay")
    if code == NotFound.status:
        raise NotFound(f"there is no dead letter {number}")
    if code != _ACCEPTED:
        raise Unavailable(internal=f"replaying {number}: {code}")


def _replay_asleep(place: Home, number: int) -> None:
    if not place.queue.exists():
        raise NotFound(f"there is no dead letter {number}")
    queue = Queue(place.queue)
    try:
        queue.replay(number)
    finally:
        queue.close()


def rss_bytes() -> int:
    """Return how much memory this process has resident."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _ask(running: Running, method: str, path: str) -> tuple[int, bytes]:
    parts = urlsplit(running.urls["broker"])
    host, port = parts.hostname or "", parts.port
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS_MAX)
    try:
        connection.request(method, path, headers={"Content-Length": "0"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(internal=f"the stack does not answer: {error!r}") from error
    finally:
        connection.close()
