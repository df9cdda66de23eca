"""The `bisenet` contract: which part of a face each pixel shows.

In: a face of 512 pixels a side, in ImageNet's mean and deviation.  Out: 19 scores a
pixel, for the classes of CelebAMask-HQ in the order of the manifest's labels; of the
three maps that the published file gives, the first is the whole network's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from functions.swap.engine import masks
from functions.swap.engine.arrays import Bytes, Floats, u8
from functions.swap.engine.placement import Unfit
from functions.swap.engine.planes import first

if TYPE_CHECKING:
    from functions.swap.engine.runtime import Network

CLASSES: Final = 19


class Parser:
    """One parsing network.

    Raises:
        Unfit: the manifest gives no square crop of a known side, or other classes.

    """

    def __init__(self, network: Network) -> None:
        model = network.model
        if not network.side or len(model.labels) != CLASSES:
            raise Unfit(f"{model.name}: not {CLASSES} labels for a square crop")
        self._network = network
        self.side = network.side

    def __call__(self, crop: Bytes) -> Bytes:
        """Return the class of each pixel of a crop.

        `crop` is a square of any side, (n, n, 3) uint8 BGR, in which the face lies as
        in a swapper's; the classes are (side, side) uint8, and `masks.occlusion` takes
        them to the side that is wanted.
        """
        if crop.shape[0] != self.side:
            crop = u8(cv2.resize(crop, (self.side, self.side)))
        scores = first(self._network, crop)
        return u8(np.argmax(scores, axis=0))


def face_mask(labels: Bytes) -> Floats:
    """Return 1 where classes (h, w) are of the face itself, else 0, as float32.

    Skin, brows, eyes, nose and mouth; what is before it (a hand, hair, glasses), and
    what is beside it, is 0.
    """
    return masks.visible(labels)
