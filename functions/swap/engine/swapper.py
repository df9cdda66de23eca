"""Swappers: networks that paint a source's identity on an aligned face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, u8
from functions.swap.engine.placement import Unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.swap.engine.arrays import Floats
    from functions.swap.engine.embedding import Embedding
    from functions.swap.engine.runtime import Network
    from models.manifest import Template

FACES_MAX: Final = 8
"""How many faces one run may hold: what a run takes of memory grows with them."""

_LEVEL_MAX: Final = 255


class Swapper(Protocol):
    """What the engine knows of a swapper, whichever it is."""

    @property
    def side(self) -> int:
        """The side of the crop it takes and gives, pixels."""

    @property
    def template(self) -> Template:
        """How the face must lie in that crop; see `align`."""

    def latent(self, embedding: Embedding) -> Floats:
        """Return an identity as the network takes it, (1, 512) float32.

        It depends on the source alone: make it once for a film.
        """

    def __call__(self, crop: Bytes, latent: Floats) -> Bytes:
        """Return the aligned face with that identity.

        Both are (side, side, 3) uint8 BGR; the result is a new array.

        Raises:
            FloatingPointError: the network gave what is no number.

        """

    def several(self, crops: Sequence[Bytes], latents: Sequence[Floats]) -> list[Bytes]:
        """Return many faces, each with its own identity, in as few runs as it can.

        Raises:
            FloatingPointError: the network gave what is no number.
            ValueError: there are not as many latents as crops.

        """


class Painter:
    """The half that all swappers share: crop and latent in, crop out.

    A value x that the network gives is the level `gain` x + `offset`, cut to 0 to 255
    and then to the whole number below, as insightface does it.

    Raises:
        Unfit: the manifest is no swapper's.

    """

    def __init__(self, network: Network, *, gain: float, offset: float) -> None:
        if len(network.model.vectors) != 1 or not network.side:
            raise Unfit(f"{network.model.name}: not one latent and a square crop")
        self._network = network
        self._gain, self._offset = np.float32(gain), np.float32(offset)
        self.side = network.side
        self.template = template_of(network)

    def __call__(self, crop: Bytes, latent: Floats) -> Bytes:
        """Return the aligned face with that identity; see `Swapper`."""
        return self._run([crop], latent)[0]

    def several(self, crops: Sequence[Bytes], latents: Sequence[Floats]) -> list[Bytes]:
        """Return many faces, each with its own identity; see `Swapper`."""
        if len(crops) != len(latents):
            raise ValueError(f"{len(latents)} latents for {len(crops)} faces")
        painted: list[Bytes] = []
        for first in range(0, len(crops), self._at_once):
            chosen = slice(first, first + self._at_once)
            painted += self._run(crops[chosen], np.concatenate(latents[chosen]))
        return painted

    @property
    def _at_once(self) -> int:
        """How many faces a run takes: as many as both its inputs do, 0 being any."""
        model = self._network.model
        axes = model.input.shape[0], model.vectors[0].shape[0]
        return min(axis or FACES_MAX for axis in axes)

    def _run(self, crops: Sequence[Bytes], latents: Floats) -> list[Bytes]:
        outputs = self._network(self._network.image(*crops), latents)
        planes = outputs[self._network.model.outputs[0].name]
        return [self._picture(each) for each in planes]

    def _picture(self, planes: Floats) -> Bytes:
        """Return what a network painted, (3, side, side) float32, as uint8 BGR."""
        levels = np.multiply(planes, self._gain)
        levels += self._offset
        np.clip(levels, 0, _LEVEL_MAX, out=levels)
        if np.isnan(levels.min()):  # or it would be a black face
            raise FloatingPointError(f"{self._network.model.name}: not a number")
        whole = levels.astype(np.uint8)
        if self._network.model.input.order == "rgb":
            whole = whole[::-1]
        return u8(cv2.merge(tuple(whole)))


def template_of(network: Network) -> Template:
    """Return how a face lies in the network's input.

    Raises:
        Unfit: the manifest does not say.

    """
    template = network.model.template
    if template is None:
        raise Unfit(f"{network.model.name}: the manifest names no template")
    return template
