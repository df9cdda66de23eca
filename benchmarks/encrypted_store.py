"""The encrypted store beside the plain one: a record, a picture, a film.

Records (500 bytes) and pictures (5 MB) are written and read by turns, one here and one
there, and medians compared: whatever else the machine does slows both.  The film
(2 GB) goes through each in a process of its own, whose peak of memory is then its own.
Everything is synced to the disk, as in use.  The folder is where TMPDIR says: on a
disk the sync decides, on a tmpfs (/dev/shm) the arithmetic.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.envelopes import Envelopes
from functions.storage.encrypted import EncryptedStore
from functions.storage.file import FileStore
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.storage import Store

RECORD_BYTES: Final = 500
PICTURE_BYTES: Final = 5_000_000
FILM_BYTES: Final = 2_000_000_000
PIECE: Final = 1024 * 1024
ROUNDS: Final = {RECORD_BYTES: 400, PICTURE_BYTES: 60}
KINDS: Final = ("plain", "encrypted")
KEY: Final = Key("uploads/film.mp4")


class Film:
    """`FILM_BYTES` bytes, at no cost."""

    def __init__(self) -> None:
        self.left = FILM_BYTES
        self._piece = os.urandom(PIECE)

    def read(self, size: int) -> bytes:
        """Return the next piece."""
        size = min(size, self.left, PIECE)
        self.left -= size
        return self._piece[:size]


@contextmanager
def opened(kind: str) -> Iterator[Store]:
    """Yield an empty store, gone at the end."""
    root = Path(tempfile.mkdtemp())
    try:
        if kind == "plain":
            yield FileStore(root / "acme")
        else:
            yield EncryptedStore(
                root / "acme", Tenant("acme"), Envelopes(root / "keys")
            )
    finally:
        shutil.rmtree(root)


def timed(act: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def acts(store: Store, key: Key, data: bytes) -> dict[str, Callable[[], object]]:
    """Return what is done with an object, by its name."""
    return {
        "put": lambda: store.put(key, data),
        "get": lambda: store.get(key),
        "head": lambda: store.head(key),
        "list": lambda: store.list(Key("uploads/")),
    }


def compare(size: int) -> None:
    """Write and read objects of one size by turns, and print one JSON line.

    There are up to 50, which is what the listings list.
    """
    data = os.urandom(size)
    seconds: dict[tuple[str, str], list[float]] = {}
    with opened("plain") as plain, opened("encrypted") as encrypted:
        for number in range(ROUNDS[size]):
            key = Key(f"uploads/{number % 50}")
            for kind, store in zip(KINDS, (plain, encrypted), strict=True):
                for name, act in acts(store, key, data).items():
                    seconds.setdefault((name, kind), []).append(timed(act))
    medians = {each: statistics.median(found) for each, found in seconds.items()}
    line = {
        name: {
            "plain_us": round(medians[name, "plain"] * 1e6),
            "encrypted_us": round(medians[name, "encrypted"] * 1e6),
            "ratio": round(medians[name, "encrypted"] / medians[name, "plain"], 2),
        }
        for name in ("put", "get", "head", "list")
    }
    print(json.dumps({"name": f"encrypted_store_{size}", "load": _load(), **line}))


def film(kind: str) -> None:
    """Stream a film both ways through one store, and print one JSON line."""
    with opened(kind) as store:
        store.put(Key("uploads/first"), b"x")  # what is imported is imported now
        before = _peak_mib()
        write = timed(lambda: store.put_from(KEY, Film()))  # type: ignore[arg-type]  # all of it that is used

        def drain() -> None:
            with store.open(KEY) as stream:
                while stream.read(PIECE):
                    pass

        read = timed(drain)
    line = {
        "name": f"encrypted_store_film_{kind}",
        "bytes": FILM_BYTES,
        "write_s": round(write, 2),
        "read_s": round(read, 2),
        "rss_before_mib": round(before),
        "rss_peak_mib": round(_peak_mib()),
        "load": _load(),
    }
    print(json.dumps(line))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _load() -> float:
    """Return how busy the machine is: runnable processes over cores, last minute."""
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)


def main() -> None:
    """Measure everything, or a film in the store that is named."""
    if len(sys.argv) > 1:
        film(sys.argv[1])
        return
    # The films first: a process begins with the peak of whoever started it.
    for kind in KINDS:
        subprocess.run([sys.executable, __file__, kind], check=True)  # noqa: S603  # ours
    for size in ROUNDS:
        compare(size)


if __name__ == "__main__":
    main()
