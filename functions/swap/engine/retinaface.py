"""RetinaFace (Deng et al., 2019), in the two ways insightface has published it.

What insightface 2.1 reads is written like an SCRFD: fifteen outputs are five strides
with one anchor a cell, nine are three with two.  The classic, published for MXNet
(`detection/retinaface` in its repository), has outputs that are pictures: for each
stride, the coarsest first, background and face, the regression of a square anchor as
in Faster R-CNN, and points in sides of the anchor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from functions.swap.engine.arrays import f32
from functions.swap.engine.detections import POINTS, Detections, sane
from functions.swap.engine.letterbox import Passes, look, size_of
from functions.swap.engine.placement import Unfit
from functions.swap.engine.scrfd import KINDS, OVERLAP_MAX, SCORE_MIN, Anchors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.swap.engine.arrays import Bytes, Floats
    from functions.swap.engine.runtime import Network

_PASSES = Passes()  # the largest anchors are 512 pixels: one look is enough
_LAYOUTS = (Anchors((8, 16, 32), 2), Anchors((8, 16, 32, 64, 128), 1))
_ANCHORS = {KINDS * len(anchors.strides): anchors for anchors in _LAYOUTS}
# The classic's: the sides of the two anchors of each stride, in pixels, and the centre
# of the first cell's, which lies in the middle of 16 pixels counted from 0.
_SIDES = {32: (512, 256), 16: (128, 64), 8: (32, 16)}
_CENTRE = 7.5
_PICTURE = 4  # axes


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
        count = len(self.network.model.outputs)
        if count not in _ANCHORS or (self.classic and count != KINDS * len(_SIDES)):
            name = self.network.model.name
            raise Unfit(f"{name}: a RetinaFace has nine outputs or fifteen")

    @property
    def classic(self) -> bool:
        """Whether the manifest describes outputs that are pictures."""
        return len(self.network.model.outputs[0].shape) == _PICTURE

    def __call__(self, pixels: Bytes) -> Detections:
        """Return the faces in a BGR picture (h, w, 3) uint8, in its pixels.

        Raises:
            Unfit: an output has not the shape of the contract.

        """
        read = self._classic if self.classic else self._listed
        return look(self.network, pixels, read, self.passes, OVERLAP_MAX)

    def _listed(self, outputs: Sequence[Floats], size: tuple[int, int]) -> Detections:
        return _ANCHORS[len(outputs)].read(self.network.model.name, outputs, size)

    def _classic(self, outputs: Sequence[Floats], size: tuple[int, int]) -> Detections:
        name, parts = self.network.model.name, [Detections.none()]
        for level, (stride, sides) in enumerate(_SIDES.items()):
            cells = size[0] // stride, size[1] // stride
            score, box, point = outputs[KINDS * level : KINDS * (level + 1)]
            faces = _planes(name, score, (2, 2, *cells))[1]
            boxes = _planes(name, box, (2, 4, *cells))
            points = _planes(name, point, (2, POINTS, 2, *cells))
            y, x, which = np.nonzero(faces.transpose(1, 2, 0) >= SCORE_MIN)
            centres = np.stack((x, y), axis=1) * f32(stride) + f32(_CENTRE)
            raw = boxes[which, :, y, x], points[which, :, :, y, x]
            decoded = _decoded(centres, f32(sides)[which, np.newaxis], *raw)
            parts.append(Detections(*decoded, faces[which, y, x]))
        return sane(Detections.join(parts), size)


def _planes(name: str, output: Floats, shape: tuple[int, ...]) -> Floats:
    """Return a picture of many planes as `shape`, without copying.

    Raises:
        Unfit: it has another size, or other planes.

    """
    planes = int(np.prod(shape[:-2]))
    if output.shape != (1, planes, *shape[-2:]):
        raise Unfit(f"{name}: an output is {output.shape}, not {(1, planes)} of cells")
    return output.reshape(shape)


def _decoded(
    centres: Floats, sides: Floats, boxes: Floats, points: Floats
) -> tuple[Floats, Floats]:
    """Return boxes (n, 4) and points (n, 5, 2) from what is said in sides."""
    with np.errstate(over="ignore", invalid="ignore"):  # `sane` takes those out
        middles = centres + boxes[:, :2] * sides
        half = (np.exp(boxes[:, 2:]) * sides - 1) / 2
        marks = centres[:, np.newaxis] + points * sides[:, np.newaxis]
        return np.concatenate((middles - half, middles + half), axis=1), marks
