"""Turned squares: the part of a picture that a network looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, Matrix, f32, u8

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Parts of the side; natural logarithm of the ratio; radians.
_APART, _LARGER, _TURNED = 0.05, 0.12, 0.1


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

    def near(self, other: Window) -> bool:
        """Return whether both show so much the same that one look is enough."""
        apart = math.hypot(self.x - other.x, self.y - other.y) / other.side
        larger = abs(math.log(max(self.side, 1e-6) / max(other.side, 1e-6)))
        turned = abs(math.remainder(self.turn - other.turn, math.tau))
        return apart < _APART and larger < _LARGER and turned < _TURNED

    def turned(self, quarters: int) -> Window:
        """Return the same square for what stands on its side or its head."""
        return replace(self, turn=self.turn + quarters * math.pi / 2)

    def matrix(self, size: int) -> Matrix:
        """Return the 2x3 affine from the picture to a square of `size` pixels.

        Coordinates are measured from the corner of the first pixel in both, as
        detectors count.
        """
        scale = size / self.side
        cos, sin = math.cos(self.turn) * scale, math.sin(self.turn) * scale
        turn = np.array([[cos, sin], [-sin, cos]])
        shift = size / 2 - turn @ (self.x, self.y)
        return np.column_stack((turn, shift))

    def cut(self, pixels: Bytes, size: int) -> Bytes:
        """Return the square, (size, size, 3) uint8; black where the picture ends.

        What surrounds the window is halved as often as it takes not to alias.
        """
        reach = self.side * 0.75  # more than half the diagonal
        height, width = pixels.shape[:2]
        x0, x1 = _span(self.x, reach, width)
        y0, y1 = _span(self.y, reach, height)
        here = Window(self.x - x0, self.y - y0, self.side, self.turn)
        around = pixels[y0:y1, x0:x1]
        return Pyramid(around, _halvings(self.side, size)).cut(here, size)


class Pyramid:
    """A picture and its halves, made once and cut from many times, by any thread."""

    def __init__(self, pixels: Bytes, halvings: int) -> None:
        self._levels = [pixels]
        for _ in range(halvings):
            height, width = self._levels[-1].shape[:2]
            size = max(1, width // 2), max(1, height // 2)
            small = cv2.resize(self._levels[-1], size, interpolation=cv2.INTER_AREA)
            self._levels.append(u8(small))

    def cut(self, window: Window, size: int) -> Bytes:
        """Return the window as (size, size, 3) uint8; black where the picture ends."""
        times = min(_halvings(window.side, size), len(self._levels) - 1)
        level, (height, width) = self._levels[times], self._levels[0].shape[:2]
        matrix = window.matrix(size)
        matrix[:, :2] *= (width / level.shape[1], height / level.shape[0])
        # OpenCV counts from the centres of pixels.
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        return u8(cv2.warpAffine(level, matrix, (size, size), flags=cv2.INTER_LINEAR))


def _halvings(side: float, size: int) -> int:
    """Return how often a picture is halved before `side` is reduced to `size`."""
    return max(0, math.floor(math.log2(max(side / size, 1))))


def _span(centre: float, reach: float, limit: int) -> tuple[int, int]:
    low = min(max(0, math.floor(centre - reach)), limit - 1)
    return low, max(low + 1, min(limit, math.ceil(centre + reach)))


def apply(matrix: Matrix, points: NDArray[np.floating]) -> Floats:
    """Return points (..., 2) moved by a 2x3 affine."""
    return f32(points @ matrix[:, :2].T + matrix[:, 2])


def inverse(matrix: Matrix) -> Matrix:
    """Return the 2x3 affine that undoes `matrix`."""
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)
