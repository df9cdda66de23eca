"""The `hyperswap` contract: FaceFusion's swapper, hyperswap_1a_256 and its kin.

In: an aligned face of 256 pixels a side, RGB from -1 to 1, and the normed embedding.
Out: the face with the other identity, RGB from -1 to 1 (facefusion's face_swapper
brings it back by the mean and deviation that it came with).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.swap.engine.swapper import Painter

if TYPE_CHECKING:
    from functions.swap.engine.arrays import Floats
    from functions.swap.engine.embedding import Embedding
    from functions.swap.engine.runtime import Network


class Hyperswap(Painter):
    """The network alone: it takes an embedding as it is, but normed."""

    def __init__(self, network: Network) -> None:
        super().__init__(network, gain=127.5, offset=128)  # the nearest level

    def latent(self, embedding: Embedding) -> Floats:
        """Return the normed embedding, (1, 512) float32."""
        return embedding.normed.reshape(1, -1)
