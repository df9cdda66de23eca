"""The picture as the engine sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    def on(self, level: int) -> NDArray[np.uint8]:
        """Return the pixels as they show on a ground of that level of grey."""
        if self.alpha is None:
            return self.pixels
        alpha = self.alpha[:, :, np.newaxis].astype(np.uint16)
        laid = self.pixels * alpha + level * (255 - alpha)
        return ((laid + 127) // 255).astype(np.uint8)

    def shown(self) -> Iterator[NDArray[np.uint8]]:
        """Yield what it shows: on white and on black, and bare, if that differs.

        What lies in the alpha is in none of the pixels, and seen on any ground.
        """
        yield self.pixels
        if self.alpha is not None and int(self.alpha.min()) < 255:  # noqa: PLR2004 - opaque
            yield self.on(255)
            yield self.on(0)
