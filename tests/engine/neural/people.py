"""Faces and pictures for tests of the whole engine."""

from __future__ import annotations

import numpy as np

from functions.swap.engine import align
from functions.swap.engine.embedding import Embedding
from functions.swap.engine.face import Face
from functions.swap.media import Image
from tests.engine.neural.networks import vector


def blank(width: int, height: int, level: int = 0) -> Image:
    return Image(np.full((height, width, 3), level, np.uint8), "png")


def lying(x: float, y: float, size: float, lean: float = 0) -> Face:
    """Return a face whose box is `size` wide, around x and y, leaning by radians."""
    template = align.points_of("arcface_112", 112).astype(np.float64) - 56
    turn = np.array(((np.cos(lean), np.sin(lean)), (-np.sin(lean), np.cos(lean))))
    points = template @ turn * (size / 112) + (x, y)
    half = size / 2
    return face_of((x - half, y - half, x + half, y + half), points.tolist())


def face_of(
    box: tuple[float, float, float, float], points: list[tuple[float, float]]
) -> Face:
    return Face(box, 0.9, tuple((x, y) for x, y in points), 0)


def someone(seed: int = 3) -> Embedding:
    return Embedding(vector(seed))
