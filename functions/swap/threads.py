"""The threads that do a device's work, and the CPU time they take.

ONNX Runtime makes threads of its own, which no clock of Python's knows.  On Linux a
thread begins with the name of the one that made it: so what is made while a thread
is marked can be told from every other thread of the process, from one that decodes
for another tenant, say.  They work while the device is leased, and for its holder.
Where the kernel keeps no such names there are none, and no time of theirs.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = "guise-device"
"""At most 15 bytes: what the kernel keeps of a thread's name."""
TASKS: Final = Path("/proc/self/task")
OWN: Final = Path("/proc/thread-self/comm")
# clock_getcpuclockid(3) for one thread of a process, as the kernel encodes it
# (CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED, include/linux/posix-timers.h).
_PER_THREAD: Final = 6


@contextmanager
def marking(own: Path = OWN) -> Iterator[None]:
    """Mark what is made in the body, by this thread.

    Only what makes no threads for others may be called in it: OpenCV's, which decode
    for everybody, begin wherever they are first needed.
    """
    before = _name(own)
    _rename(NAME, own)
    try:
        yield
    finally:
        _rename(before, own)


class Helpers:
    """The marked threads of this process."""

    def __init__(self, tasks: Path = TASKS) -> None:
        self._tasks = tasks
        self._known: frozenset[int] = frozenset()
        self._count = 0

    def look(self) -> None:
        """Find those there are now; cheap while no thread of the process is new."""
        with suppress(OSError):  # no such folder: not on this kernel
            count = self._tasks.stat().st_nlink
            if count != self._count:
                self._known = frozenset(self._marked())
                self._count = count

    def _marked(self) -> Iterator[int]:
        for task in self._tasks.iterdir():
            if _name(task / "comm") == NAME:
                yield int(task.name)

    def clocks(self) -> dict[int, int]:
        """Return the CPU time of each that was found, in nanoseconds."""
        found = {}
        for thread in self._known:
            try:
                found[thread] = time.clock_gettime_ns(~thread << 3 | _PER_THREAD)
            except OSError:  # it has ended
                continue
        return found


def taken(before: dict[int, int], after: dict[int, int]) -> int:
    """Return the nanoseconds between two readings, of the threads that are in both."""
    return sum(after[each] - before[each] for each in before.keys() & after.keys())


def _name(path: Path) -> str:
    with suppress(OSError):  # it has ended; or there are no such files
        return path.read_text("utf-8", errors="replace").strip()
    return ""


def _rename(name: str, own: Path) -> None:
    with suppress(OSError):  # no such files here: nobody is told from anybody
        own.write_text(name or "python", "utf-8")
