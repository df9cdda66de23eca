"""The picture as the engine sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from functions.swap.media.header import Format


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A decoded picture, upright, eight bits a channel.

    `pixels` is (height, width, 3) uint8 in BGR order and contiguous; the engine
    draws into it.  `alpha` is (height, width) uint8, straight, or None for an
    opaque picture.  `format` is what the bytes were.  `icc` is the RGB colour
    profile of the file, given back unchanged on encoding.  No other metadata
    survives decoding.
    """

    pixels: NDArray[np.uint8]
    format: Format
    alpha: NDArray[np.uint8] | None = None
    icc: bytes = b""

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])

    @property
    def mime(self) -> str:
        """The media type of `format`."""
        return f"image/{self.format}"
