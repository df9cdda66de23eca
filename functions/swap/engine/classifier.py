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
from functions.swap.offers import labels_of, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.swap.engine.arrays import Bytes
    from functions.swap.engine.runtime import Network


class Classifier:
    """One classifying network or more, each with labels of its own.

    `name` and `labels` are those of all of them.

    Raises:
        Unfit: there is none; a manifest gives no square input of a known side, or not
            one label for each number that its network gives; or a label comes twice.

    """

    def __init__(self, *networks: Network) -> None:
        for network in networks:
            _check(network)
        self._networks = networks
        self.name = name_of(network.model for network in networks)
        self.labels = labels_of(network.model for network in networks)
        if len({label.casefold() for label in self.labels}) != len(self.labels):
            raise Unfit(f"{self.name}: a label twice")
        if not networks:
            raise Unfit("no classifier")

    def __call__(self, pixels: Bytes) -> dict[str, float]:
        """Return the probability of each label for a picture, (h, w, 3) uint8 BGR.

        Those of one network add up to 1.  Numbers that are none come out as they are:
        whoever decides must not take them for small.

        Raises:
            Unfit: a network gives more or fewer numbers than it has labels.

        """
        return {
            label: probability
            for network in self._networks
            for label, probability in _told(network, pixels)
        }


def _check(network: Network) -> None:
    model = network.model
    numbers, labels = model.outputs[0].shape[-1], len(model.labels)
    if not network.side or not labels or numbers not in {0, labels}:
        raise Unfit(f"{model.name}: {labels} labels for {numbers} numbers")


def _told(network: Network, pixels: Bytes) -> Iterator[tuple[str, float]]:
    """Return each label of one network with its probability."""
    model = network.model
    numbers = first(network, _squeezed(pixels, network.side)).ravel()
    if len(numbers) != len(model.labels):
        raise Unfit(
            f"{model.name}: {len(numbers)} numbers for {len(model.labels)} labels"
        )
    with np.errstate(invalid="ignore"):  # infinity less infinity is no number
        odds = np.exp(numbers.astype(np.float64) - numbers.max())
    return zip(model.labels, (odds / odds.sum()).tolist(), strict=True)


def _squeezed(pixels: Bytes, side: int) -> Bytes:
    """Return all of the picture as a square.

    Published pipelines cut out the middle or squeeze; what is cut off is not judged,
    so a gate squeezes.  First what shrinks, then what grows: at once, OpenCV averages
    no axis if one of them grows, and passes over most of a long picture.
    """
    height, width = pixels.shape[:2]
    least = min(width, side), min(height, side)
    shrunk = cv2.resize(pixels, least, interpolation=cv2.INTER_AREA)
    return u8(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_CUBIC))
