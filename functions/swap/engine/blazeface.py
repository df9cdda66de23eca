"""BlazeFace (Bazarevsky et al., 2019): boxes and six key points from one square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from functions.swap.engine.arrays import Bytes, Floats
    from functions.swap.engine.runtime import Network
    from models.manifest import Grid

LANDMARKS = 6  # the viewer's left and right eye, nose tip, mouth, left and right ear
# Where the network's logit is beyond this, its probability is 0 or 1 in float32.
_LOGIT_MAX = 80


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Detections: `boxes` (n, 4), `landmarks` (n, 6, 2), `scores` (n,), float32."""

    boxes: Floats
    landmarks: Floats
    scores: Floats

    def __len__(self) -> int:
        """Count the detections."""
        return len(self.scores)

    def pick(self, which: NDArray[np.generic] | Sequence[int]) -> Found:
        """Return those that a mask or a list of indices names."""
        chosen = np.asarray(which, bool if len(which) == 0 else None)
        return Found(self.boxes[chosen], self.landmarks[chosen], self.scores[chosen])

    @property
    def first(self) -> Found:
        """The first detection, or none."""
        return Found(self.boxes[:1], self.landmarks[:1], self.scores[:1])

    @staticmethod
    def none() -> Found:
        """Return no detections."""
        points = np.zeros((0, LANDMARKS, 2), np.float32)
        return Found(points[:, :2].reshape(0, 4), points, np.zeros(0, np.float32))

    @staticmethod
    def join(parts: Sequence[Found]) -> Found:
        """Return all detections of several passes."""
        return Found(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.landmarks for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )


def anchors(grids: Sequence[Grid], side: int) -> Floats:
    """Return the centre of every anchor in pixels of an input `side` wide, (n, 2)."""
    centres = []
    for grid in grids:
        steps = (np.arange(grid.side, dtype=np.float32) + 0.5) * (side / grid.side)
        y, x = np.meshgrid(steps, steps, indexing="ij")
        cells = np.stack((x, y), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(cells, grid.per_cell, axis=0))
    return np.concatenate(centres).astype(np.float32)


class BlazeFace:
    """A detector over one square input."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.side = network.side
        self._anchors = anchors(network.model.grids, self.side)

    def __call__(self, square: Bytes, score_min: float) -> Found:
        """Find faces in a (side, side, 3) BGR picture, in its pixels, unsuppressed."""
        out = self._network(self._network.image(square))
        logits = np.clip(out["scores"][0, :, 0], -_LOGIT_MAX, _LOGIT_MAX)
        scores = 1 / (1 + np.exp(-logits))
        chosen = np.flatnonzero(scores >= score_min)
        raw, centres = out["boxes"][0, chosen], self._anchors[chosen]
        centre, half = raw[:, :2] + centres, raw[:, 2:4] / 2
        points = raw[:, 4:].reshape(-1, LANDMARKS, 2) + centres[:, np.newaxis]
        boxes = np.concatenate((centre - half, centre + half), axis=1)
        return Found(boxes, points, scores[chosen].astype(np.float32))
