"""msgspec's structs, made ready before there are threads to use them.

msgspec works out how to read a `Struct` when it first has to, and puts what it works
on where other threads find it half done: they follow a null pointer, and the process
is gone with every request in it (seen with 0.22.0; `tests/test_structs.py` shows it).
So a process that reads on several threads calls `prepare` before they begin, and a
module that is imported later than that calls it as its last line.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_ready: set[type[msgspec.Struct]] = set()


def prepare() -> None:
    """Make every `Struct` that there is ready to be read.

    One whose fields cannot be told yet, as its module is still being imported on
    another thread, is that module's own to prepare.
    """
    with _lock:
        for kind in set(_structs(msgspec.Struct)) - _ready:
            with suppress(NameError, TypeError):
                msgspec.json.Decoder(kind)
                _ready.add(kind)


def _structs(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in kind.__subclasses__():
        yield each
        yield from _structs(each)
