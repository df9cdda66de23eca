"""The two kinds of array the engine is made of, and how to say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Matrix = NDArray[np.float64]


def f32(values: ArrayLike) -> Floats:
    """Return float32, copying only where it is another type."""
    return np.asarray(values, np.float32)


def u8(values: ArrayLike) -> Bytes:
    """Return uint8, copying only where it is another type."""
    return np.asarray(values, np.uint8)


def sample(
    image: Floats | Bytes, where: Floats, method: int = cv2.INTER_LINEAR
) -> Floats | Bytes:
    """Return the image's values at `where` (h, w, 2), in pixel centres.

    Outside, the nearest edge.
    """
    out = cv2.remap(  # the stubs do not know that one map of pairs is enough
        image, where, None, method, borderMode=cv2.BORDER_REPLICATE
    )  # type: ignore[call-overload]
    return u8(out) if image.dtype == np.uint8 else f32(out)
