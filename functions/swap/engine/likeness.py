"""How alike two faces look, without an identity network.

Approximate, and meant for one thing: to pick, among the faces of one picture, the
one that a reference shows.  It compares the texture, laid out flat and freed of its
light, and the shape of the mesh.  It is no biometric check.  Measured on variants of
the two portraits (small, blurred, dark, noisy, turned, mirrored): one person's are
at least 0.5 alike, the other's at most 0.25.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.atlas import blur
from functions.swap.engine.skin import surroundings

if TYPE_CHECKING:
    from functions.swap.engine.identity import Identity

ALIKE_MIN = 0.4
_REACH, _FINEST = (
    0.12,
    1.5,
)  # of the atlas's side; texels: what lies between is compared
_APART = 0.06  # of the mesh's size: where likeness of shape has fallen to 1/e
_SEEN_MIN = 100.0  # texels that both must show
_DARKEST = 8.0


def similarity(a: Identity, b: Identity) -> float:
    """Return how alike two faces look: 1 the same, 0 unlike or not comparable."""
    weight = f32(a.trust * b.trust)
    if weight.sum() < _SEEN_MIN:
        return 0.0
    texture = _correlation(_relief(a, weight), _relief(b, weight), weight)
    return max(texture, 0.0) * math.exp(-((_distance(a.shape, b.shape) / _APART) ** 2))


def _relief(identity: Identity, weight: Floats) -> Floats:
    """Return brightness over that of the surroundings, (HALF, HALF)."""
    grey = blur(f32(cv2.cvtColor(identity.flat, cv2.COLOR_BGR2GRAY)), _FINEST)
    around = surroundings(f32(cv2.merge((grey, grey, grey))), weight, _REACH)[..., 0]
    return f32(grey / np.maximum(around, _DARKEST))


def _correlation(one: Floats, other: Floats, weight: Floats) -> float:
    """Return the weighted correlation coefficient of two images."""
    total = weight.sum()
    x, y = (each - (each * weight).sum() / total for each in (one, other))
    spread = math.sqrt(float((x * x * weight).sum()) * float((y * y * weight).sum()))
    return float((x * y * weight).sum()) / max(spread, 1e-9)


def _distance(one: Floats, other: Floats) -> float:
    """Return the root mean square between two shapes, the first turned to fit.

    Both are (468, 3), centred and of unit size; the turn is Kabsch's (1976).
    """
    left, _, right = np.linalg.svd((one.T @ other).astype(np.float64))
    flip = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    apart = one @ ((left * flip) @ right) - other
    return math.sqrt(float(np.square(apart).sum(axis=1).mean()))
