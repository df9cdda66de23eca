"""Blending: a swapped face into its picture, in place, inside its rectangle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from functions.swap.engine.arrays import Bytes
    from functions.swap.engine.swap import Swapped


def blend(pixels: Bytes, swapped: Swapped) -> None:
    """Draw the face into a BGR picture; where alpha is 0 not a bit changes."""
    height, width = swapped.alpha.shape
    part = pixels[swapped.y : swapped.y + height, swapped.x : swapped.x + width]
    mixed = cv2.blendLinear(swapped.pixels, part, swapped.alpha, 1 - swapped.alpha)
    np.copyto(part, mixed, where=swapped.alpha[..., np.newaxis] > 0)
