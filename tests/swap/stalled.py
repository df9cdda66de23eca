"""`python -m tests.swap.stalled FOLDER JOB WHERE`: a worker that is to be stopped.

It takes the job, says in `FOLDER.stalled` that it is at WHERE, and goes on when there
is a `FOLDER.go`.  It prints the status it answered with, and the events it sent.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from functions import events
from functions.settings import Limits
from functions.storage.file import FileStore
from functions.swap.dispatch import requested
from tests.swap.house import House

if TYPE_CHECKING:
    from functions.tenant import Key

FOLDER, JOB, WHERE = sys.argv[1:]
SECONDS_MAX = 60


def stall(where: str) -> None:
    """Wait here to be stopped, if it is here."""
    if where != WHERE:
        return
    Path(f"{FOLDER}.stalled").touch()
    deadline = time.monotonic() + SECONDS_MAX
    while not Path(f"{FOLDER}.go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


class StallingStore(FileStore):
    """A store that stalls between an output and its commit."""

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Write, and wait there if it was an output."""
        generation = super().put_if_absent(key, data)
        if key.endswith(".png"):
            stall("stored")
        return generation


def main() -> None:
    """Take the job and print what came of it."""
    house = House(Limits(claim_seconds=1), opener=lambda _: StallingStore(Path(FOLDER)))
    house.engine.fault = lambda: stall("working")
    answer = house.send(requested(JOB, house.books))
    sent = [events.as_dict(each) for each in house.sink.taken]
    sys.stdout.write(json.dumps({"status": answer.status_code, "sent": sent}))


if __name__ == "__main__":
    main()
