"""Pictures side by side, for a person to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.media.codec import decode, encode
from functions.swap.media.image import Image

if TYPE_CHECKING:
    from collections.abc import Sequence


def side_by_side(pictures: Sequence[bytes], *, height: int = 512) -> bytes:
    """Return a JPEG of the encoded `pictures` from left to right, `height` px high."""
    scaled = []
    for data in pictures:
        pixels = decode(data).pixels
        width = max(1, round(pixels.shape[1] * height / pixels.shape[0]))
        scaled.append(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
    joined = np.ascontiguousarray(np.hstack(scaled), np.uint8)
    return encode(Image(joined, "jpeg"), "jpeg", 92)
