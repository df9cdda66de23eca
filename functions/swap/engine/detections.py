"""Five-point detections: held against what a face can be, doubles removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from functions.swap.engine.blazeface import Found
from functions.swap.engine.face import faces_of
from functions.swap.engine.placement import Unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from functions.swap.engine.arrays import Floats
    from functions.swap.engine.face import Face

POINTS = 5
# How far a face may reach from the input's corner, in its longer side.  A network
# that says more is not looking at a face.
_REACH = 4.0
# No job takes as many faces; greedy suppression keeps the same first ones.
_KEPT_MAX = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Faces found: `boxes` (n, 4), `points` (n, 5, 2), `scores` (n,), float32.

    Boxes are x0, y0, x1, y1 in pixels and may reach beyond the picture; the points
    are the eye at the viewer's left, the one at the right, the tip of the nose, and
    the corners of the mouth alike.  What a detector returns is best first.
    """

    boxes: Floats
    points: Floats
    scores: Floats

    def __len__(self) -> int:
        """Count the detections."""
        return len(self.scores)

    def pick(self, which: NDArray[np.generic]) -> Detections:
        """Return those that a mask or an array of indices names."""
        return Detections(self.boxes[which], self.points[which], self.scores[which])

    def faces(self) -> list[Face]:
        """Return them as faces with five landmarks, largest first."""
        return faces_of(Found(self.boxes, self.points, self.scores))

    @staticmethod
    def none() -> Detections:
        """Return no detections."""
        points = np.zeros((0, POINTS, 2), np.float32)
        return Detections(points[:, :2].reshape(0, 4), points, np.zeros(0, np.float32))

    @staticmethod
    def join(parts: Sequence[Detections]) -> Detections:
        """Return all detections of several strides or passes, in their order."""
        return Detections(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )


def rows(name: str, output: Floats, count: int, width: int) -> Floats:
    """Return an output of the network `name` as (count, width), without copying.

    A network that takes batches gives it a first axis of 1.

    Raises:
        Unfit: it has another shape.

    """
    if output.shape not in {(count, width), (1, count, width)}:
        raise Unfit(f"{name}: an output is {output.shape}, not {(count, width)}")
    return output.reshape(count, width)


def cells(chosen: NDArray[np.intp], columns: int) -> Floats:
    """Return (column, row) of cells that are counted row by row, (n, 2).

    Asked for few at a time, which is cheaper than to keep all of them at hand.
    """
    y, x = np.divmod(chosen, columns)
    return np.stack((x, y), axis=1).astype(np.float32)


def sane(found: Detections, size: tuple[int, int]) -> Detections:
    """Return those that can be a face in an input of (height, width).

    The rest are no numbers, no probabilities, boxes turned inside out, or boxes and
    points further away than any face reaches.
    """
    reach = _REACH * max(size)
    boxes, points = found.boxes, found.points
    fit = (np.abs(boxes) <= reach).all(axis=1)  # what is no number is not less either
    fit &= (np.abs(points) <= reach).all(axis=(1, 2))
    fit &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    fit &= found.scores <= 1
    return found if fit.all() else found.pick(fit)


def suppress(found: Detections, overlap_max: float) -> Detections:
    """Return one detection a face, best first: greedy non-maximum suppression.

    A detection goes where a better one overlaps it by more than `overlap_max`:
    intersection over union, a side counting both of its ends, as insightface does.
    Of equal scores the first wins.
    """
    ranked = found.pick(np.argsort(-found.scores, kind="stable"))
    low, high = ranked.boxes[:, :2], ranked.boxes[:, 2:]
    areas = np.prod(high - low + 1, axis=1)
    left = np.arange(len(ranked))
    kept: list[np.intp] = []
    while len(left) and len(kept) < _KEPT_MAX:
        best, left = left[0], left[1:]
        kept.append(best)
        shared = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left])
        both = np.prod(np.maximum(shared + 1, 0), axis=1)
        overlap = both / (areas[best] + areas[left] - both)
        left = left[overlap <= overlap_max]
    return ranked.pick(np.array(kept, np.intp))
