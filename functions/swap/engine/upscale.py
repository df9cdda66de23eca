"""The `realesrgan` and `swin2sr` contracts: a whole picture enlarged, tile by tile.

In: RGB from 0 to 1 of any size.  Out: the same, `scale` times as large.  Every run is
one tile of 256 pixels, whatever the picture: the network needs room for a tile alone,
and a GPU sees one shape.  A tile's outer 8 pixels are context and thrown away; over the
next 16 it fades into its neighbour, so that no seam shows.  (Figures of the field:
FaceFusion cuts 256/16/8, without fading.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from functions.swap.engine.arrays import f32, u8
from functions.swap.engine.placement import Unfit
from functions.swap.engine.planes import first, picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from functions.swap.engine.arrays import Bytes, Floats
    from functions.swap.engine.runtime import Network

TILE: Final = 256
MARGIN: Final = 16
"""How far a tile reaches beyond its own part of the picture, pixels."""
FEATHER: Final = 8
"""How far on each side of the border between two tiles they are mixed."""


class Upscaler:
    """One enlarging network; `scale` is its factor.

    Raises:
        Unfit: the manifest says a factor of 1, or fixes a size that is no tile's.

    """

    def __init__(self, network: Network) -> None:
        model = network.model
        tile = network.side or TILE
        if (
            model.scale == 1
            or tile <= 2 * MARGIN
            or model.input.shape[-1] != network.side
        ):
            raise Unfit(f"{model.name}: no factor, or no square tile")
        self._network = network
        self._tile, self._step = tile, tile - 2 * MARGIN
        self.scale = model.scale
        self._ramp = _ramp(2 * FEATHER * self.scale)

    def __call__(self, pixels: Bytes) -> Bytes:
        """Return a picture, (h, w, 3) uint8 BGR, `scale` times as large.

        Beyond the result it takes room for two rows of tiles.

        Raises:
            FloatingPointError: the network gave what is no number.

        """
        height, width = pixels.shape[:2]
        scale = self.scale
        large = np.empty((height * scale, width * scale, 3), np.uint8)
        for top in range(0, height, self._step):
            begin, end = self._kept(top, height)
            row = np.empty(((end - begin) * scale, width * scale, 3), np.uint8)
            for left in range(0, width, self._step):
                part = self._part(pixels, top, left)
                _lay(row, part, self._kept(left, width)[0] * scale, self._ramp)
            # The same again, for rows instead of columns.
            _lay(large.swapaxes(0, 1), row.swapaxes(0, 1), begin * scale, self._ramp)
        return large

    def _kept(self, begin: int, length: int) -> tuple[int, int]:
        """Return what is kept of the tile whose own part begins there, of one axis."""
        return max(begin - FEATHER, 0), min(begin + self._step + FEATHER, length)

    def _part(self, pixels: Bytes, top: int, left: int) -> Bytes:
        """Return what is kept of one tile, enlarged."""
        tile = cut(pixels, top - MARGIN, left - MARGIN, self._tile)
        large = picture(self._network, first(self._network, tile))
        if large.shape[:2] != (self._tile * self.scale,) * 2:
            raise Unfit(f"{self._network.model.name}: not {self.scale} times as large")
        kept = []
        for begin, length in zip((top, left), pixels.shape, strict=False):
            first_, last = self._kept(begin, length)
            offset = MARGIN - begin
            kept.append(
                slice((first_ + offset) * self.scale, (last + offset) * self.scale)
            )
        return large[tuple(kept)]


def cut(pixels: Bytes, top: int, left: int, side: int) -> Bytes:
    """Return a square of the picture, which goes on mirrored beyond its edges."""
    height, width = pixels.shape[:2]
    rows, columns = _mirrored(top, side, height), _mirrored(left, side, width)
    return u8(pixels[rows[:, np.newaxis], columns])


def _mirrored(begin: int, count: int, length: int) -> NDArray[np.intp]:
    """Return which of `length` pixels stand at `count` places from `begin` on."""
    period = max(2 * (length - 1), 1)
    places = np.arange(begin, begin + count) % period
    return np.minimum(places, period - places)


def _lay(canvas: Bytes, part: Bytes, at: int, ramp: Floats) -> None:
    """Put a part into the canvas from column `at` on, fading in over what is there."""
    mixed = min(len(ramp), part.shape[1]) if at else 0
    there = canvas[:, at : at + mixed]
    steps = part[:, :mixed] - f32(there)
    steps *= ramp[:mixed, np.newaxis]
    canvas[:, at + mixed : at + part.shape[1]] = part[:, mixed:]
    there[:] = np.rint(there + steps)


def _ramp(count: int) -> Floats:
    """Return `count` shares from almost 0 to almost 1, at the pixels' centres."""
    return f32((np.arange(count) + 0.5) / count)
