"""The `inswapper` contract: insightface's swapper, inswapper_128.

In: an aligned face of 128 pixels a side, RGB from 0 to 1, and a latent.  Out: the face
with the other identity, RGB from 0 to 1.  Only embeddings of w600k_r50 fit its map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from functions.swap.engine.arrays import f32
from functions.swap.engine.embedding import LENGTH
from functions.swap.engine.placement import Unfit
from functions.swap.engine.swapper import Painter

if TYPE_CHECKING:
    from functions.swap.engine.arrays import Floats
    from functions.swap.engine.embedding import Embedding
    from functions.swap.engine.runtime import Network


class Inswapper(Painter):
    """The network with `emap`, (512, 512) float32: from embeddings to latents.

    The published file carries the map as its last initializer, where no node uses it.

    Raises:
        Unfit: the map is of another shape or not finite, or the manifest is no
            swapper's.

    """

    def __init__(self, network: Network, emap: Floats) -> None:
        super().__init__(network, gain=255, offset=0)
        if emap.shape != (LENGTH, LENGTH):
            raise Unfit(f"emap is ({LENGTH}, {LENGTH}), not {emap.shape}")
        if not np.isfinite(emap).all():
            raise Unfit("emap is not all numbers")
        self._emap = f32(emap)

    def latent(self, embedding: Embedding) -> Floats:
        """Return the normed embedding through the map, normed, (1, 512) float32."""
        mapped = embedding.normed.reshape(1, -1) @ self._emap
        return f32(mapped / np.linalg.norm(mapped))
