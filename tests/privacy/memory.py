"""Looking for something in the memory of another process, as a core of it would show.

Who may is root, or whoever may trace any process: a function's process is sealed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import RawIOBase

_PIECE_BYTES: Final = 256 * 1024
_OVER_BYTES: Final = 256
"""More than any needle has."""
_ZERO: Final = bytes(_PIECE_BYTES + _OVER_BYTES)
_KERNELS: Final = {"[vvar]", "[vvar_vclock]", "[vsyscall]", "[vdso]"}


def seen(pid: int, needles: Mapping[str, bytes]) -> set[str]:
    """Return the names of those needles that lie anywhere in a process's memory."""
    found = set()
    try:
        with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
            for start, size in _own(pid):
                for data in _pieces(memory, start, size):
                    found |= {name for name, each in needles.items() if each in data}
    except PermissionError:
        pytest.skip("only who may trace any process looks into one that is sealed")
    return found


def _pieces(memory: RawIOBase, start: int, size: int) -> Iterator[bytes]:
    """Yield what is there and not all zero, each with the beginning of the next."""
    for offset in range(0, size, _PIECE_BYTES):
        try:
            memory.seek(start + offset)
            piece = memory.read(min(_PIECE_BYTES + _OVER_BYTES, size - offset)) or b""
        except OSError:  # it is there to be touched, not to be read
            return
        if piece != _ZERO[: len(piece)]:
            yield piece


def _own(pid: int) -> Iterator[tuple[int, int]]:
    """Yield where and how large each region is that is no mere map of a file."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        where, rights, _, _, _, *rest = line.split(None, 5)
        name = rest[0] if rest else ""
        if "r" not in rights or name in _KERNELS:
            continue
        if name.startswith("/") and "w" not in rights:
            continue
        start, stop = (int(each, 16) for each in where.split("-"))
        yield start, stop - start


def of_file(name: str, data: bytes) -> dict[str, bytes]:
    """Return pieces of a file's bytes, by names that say which."""
    return {
        f"{name} file {tenth}": data[at : at + 64]
        for tenth in (3, 7)
        for at in [len(data) * tenth // 10]
    }
