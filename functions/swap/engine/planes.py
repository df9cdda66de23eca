"""From what a network gives, planes of numbers, back to a picture's pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, f32, u8

if TYPE_CHECKING:
    from functions.swap.engine.arrays import Floats
    from functions.swap.engine.runtime import Network

_LEVEL_MAX: Final = 255


def picture(network: Network, planes: Floats) -> Bytes:
    """Return planes in the numbers of the network's input as pixels.

    The inverse of `Network.image`, rounded to the nearest level: (3, h, w) float32 in,
    (h, w, 3) uint8 BGR out.

    Raises:
        FloatingPointError: the network gave what is no number.

    """
    model = network.model
    mean, std = f32(model.input.mean) / 1000, f32(model.input.std) / 1000
    levels = planes * std[:, np.newaxis, np.newaxis]
    levels += mean[:, np.newaxis, np.newaxis]
    np.rint(levels, out=levels)
    np.clip(levels, 0, _LEVEL_MAX, out=levels)
    if np.isnan(levels.min()):  # or it would be black
        raise FloatingPointError(f"{model.name}: not a number")
    whole = levels.astype(np.uint8)
    return u8(cv2.merge(tuple(whole if model.input.order == "bgr" else whole[::-1])))


def first(network: Network, picture_bgr: Bytes) -> Floats:
    """Return the first output of the network for one picture, without the batch."""
    outputs = network(network.image(picture_bgr))
    return f32(outputs[network.model.outputs[0].name][0])
