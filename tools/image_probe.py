"""Ask a container whether it is ready, as a kubelet does: from a process of its own.

`python -m tools.image_probe PORT` asks until its stdin ends, over a connection of its
own each time, and prints how many milliseconds each answer took: a line of JSON, in
which null is no answer, or another than 204.
"""

from __future__ import annotations

import json
import math
import os
import select
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PAUSE_SECONDS: Final = 0.005
_TIMEOUT_SECONDS: Final = 10.0


@dataclass(slots=True)
class Spread:
    """How long answers took, in milliseconds, and how busy the machine was."""

    count: int = 0
    median: float = math.inf
    p99: float = math.inf
    longest: float = math.inf
    load: float = 0.0

    @classmethod
    def of(cls, took: list[float]) -> Spread:
        """Return the spread of so many answers."""
        if not took:
            return cls()
        late = sorted(took)[math.ceil(0.99 * len(took)) - 1]
        load = os.getloadavg()[0]
        return cls(len(took), statistics.median(took), late, max(took), load)

    def __str__(self) -> str:
        """Return it as a line to print."""
        busy = f"{self.load:.1f} threads want {os.cpu_count()} cores"
        return f"{self.brief} of {self.count}; {busy}"

    @property
    def brief(self) -> str:
        """How long answers took, and nothing else."""
        return (
            f"median {self.median:.1f} ms, p99 {self.p99:.1f} ms, "
            f"longest {self.longest:.1f} ms"
        )


@contextmanager
def probing(port: int) -> Iterator[Spread]:
    """Ask all the while; what is yielded is filled in at the end."""
    spread = Spread()
    with subprocess.Popen(  # noqa: S603  # ourselves
        [sys.executable, "-m", __name__, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield spread
        finally:
            said = process.communicate()[0]
    took = [math.inf if each is None else each for each in json.loads(said)]
    found = Spread.of(took)
    for name in Spread.__slots__:
        setattr(spread, name, getattr(found, name))


def ask(port: int) -> float | None:
    """Return how many milliseconds it took to be told that it is ready, or None."""
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        is_ready = connection.getresponse().status == HTTPStatus.NO_CONTENT
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    return (time.perf_counter() - began) * 1000 if is_ready else None


def main() -> None:
    """Ask until nobody wants to know any more."""
    port = int(sys.argv[1])
    took = []
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        took.append(ask(port))
    sys.stdout.write(json.dumps(took))


if __name__ == "__main__":
    main()
