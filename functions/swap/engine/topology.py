"""The 468 points as one map: a flat layout, its triangles, its regions.

The layout was measured on the two portraits in `examples/`: the mean of both
meshes, made symmetric, unrolled on a cylinder so that the sides of a face get the
room that a frontal view denies them.  `layout.csv` has a row a point: u and v from
-5000 to 5000, and the number of the point's mirror image.

The numbers of the points along the oval, the eyes, the brows and the lips are
those of the published model (Kartynnik et al., 2019; MediaPipe Face Mesh).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Floats, f32

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS = 468
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288,
    397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136,
    172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
RIGHT_EYE = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
)  # fmt: skip
LEFT_EYE = (
    263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466,
)  # fmt: skip
RIGHT_BROW = (46, 53, 52, 65, 55, 107, 66, 105, 63, 70)
LEFT_BROW = (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375,
    291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)  # fmt: skip
MOUTH = (
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324,
    308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)  # fmt: skip

_UNIT = 10_000
_MARGIN = 0.1  # of the layout's side, around the oval
_RING = 1.2  # how far beyond the oval the map goes on, so that its edge is inside


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """The constant facts about the mesh.

    `layout` is (504, 2) float32 in 0..1: the 468 points and a ring around the
    oval.  `triangles` is (t, 3) int32 into it.  `mirror` is (468,) int32.
    """

    layout: Floats
    triangles: NDArray[np.int32]
    mirror: NDArray[np.int32]


@cache
def topology() -> Topology:
    """Read the layout and triangulate it, once a process (2 ms)."""
    table = np.loadtxt(
        Path(__file__).with_name("layout.csv"), np.int32, delimiter=",", skiprows=1
    )
    flat = f32(table[:, :2] / _UNIT * (1 - 2 * _MARGIN) + 0.5)
    layout = ringed(flat)
    return Topology(layout, _delaunay(layout), table[:, 2].copy())


def ringed(points: Floats) -> Floats:
    """Return (504, 2): the points and a ring outside the oval."""
    oval = points[list(OVAL), :2]
    centre = oval.mean(axis=0)
    ring = centre + np.float32(_RING) * (oval - centre)
    return np.concatenate((points[:, :2], ring)).astype(np.float32)


def _delaunay(layout: Floats) -> NDArray[np.int32]:
    """Return the Delaunay triangles of points in the unit square, (t, 3)."""
    plane = cv2.Subdiv2D((-1, -1, 3, 3))
    for point in layout.tolist():
        plane.insert(point)
    found = f32(plane.getTriangleList()).reshape(-1, 3, 2)
    numbers = {tuple(point): index for index, point in enumerate(layout.tolist())}
    corners = [[numbers[tuple(point)] for point in three] for three in found.tolist()]
    return np.array(corners, np.int32)
