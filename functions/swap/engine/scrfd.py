"""SCRFD (Guo et al., 2021): boxes as distances from an anchor, and five points.

The contract is insightface's: the scores of strides 8, 16 and 32, then distances to
the left, top, right and bottom edge, then five points; distances and points count
strides from the anchor, the corner of its cell: (column, row) * stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from functions.swap.engine.arrays import f32
from functions.swap.engine.detections import POINTS, Detections, cells, rows, sane
from functions.swap.engine.letterbox import Passes, look, size_of
from functions.swap.engine.placement import Unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.swap.engine.arrays import Bytes, Floats
    from functions.swap.engine.runtime import Network

SCORE_MIN, OVERLAP_MAX = 0.5, 0.4  # insightface's
KINDS = 3
"""Scores, boxes and points."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """Where the anchors are: the stride of each level, and how many share a cell."""

    strides: tuple[int, ...]
    per_cell: int

    def read(
        self, name: str, outputs: Sequence[Floats], size: tuple[int, int]
    ) -> Detections:
        """Return what is likely enough a face, in pixels of the input.

        `outputs` are scores, boxes and points of the network `name`, each from the
        finest stride on; `size` is (height, width).

        Raises:
            Unfit: an output has not as many rows or columns as that makes.

        """
        parts = [Detections.none()]
        for level, stride in enumerate(self.strides):
            columns = size[1] // stride
            count = size[0] // stride * columns * self.per_cell
            score, box, point = outputs[level :: len(self.strides)]
            scores = rows(name, score, count, 1)[:, 0]
            boxes = rows(name, box, count, 4)
            points = rows(name, point, count, 2 * POINTS)
            # Few are, so the rest is never decoded.
            chosen = np.flatnonzero(scores >= SCORE_MIN)
            anchors = cells(chosen // self.per_cell, columns) * f32(stride)
            decoded = _decoded(anchors, boxes[chosen], points[chosen], stride)
            parts.append(Detections(*decoded, scores[chosen]))
        return sane(Detections.join(parts), size)


def _decoded(
    anchors: Floats, boxes: Floats, points: Floats, stride: int
) -> tuple[Floats, Floats]:
    """Return boxes (n, 4) and points (n, 5, 2) from what is said in strides."""
    with np.errstate(over="ignore", invalid="ignore"):  # `sane` takes those out
        reach = boxes * f32(stride)
        marks = points.reshape(-1, POINTS, 2) * f32(stride) + anchors[:, np.newaxis]
        around = (anchors - reach[:, :2], anchors + reach[:, 2:])
        return np.concatenate(around, axis=1), marks


_ANCHORS = Anchors((8, 16, 32), 2)
_PASSES = Passes(coarse=128)


@dataclass(frozen=True, slots=True)
class Scrfd:
    """A detector of two passes: what fills the picture is seen at 128 pixels.

    At 640 a face above about 40 % of the frame scores low, or 256 pixels of any
    input; at 128 a whole picture is less than that.
    """

    network: Network
    passes: Passes = _PASSES

    def __post_init__(self) -> None:
        """Refuse a network that is no SCRFD.

        Raises:
            Unfit: it has not nine outputs, or takes another image.

        """
        size_of(self.network, self.passes.side)
        if len(self.network.model.outputs) != KINDS * len(_ANCHORS.strides):
            raise Unfit(f"{self.network.model.name}: an SCRFD has nine outputs")

    def __call__(self, pixels: Bytes) -> Detections:
        """Return the faces in a BGR picture (h, w, 3) uint8, in its pixels.

        Raises:
            Unfit: an output has not the shape of the contract.

        """
        name = self.network.model.name

        def read(outputs: Sequence[Floats], size: tuple[int, int]) -> Detections:
            return _ANCHORS.read(name, outputs, size)

        return look(self.network, pixels, read, self.passes, OVERLAP_MAX)
