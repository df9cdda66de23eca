"""ArcFace (Deng et al., 2019): who a face shows, as an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from functions.swap.engine import align
from functions.swap.engine.embedding import Embedding
from functions.swap.engine.swapper import template_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.swap.engine.arrays import Bytes, Floats, Matrix
    from functions.swap.engine.runtime import Network

FACES_MAX: Final = 16
"""How many faces one run may hold: what a run takes of memory grows with them."""


class ArcFace:
    """An identity network with its alignment."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._template = template_of(network)

    def embed(self, pixels: Bytes, points: Floats | Matrix) -> Embedding:
        """Return the embedding of the face with these five points, (5, 2).

        Raises:
            align.Degenerate: the points are no face.
            ValueError: the network gave no direction.

        """
        return self.embed_all(pixels, [points])[0]

    def embed_all(
        self, pixels: Bytes, faces: Sequence[Floats | Matrix]
    ) -> list[Embedding]:
        """Return the embeddings of several faces of one picture, in their order.

        A network that takes any number of faces sees up to 16 in one run.
        """
        side, at_once = self._network.side, self._at_once
        crops = [
            align.crop(pixels, align.estimate(face, side, self._template), side)
            for face in faces
        ]
        embeddings: list[Embedding] = []
        for first in range(0, len(crops), at_once):
            image = self._network.image(*crops[first : first + at_once])
            (raw,) = self._network(image).values()
            embeddings += [Embedding(row) for row in np.asarray(raw, np.float32)]
        return embeddings

    @property
    def _at_once(self) -> int:
        """How many faces a run takes: what the first axis says, 0 being any."""
        return self._network.model.input.shape[0] or FACES_MAX
