"""Turned squares: the part of a picture that a network looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, Matrix, f32, u8

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Window:
    """A square in a picture: its centre and side in pixels, its turn in radians.

    The turn is that of the content: 0.1 looks at a head that leans to its left,
    the viewer's right, and shows it upright.
    """

    x: float
    y: float
    side: float
    turn: float = 0.0

    def matrix(self, size: int) -> Matrix:
        """Return the 2x3 affine from the picture to a square of `size` pixels.

        Coordinates are of pixel centres in neither space but of pixel corners in
        both (0 is the edge of the picture), as detectors count.
        """
        scale = size / self.side
        cos, sin = math.cos(self.turn) * scale, math.sin(self.turn) * scale
        turn = np.array([[cos, sin], [-sin, cos]])
        shift = size / 2 - turn @ (self.x, self.y)
        return np.column_stack((turn, shift))

    def cut(self, pixels: Bytes, size: int) -> Bytes:
        """Return the square, (size, size, 3) uint8; black where the picture ends.

        A window much larger than `size` is reduced by areas first, or it would
        alias.
        """
        shrink = min(1.0, 2 ** math.floor(math.log2(max(size / self.side, 1e-6)) + 0.5))
        matrix = self.matrix(size)
        if shrink < 1:
            pixels, matrix = _reduced(pixels, self, shrink, matrix)
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        return u8(cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR))


def _reduced(
    pixels: Bytes,
    window: Window,
    shrink: float,
    matrix: Matrix,
) -> tuple[Bytes, Matrix]:
    """Return the window's surroundings made smaller, and the matrix from there."""
    reach = window.side * 0.75  # more than half the diagonal
    height, width = pixels.shape[:2]
    x0, x1 = _span(window.x, reach, width)
    y0, y1 = _span(window.y, reach, height)
    part = pixels[y0:y1, x0:x1]
    size = max(1, round((x1 - x0) * shrink)), max(1, round((y1 - y0) * shrink))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    back = np.diag(((x1 - x0) / size[0], (y1 - y0) / size[1]))
    turn = matrix[:, :2] @ back
    shift = matrix[:, 2] + matrix[:, :2] @ (x0, y0)
    return u8(small), np.column_stack((turn, shift))


def _span(centre: float, reach: float, limit: int) -> tuple[int, int]:
    low = min(max(0, math.floor(centre - reach)), limit - 1)
    return low, max(low + 1, min(limit, math.ceil(centre + reach)))


def apply(matrix: Matrix, points: NDArray[np.floating]) -> Floats:
    """Return points (..., 2) moved by a 2x3 affine."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return f32(moved)


def inverse(matrix: Matrix) -> Matrix:
    """Return the 2x3 affine that undoes `matrix`."""
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)
