"""Streams to write from, which need no memory, and what they held."""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO

_BLOCK = bytes(range(256)) * 4096


class Counted(io.BytesIO):
    """`size` bytes that are never all there, `step` at most at a time."""

    def __init__(self, size: int, *, step: int = 2**30) -> None:
        super().__init__()
        self._left = size
        self._step = step
        self._digest = hashlib.sha256()
        self._offset = 0
        self.largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        asked = self._left if size is None or size < 0 else size
        self.largest = max(self.largest, asked)
        size = min(asked, self._left, self._step)
        data = b"".join(self._blocks(size))
        self._digest.update(data)
        self._left -= size
        return data

    def digest(self) -> bytes:
        """Return the SHA-256 of what was read."""
        return self._digest.digest()

    def _blocks(self, size: int) -> list[bytes]:
        found = []
        while size:
            start = self._offset % len(_BLOCK)
            block = _BLOCK[start : start + size]
            found.append(block)
            size -= len(block)
            # One further each round, so that no two pieces are alike.
            self._offset += len(block) + (start + len(block) == len(_BLOCK))
        return found


class Broken(Counted):
    """As many bytes, and then a fault instead of an end."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise FileNotFoundError("the source is gone")
        return data


def digest_of(stream: BinaryIO) -> bytes:
    """Return the SHA-256 of a stream, read a piece at a time."""
    digest = hashlib.sha256()
    while piece := stream.read(1024 * 1024):
        digest.update(piece)
    return digest.digest()
