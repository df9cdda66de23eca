"""Who waits for a lock on a file, as the kernel tells it in `/proc/locks` (proc(5))."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS_MAX: Final = 60
_PAUSE_SECONDS: Final = 0.005


def waiters(path: Path) -> int:
    """Return how many wait for a lock on a file; 0 where it is not there."""
    if not path.exists():
        return 0
    place = f":{path.stat().st_ino} "
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return sum("-> FLOCK" in line and place in line for line in lines)


@contextmanager
def waiting(work: Callable[[], object], path: Path) -> Iterator[threading.Thread]:
    """Yield a thread at `work` that has ended, or that a lock on `path` keeps waiting.

    What it does is over by then, or cannot go on: no time has to be guessed.  The
    block lets go of the lock, if anybody does, and leaves when `work` has ended.
    """
    before = waiters(path)
    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + _SECONDS_MAX
    while thread.is_alive() and waiters(path) == before:
        assert time.monotonic() < deadline, "it neither ends nor waits"
        time.sleep(_PAUSE_SECONDS)
    yield thread
    thread.join(_SECONDS_MAX)
