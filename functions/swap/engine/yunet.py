"""YuNet (Wu et al., 2023), the file of March 2023: one anchor a cell, five points.

The contract is that of OpenCV's FaceDetectorYN: class, objectness, box and points,
each for strides 8, 16 and 32.  Centres and points count strides from the corner of
the cell, sizes are logarithms of strides, and the score is the geometric mean of
class and objectness.
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

_STRIDES, _KINDS = (8, 16, 32), 4
# OpenCV's model zoo takes these where the caller names none (yunet.py).
SCORE_MIN, OVERLAP_MAX = 0.6, 0.3
_PASSES = Passes(coarse=224)


@dataclass(frozen=True, slots=True)
class YuNet:
    """A detector of two passes: it was trained on faces of 10 to 300 pixels."""

    network: Network
    passes: Passes = _PASSES

    def __post_init__(self) -> None:
        """Refuse a network that is no YuNet.

        Raises:
            Unfit: it has not twelve outputs, or takes another image.

        """
        size_of(self.network, self.passes.side)
        if len(self.network.model.outputs) != _KINDS * len(_STRIDES):
            raise Unfit(f"{self.network.model.name}: a YuNet has twelve outputs")

    def __call__(self, pixels: Bytes) -> Detections:
        """Return the faces in a BGR picture (h, w, 3) uint8, in its pixels.

        Raises:
            Unfit: an output has not the shape of the contract.

        """
        return look(self.network, pixels, self._read, self.passes, OVERLAP_MAX)

    def _read(self, outputs: Sequence[Floats], size: tuple[int, int]) -> Detections:
        name, parts = self.network.model.name, [Detections.none()]
        for level, stride in enumerate(_STRIDES):
            columns = size[1] // stride
            count = size[0] // stride * columns
            kind, thing, box, point = outputs[level :: len(_STRIDES)]
            sure = np.clip(rows(name, kind, count, 1)[:, 0], 0, 1)
            sure = np.sqrt(sure * np.clip(rows(name, thing, count, 1)[:, 0], 0, 1))
            boxes = rows(name, box, count, 4)
            points = rows(name, point, count, 2 * POINTS)
            chosen = np.flatnonzero(sure >= SCORE_MIN)
            corners = cells(chosen, columns)
            decoded = _decoded(corners, boxes[chosen], points[chosen], stride)
            parts.append(Detections(*decoded, sure[chosen]))
        return sane(Detections.join(parts), size)


def _decoded(
    corners: Floats, boxes: Floats, points: Floats, stride: int
) -> tuple[Floats, Floats]:
    """Return boxes (n, 4) and points (n, 5, 2) from what is said in strides."""
    with np.errstate(over="ignore", invalid="ignore"):  # `sane` takes those out
        centre = (boxes[:, :2] + corners) * f32(stride)
        half = np.exp(boxes[:, 2:]) * f32(stride) / 2
        marks = (points.reshape(-1, POINTS, 2) + corners[:, np.newaxis]) * f32(stride)
        return np.concatenate((centre - half, centre + half), axis=1), marks
