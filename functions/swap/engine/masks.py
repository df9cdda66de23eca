"""Where a swapped crop shows: masks in the crop's own square, 1 for all of it.

Each is (side, side) float32 from 0 to 1.  `box` is the rim that every crop needs;
`hull` and `occlusion` say more about the face in it.  Multiply them as you like.
Points and pixels are counted as OpenCV's warps do, from the centre of the first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, f32

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

# Parts of the side.  insightface's rim runs 0.05 inside an upright crop, its deviation
# 0.015; of a crop that leans by an angle t both grow, by 1 + sin 2t and by its root.
# This is a lean of 4 degrees: halfway between upright and 8.
_INSET, _SIGMA = 0.056, 0.016
_SEEN = 20 / 255  # of white: what it takes for the crop, so its edge lies outside
# Parts of the distance between the eyes, and of that from the eyes to the mouth:
# an oval from above the brows to the chin, chosen by eye on the sample portraits.
_BROAD, _HIGH, _LOW = 1.1, 0.75, 1.7
_OVAL_CORNERS = 64
_HULL_SOFT, _OCCLUSION_SOFT = 0.03, 0.02  # parts of the side: deviations
_SHIFT = 4  # OpenCV draws polygons in sixteenths of a pixel
_FIVE, _MESHES = 5, (106, 468, 478)
_FAR = 1e4  # pixels: beyond, a point says no more about the crop

# CelebAMask-HQ's classes, as BiSeNet numbers them: skin, brows, eyes, nose, mouth
# and lips.  Glasses (6), ears, hair and hats are the target's.
FACE = (1, 2, 3, 4, 5, 10, 11, 12, 13)


def box(side: int) -> Floats:
    """Return the feathered square that pastes a crop as insightface does.

    Its alpha is a white square, eroded and blurred: a square under a Gaussian is the
    product of two error functions.  At the crop's edge it has come near 0.
    """
    edge = _SEEN - 1
    extent = side - 1 - 2 * edge
    depth = np.minimum(np.arange(side), np.arange(side)[::-1]) - edge
    apart = (depth / extent - _INSET) / (_SIGMA * math.sqrt(2))
    ramp = f32([(1 + math.erf(value)) / 2 for value in apart.tolist()])
    return f32(np.outer(ramp, ramp))


def hull(side: int, points: Floats) -> Floats:
    """Return the face's outline, softened, from its landmarks in the crop, (n, 2).

    Five points (eyes, nose, corners of the mouth, the viewer's left first) are
    completed to an oval; of 106, 468 or 478 it is the convex hull.
    """
    if points.ndim != 2 or len(points) not in {_FIVE, *_MESHES}:  # noqa: PLR2004 - a table of points
        raise ValueError(f"landmarks are 5, 106, 468 or 478 points, not {points.shape}")
    flat = f32(points[:, :2])
    if not np.isfinite(flat).all():
        raise ValueError("a landmark is not a number")
    if len(flat) == _FIVE:
        flat = np.concatenate((flat, _oval(flat)))
    corners = cv2.convexHull(np.clip(flat, -_FAR, _FAR))
    drawn = np.zeros((side, side), np.float32)
    fixed = np.round(corners * (1 << _SHIFT)).astype(np.int32)
    cv2.fillConvexPoly(drawn, fixed, 1.0, cv2.LINE_8, _SHIFT)
    return _softened(drawn, _HULL_SOFT * side)


def _oval(five: Floats) -> Floats:
    """Return the outline of the face that five landmarks span, (n, 2).

    Its axes are those of the eyes and of the line from eyes to mouth, so that it
    leans, turns and shrinks with them.
    """
    eyes, mouth = five[:2].mean(axis=0), five[3:].mean(axis=0)
    across, down = five[1] - five[0], mouth - eyes
    middle = eyes + down * (_LOW - _HIGH) / 2
    turn = np.linspace(0, math.tau, _OVAL_CORNERS, endpoint=False)[:, np.newaxis]
    half = down * (_LOW + _HIGH) / 2
    return f32(middle + np.cos(turn) * across * _BROAD + np.sin(turn) * half)


def visible(labels: Bytes, kept: Collection[int] = FACE) -> Floats:
    """Return 1 where a parser's classes (h, w) are among those kept, else 0."""
    table = np.zeros(256, np.float32)
    table[list(kept)] = 1
    return f32(table[labels])


def occlusion(side: int, seen: Floats | NDArray[np.bool_]) -> Floats:
    """Return where nothing is in front of the face, softened.

    `seen` is (h, w) of any size, 1 where the face is seen, as a parser of the crop
    says; it is softened inwards, so that what is in front is not painted over.
    """
    whole = np.nan_to_num(f32(seen))
    height, width = whole.shape
    shrinks = side < max(height, width)
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    fitted = f32(cv2.resize(whole, (side, side), interpolation=method))
    reach = 2 * round(2 * _OCCLUSION_SOFT * side) + 1
    inner = f32(cv2.erode(fitted, np.ones((reach, reach), np.uint8)))
    return _softened(inner, _OCCLUSION_SOFT * side)


def _softened(mask: Floats, sigma: float) -> Floats:
    soft = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return f32(np.clip(soft, 0, 1))
