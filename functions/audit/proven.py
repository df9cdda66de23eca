"""How much of the tiles of hashes is proven by the checkpoints that were signed.

A checkpoint of `size` entries signs the root over the *edge*: in each level, the
last tile's first `(size >> 8 * level) % 256` hashes.  What is under a proven hash
is proven if it folds to it, down to the entries.  So whatever was changed, we know
where it can be: under the first hash that is not proven.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions.audit.merkle import HASH_BYTES, Frontier, fold
from functions.audit.tiles import TILE_HEIGHT, TILE_WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    ReadTile = Callable[[int, int, int], bytes]
    """From (level, number, width) to that many hashes, one after the other."""

_TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES


def levels(size: int) -> int:
    """Return how many levels of tiles a log of `size` entries has."""
    return -(-size.bit_length() // TILE_HEIGHT)


def edge(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (level, number, width) of each tile at the right edge, the top first."""
    for level in reversed(range(levels(size))):
        number, width = divmod(size >> (TILE_HEIGHT * level), TILE_WIDTH)
        if width:
            yield level, number, width


def needed(size: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield each tile that proves the entries from `start` up to `stop`, once.

    They are the tiles over them, and the edge: (level, number, width).
    """
    at_edge = set(edge(size))
    for level in range(levels(size) if stop > start else 0):
        there = size >> (TILE_HEIGHT * level)
        above = TILE_HEIGHT * (level + 1)
        for number in range(start >> above, ((stop - 1) >> above) + 1):
            width = min(TILE_WIDTH, there - number * TILE_WIDTH)
            if width > 0:
                at_edge.discard((level, number, width))
                yield level, number, width
    yield from sorted(at_edge)


class Tiles:
    """The tiles of a log of `size` entries, each of the upper ones read once."""

    def __init__(self, read: ReadTile, size: int) -> None:
        self._read = read
        self._upper: dict[tuple[int, int], bytes] = {}
        self._lowest: tuple[int, bytes] = (-1, b"")
        self._edges: dict[tuple[int, int], int] = {}
        self._widths: dict[tuple[int, int], int] = {}
        self.size = size

    def width(self, level: int, number: int) -> int:
        """Return how many hashes a tile has."""
        there = (self.size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH
        return max(0, min(TILE_WIDTH, there))

    def tile(self, level: int, number: int) -> bytes:
        """Return a tile; what `read` raises, this does."""
        if level == 0:
            if self._lowest[0] != number:
                row = self._read(0, number, self.width(0, number))
                self._lowest = (number, row)
            return self._lowest[1]
        if (level, number) not in self._upper:
            row = self._read(level, number, self.width(level, number))
            self._upper[level, number] = row
        return self._upper[level, number]

    def node(self, height: int, index: int) -> bytes:
        """Return the root of the `index`-th perfect subtree of `height`."""
        level, above = divmod(height, TILE_HEIGHT)
        number, offset = divmod(index << above, TILE_WIDTH)
        row = self.tile(level, number)
        return fold(row[offset * HASH_BYTES : (offset + (1 << above)) * HASH_BYTES])

    def frontier(self, size: int) -> Frontier:
        """Return the frontier of the first `size` entries, as the tiles have it."""
        hashes: list[bytes] = []
        for level, number, width in edge(size):
            row, at = self.tile(level, number), 0
            for height in reversed(range(TILE_HEIGHT)):
                if width >> height & 1:
                    end = at + (HASH_BYTES << height)
                    hashes.append(fold(row[at:end]))
                    at = end
        return Frontier(size, tuple(hashes))

    def prove(self, size: int, root: bytes) -> bool:
        """Return whether the tiles lead to the signed `root` of `size` entries.

        Call it for every checkpoint before asking what is proven.
        """
        if self.frontier(size).root() != root:
            return False
        for level, number, width in edge(size):
            known = self._edges.get((level, number), 0)
            self._edges[level, number] = max(known, width)
        return True

    def proven(self, level: int, number: int) -> int:
        """Return how many of a tile's hashes, from its first, are proven."""
        if level == 0:
            return self._proven(level, number)
        if (level, number) not in self._widths:
            self._widths[level, number] = self._proven(level, number)
        return self._widths[level, number]

    def _proven(self, level: int, number: int) -> int:
        wanted = self.above(level, number)
        if wanted and fold(self.tile(level, number)) == wanted:
            return TILE_WIDTH
        return self._edges.get((level, number), 0)

    def above(self, level: int, number: int) -> bytes:
        """Return the proven hash of a whole tile; b"" where there is none."""
        parent, offset = divmod(number, TILE_WIDTH)
        if level + 1 >= levels(self.size) or self.width(level, number) < TILE_WIDTH:
            return b""
        if offset >= self.proven(level + 1, parent):
            return b""
        at = offset * HASH_BYTES
        return self.tile(level + 1, parent)[at : at + HASH_BYTES]

    def unproven_until(self, number: int) -> int:
        """Return where what may be changed with a bundle of entries ends.

        That is the end of the lowest tile over it whose own hash is proven.
        """
        for level in range(levels(self.size)):
            if self.above(level, number):
                return (number + 1) << (TILE_HEIGHT * (level + 1))
            number //= TILE_WIDTH
        return self.size
