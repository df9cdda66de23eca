"""`python -m tests.crash.full FOLDER JOBS`: jobs on a disk with hardly any room.

FOLDER becomes a small file system in memory, which takes no root where the kernel
lets everybody have a namespace of their own: run it under `unshare --user
--map-root-user --mount`.  Each write may meet ENOSPC there, also halfway through.
Store, log, ledger and queue are the real ones and lie in it side by side.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.local.queue import Queue
from functions.problems import Unavailable
from functions.storage.file import FileStore
from tests.crash import evidence
from tests.crash.rehearsal import World
from tests.swap.house import ACME

if TYPE_CHECKING:
    from functions.events import Event
    from functions.tenant import Key

_SIZE = "8m"
_PAGE_BYTES = 4096
_TRIGGER = "guise-acme/somebody"


class AgingFiles(FileStore):
    """Files in which time can pass."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def age(self, prefix: Key, seconds: float) -> None:
        """Make all under `prefix` older than it is."""
        for info in self.list(prefix, limit=1_000_000).objects:
            when = info.updated - seconds
            os.utime(self.folder / info.key, (when, when))


def fill(ballast: Path, pages: int) -> None:
    """Take all the room there is but for so many pages."""
    free = os.statvfs(ballast.parent).f_bavail * _PAGE_BYTES - pages * _PAGE_BYTES
    with ballast.open("wb", buffering=0) as file:
        for _ in range(free // _PAGE_BYTES):
            try:
                file.write(b"\1" * _PAGE_BYTES)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return


def owe(queue: Queue, event: Event) -> bool:
    """Return whether the queue has taken an event."""
    try:
        queue.put(event, [_TRIGGER])
    except Unavailable:
        return False
    return True


def run(folder: Path, jobs: int) -> dict[str, Any]:
    """Do jobs, each with a page more of room; return what came of it."""
    files: Any = AgingFiles(folder / "store")
    ballast, taken, statuses = folder / "ballast", [], []
    world = World(folder, store=files)
    with closing(Queue(folder / "broker.db")) as queue:
        for pages in range(jobs):
            event = world.upload(f"j{pages}")
            fill(ballast, pages)
            statuses.append(world.send(event))
            if owe(queue, event):
                taken.append(event.id)
            left = [each.name for each in (folder / "store" / ".tmp").iterdir()]
            ballast.unlink()
            if left:
                return {"left": left}
            world.later()
            world.send(event)
            world.recover()
        owed = [each.event().id for each in queue.due(_TRIGGER, jobs)]
    seen = world.seen(frozenset(f"j{pages}" for pages in range(jobs)))
    outcomes = [record["outcome"] for record in seen.records.values()]
    return {
        "found": evidence.findings(seen).all,
        "statuses": statuses,
        "completed": outcomes.count("completed"),
        "owed": owed == taken,
        "taken": len(taken),
        "bills": len(seen.bills),
        "tenant": ACME.id,
    }


def main() -> None:
    """Make the file system, do the jobs, and print what came of it as JSON."""
    folder = Path(sys.argv[1])
    mount = shutil.which("mount") or "mount"
    size = f"size={_SIZE}"
    subprocess.run([mount, "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    sys.stdout.write(json.dumps(run(folder, int(sys.argv[2]))))


if __name__ == "__main__":
    main()
