"""What the three walkers report, and how they cut bytes safely."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from functions.problems import Unreadable

# A walk is linear in the parts of a file, and a file may have millions of empty ones.
# A photograph has tens of segments, and thousands of PNG chunks at most.
PARTS_MAX = 50_000


@dataclass(slots=True)
class Container:
    """The facts one walk over a file collects; `exif` is a bare TIFF block."""

    width: int = 0
    height: int = 0
    exif: bytes = b""
    icc: bytes = b""
    depth: int = 8
    transparent: int | None = None


def unpack(pattern: str, data: bytes, offset: int) -> tuple[int, ...]:
    """Return the integers of `struct` pattern at offset.

    Raises:
        Unreadable: the data ends before them.

    """
    try:
        return struct.unpack_from(pattern, data, offset)
    except struct.error as error:
        raise Unreadable("The image is truncated.") from error


def cut(data: bytes, start: int, length: int) -> bytes:
    """Return exactly `length` bytes from `start`.

    Raises:
        Unreadable: there are not as many.

    """
    if start + length > len(data):
        raise Unreadable("The image is truncated.")
    return data[start : start + length]


class Steps:
    """Counts the parts of one file."""

    def __init__(self, parts_max: int = PARTS_MAX) -> None:
        self._left = parts_max

    def take(self) -> None:
        """Note one more.

        Raises:
            Unreadable: there are more than any picture has.

        """
        self._left -= 1
        if self._left < 0:
            raise Unreadable("The image consists of too many parts.")
