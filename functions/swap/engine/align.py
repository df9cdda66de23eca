"""Alignment: how a face must lie for a network that knows faces in one place only.

Five points (the eye at the viewer's left, the one at the right, the tip of the nose,
the corners of the mouth alike) are brought to a template's by the similarity, a
rotation, one scale and a shift, with the least squares.  Points and pixels are
counted from the centre of the first pixel, as OpenCV's warps and SCRFD do.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, Matrix, f32, u8

if TYPE_CHECKING:
    from models.manifest import Template

POINTS: Final = 5
_FAR: Final = 1e6  # pixels: no picture is as large
_SPREAD_MIN: Final = 0.05  # pixels squared, all five: a tenth of a pixel each
_LIKE_MIN: Final = 1e-4  # squared correlation with the template, turned as it may be


class Degenerate(ValueError):
    """The five points are no face: not finite, all in one place, or inside out."""


_Points = tuple[tuple[float, float], ...]

_ARCFACE: Final = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)  # insightface/utils/face_align.py, `arcface_dst`
_FRONTAL: Final = (
    (39.730, 51.138),
    (72.270, 51.138),
    (56.000, 68.493),
    (42.463, 87.010),
    (69.537, 87.010),
)  # the frontal one of the five that face_align.py chose from at first, `src3`
_FFHQ: Final = (
    (192.98138, 239.94708),
    (318.90277, 240.19360),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)  # facexlib/utils/face_restoration_helper.py, `face_template`
_TEMPLATES: Final[dict[Template, tuple[int, float, _Points]]] = {
    "arcface_112": (112, 0, _ARCFACE),
    "arcface_112_v1": (112, 0, _FRONTAL),
    "arcface_128": (128, 8, _ARCFACE),
    "ffhq_512": (512, 0, _FFHQ),
}  # the side they are told for, what is added to x there, and the points


class _Pattern(NamedTuple):
    """Five points in a crop: their mean, what each is off it, the squares' sum."""

    mean: tuple[float, float]
    apart: tuple[tuple[float, float], ...]
    spread: float


def points_of(template: Template, side: int) -> Floats:
    """Return where the five points lie in an aligned crop, (5, 2) float32, pixels."""
    told_for, inset, points = _TEMPLATES[template]
    ratio = side / told_for
    placed = f32(points) * f32(ratio)
    placed[:, 0] += inset * ratio
    return placed


@lru_cache(maxsize=32)
def _pattern(template: Template, side: int) -> _Pattern:
    """Return a template ready to be met, rounded to float32 where insightface does."""
    placed = points_of(template, side)
    mean = placed.mean(axis=0)
    apart = [(x, y) for x, y in (placed - mean).tolist()]
    spread = sum(x * x + y * y for x, y in apart)
    return _Pattern((float(mean[0]), float(mean[1])), tuple(apart), spread)


def estimate(points: Floats | Matrix, side: int, template: Template) -> Matrix:
    """Return the similarity from a picture to an aligned crop, (2, 3) float64.

    Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns" (1991): in the plane, where a reflection is not allowed, his singular
    values come to one complex division, the covariance over the points' variance.
    Ten numbers are too few for numpy: this takes 3 us, insightface's way 40.

    It reckons in double precision.  Of float64 points insightface finds the same to
    1e-10; of float32 it rounds on the way, and strays by up to 4e-3 in the shift of
    a small face in a corner of a 4K frame, 2e-3 pixels of the crop.

    Parameters
    ----------
    points
        The five points, (5, 2) float32 or float64, in pixels of the picture.
    side
        The crop's side, pixels.
    template
        Where the five must come to lie.

    Raises
    ------
    Degenerate
        If the points say nothing of a face's place.
    ValueError
        If they are not five pairs.

    """
    if points.shape != (POINTS, 2):
        raise ValueError(f"five points are (5, 2), not {points.shape}")
    pattern = _pattern(template, side)
    pairs: list[list[float]] = points.tolist()
    if not all(abs(x) < _FAR and abs(y) < _FAR for x, y in pairs):
        raise Degenerate("a point is not a number, or in no picture")
    mean_x = sum([x for x, _ in pairs]) / POINTS
    mean_y = sum([y for _, y in pairs]) / POINTS
    along = across = spread = 0.0
    for (x, y), (u, v) in zip(pairs, pattern.apart, strict=True):
        dx, dy = x - mean_x, y - mean_y
        along += dx * u + dy * v
        across += dx * v - dy * u
        spread += dx * dx + dy * dy
    if spread < _SPREAD_MIN:
        raise Degenerate("the five points are one")
    if along * along + across * across < _LIKE_MIN * spread * pattern.spread:
        raise Degenerate("the five points are no face, however it is turned")
    cos, sin = along / spread, across / spread
    shift_x = pattern.mean[0] - cos * mean_x + sin * mean_y
    shift_y = pattern.mean[1] - sin * mean_x - cos * mean_y
    return np.array(((cos, -sin, shift_x), (sin, cos, shift_y)))


def crop(pixels: Bytes, matrix: Matrix, side: int) -> Bytes:
    """Return the aligned face, (side, side, 3) uint8: black where the picture ends.

    Bilinear and not reduced first, as insightface's `norm_crop2`: the networks were
    trained on such crops.
    """
    return u8(cv2.warpAffine(pixels, matrix, (side, side), borderValue=0.0))
