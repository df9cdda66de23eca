"""The `ghost` contract: GHOST (Groshev et al., 2022), ghost_1_256 to ghost_3_256.

In: an aligned face of 256 pixels a side, RGB from -1 to 1, and an embedding of GHOST's
own identity network.  Out: the face with the other identity, RGB from -1 to 1.  A
second network, `crossface`, turns our embeddings into its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.swap.engine.arrays import f32
from functions.swap.engine.swapper import Painter

if TYPE_CHECKING:
    from functions.swap.engine.arrays import Floats
    from functions.swap.engine.embedding import Embedding
    from functions.swap.engine.runtime import Network


class Ghost(Painter):
    """The swapper and the converter of embeddings that goes with it."""

    def __init__(self, network: Network, converter: Network) -> None:
        super().__init__(network, gain=127.5, offset=128)  # the nearest level
        self._converter = converter

    def latent(self, embedding: Embedding) -> Floats:
        """Return the raw embedding through the converter, (1, 512) float32."""
        (converted,) = self._converter(embedding.raw.reshape(1, -1)).values()
        return f32(converted).reshape(1, -1)
