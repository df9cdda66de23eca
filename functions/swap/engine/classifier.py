"""The `classifier` contract: what a picture shows, as a probability for each label.

In: the whole picture, squeezed into the network's square.  Out: one number a label,
in the order of the manifest, of which softmax makes probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import u8
from functions.swap.engine.placement import Unfit
from functions.swap.engine.planes import first

if TYPE_CHECKING:
    from functions.swap.engine.arrays import Bytes
    from functions.swap.engine.runtime import Network


class Classifier:
    """One classifying network.

    Raises:
        Unfit: the manifest gives no square input of a known side, or not one label
            for each number that the network gives.

    """

    def __init__(self, network: Network) -> None:
        model = network.model
        numbers = model.outputs[0].shape[-1]
        if (
            not network.side
            or not model.labels
            or numbers not in {0, len(model.labels)}
        ):
            raise Unfit(
                f"{model.name}: {len(model.labels)} labels for {numbers} numbers"
            )
        if len({label.casefold() for label in model.labels}) != len(model.labels):
            raise Unfit(f"{model.name}: a label twice")
        self._network = network
        self.name, self.labels = model.name, model.labels

    def __call__(self, pixels: Bytes) -> dict[str, float]:
        """Return the probability of each label for a picture, (h, w, 3) uint8 BGR.

        They add up to 1.  Numbers that are none come out as they are: whoever decides
        must not take them for small.

        Raises:
            Unfit: the network gives more or fewer numbers than it has labels.

        """
        numbers = first(self._network, _squeezed(pixels, self._network.side))
        with np.errstate(invalid="ignore"):  # infinity less infinity is no number
            odds = np.exp(numbers.ravel().astype(np.float64) - numbers.max())
        told = (odds / odds.sum()).tolist()
        if len(told) != len(self.labels):
            raise Unfit(
                f"{self.name}: {len(told)} numbers for {len(self.labels)} labels"
            )
        return dict(zip(self.labels, told, strict=True))


def _squeezed(pixels: Bytes, side: int) -> Bytes:
    """Return all of the picture as a square.

    Published pipelines cut out the middle or squeeze; what is cut off is not judged,
    so a gate squeezes.
    """
    shrinks = max(pixels.shape[:2]) > side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return u8(cv2.resize(pixels, (side, side), interpolation=method))
