"""RetinaFace (Deng et al., 2019), as insightface 2.1 publishes its outputs.

They read like SCRFD's.  Fifteen are five strides with one anchor a cell, nine are
three with two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.swap.engine.letterbox import Passes, look, size_of
from functions.swap.engine.placement import Unfit
from functions.swap.engine.scrfd import KINDS, OVERLAP_MAX, Anchors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.swap.engine.arrays import Bytes, Floats
    from functions.swap.engine.detections import Detections
    from functions.swap.engine.runtime import Network

_LAYOUTS = (Anchors((8, 16, 32), 2), Anchors((8, 16, 32, 64, 128), 1))
_PASSES = Passes()
_ANCHORS = {KINDS * len(anchors.strides): anchors for anchors in _LAYOUTS}


@dataclass(frozen=True, slots=True)
class RetinaFace:
    """A detector of one pass, as insightface's, unless told otherwise."""

    network: Network
    passes: Passes = _PASSES

    def __post_init__(self) -> None:
        """Refuse a network that is no RetinaFace.

        Raises:
            Unfit: it has neither nine outputs nor fifteen, or takes another image.

        """
        size_of(self.network, self.passes.side)
        if len(self.network.model.outputs) not in _ANCHORS:
            name = self.network.model.name
            raise Unfit(f"{name}: a RetinaFace has nine outputs or fifteen")

    def __call__(self, pixels: Bytes) -> Detections:
        """Return the faces in a BGR picture (h, w, 3) uint8, in its pixels.

        Raises:
            Unfit: an output has not the shape of the contract.

        """
        model = self.network.model
        anchors = _ANCHORS[len(model.outputs)]

        def read(outputs: Sequence[Floats], size: tuple[int, int]) -> Detections:
            return anchors.read(model.name, outputs, size)

        return look(self.network, pixels, read, self.passes, OVERLAP_MAX)
