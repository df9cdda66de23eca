"""A face that was found: plain data, so that a record can hold it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from functions.swap.engine.arrays import Floats, f32

if TYPE_CHECKING:
    from functions.swap.engine.blazeface import Found

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture, in its pixels; (0, 0) is the corner of the first pixel.

    `box` is (x0, y0, x1, y1) and may reach beyond the picture.  `landmarks` begin with
    the eye at the viewer's left, the one at the right and the nose tip; then come, from
    the mesh engine, the mouth and the ears alike, and from the neural one the corners
    of the mouth.  `score` is 0 to 1.  `index` counts from 0, the largest face first.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[Point, ...]
    index: int

    @property
    def corners(self) -> Floats:
        """The box as (4,) float32."""
        return f32(self.box)

    @property
    def points(self) -> Floats:
        """The landmarks as (6, 2) float32, or (5, 2) from the neural engine."""
        return f32(self.landmarks)

    @property
    def size(self) -> float:
        """The longer side of the box, pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)


def faces_of(found: Found) -> list[Face]:
    """Return detections as faces, largest first; equal ones from left to right."""
    faces = [
        Face(
            tuple(found.boxes[i].tolist()),
            float(found.scores[i]),
            tuple((float(x), float(y)) for x, y in found.landmarks[i]),
            0,
        )
        for i in range(len(found))
    ]
    faces.sort(key=lambda face: (-round(face.size, 2), face.box))
    return [replace(face, index=index) for index, face in enumerate(faces)]


def uncertain(score: float) -> float:
    """Return how unsure a score is, 0 to 1; below 0.5 fully unsure, 0.9 not at all."""
    return float(np.clip((0.9 - score) / 0.4, 0, 1))
