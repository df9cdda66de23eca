"""The 468-point face mesh (Kartynnik et al., 2019) of one face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from functions.swap.engine.window import Window, apply, inverse

if TYPE_CHECKING:
    from functions.swap.engine.arrays import Bytes, Floats
    from functions.swap.engine.runtime import Network

REACH = 1.5  # the crop's side, over the longer side of the face's box
_LOGIT_MAX = 80
_EYES = (33, 263)  # outer corners
_RIGHT, _LEFT = 0, 1  # of a detection's key points: the viewer's left and right eye


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """`points` is (468, 3) float32: x and y in pixels of the picture, z alike.

    z grows away from the camera, 0 being about the middle of the head.
    `presence` is the network's probability that there is a face.
    """

    points: Floats
    presence: float

    @property
    def turn(self) -> float:
        """The lean of the head in radians, from the outer corners of the eyes."""
        across = self.points[_EYES[1]] - self.points[_EYES[0]]
        return math.atan2(across[1], across[0])

    @property
    def window(self) -> Window:
        """The crop that this mesh would ask for, to look once more."""
        low, high = self.points[:, :2].min(axis=0), self.points[:, :2].max(axis=0)
        centre, side = (low + high) / 2, float((high - low).max())
        return Window(float(centre[0]), float(centre[1]), side * REACH, self.turn)


def window_of(box: Floats, landmarks: Floats) -> Window:
    """Return the crop for a detection: a square, eyes level, 1.5 x the longer side."""
    across = landmarks[_LEFT] - landmarks[_RIGHT]
    centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    return Window(
        float(centre[0]),
        float(centre[1]),
        float(sides.max()) * REACH,
        math.atan2(across[1], across[0]),
    )


class FaceMesh:
    """The mesh network with its crop and its way back."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, pixels: Bytes, window: Window) -> Mesh:
        """Return the mesh of the face in `window` of a BGR picture."""
        side = self._network.side
        out = self._network(self._network.image(window.cut(pixels, side)))
        raw = out["mesh"][0]
        points = np.empty_like(raw)
        points[:, :2] = apply(inverse(window.matrix(side)), raw[:, :2])
        points[:, 2] = raw[:, 2] * (window.side / side)
        logit = float(np.clip(out["presence"], -_LOGIT_MAX, _LOGIT_MAX).item())
        return Mesh(points, 1 / (1 + math.exp(-logit)))
