"""Light: a source's texture as the target's picture would have shown it.

What varies slowly over a face is light and complexion; what varies fast is who it
is.  So the slow part becomes the target's, channel by channel as von Kries adapts
to a light, and the fast part stays the source's, with the contrast that the
target's camera gives to skin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, f32, u8
from functions.swap.engine.atlas import at, atlas, blur, half
from functions.swap.engine.skin import surroundings

if TYPE_CHECKING:
    from functions.swap.engine.identity import Identity

_REACH = 0.16  # of the atlas's side: what varies more slowly is light
_GAIN_MIN, _GAIN_MAX, _DARKEST = 0.3, 3.0, 8.0
_MATCH = 0.8  # 1 would give the source exactly the target's contrast
_CONTRAST_MIN, _CONTRAST_MAX = 0.35, 1.2
_FEATURES = 0.85  # how far brows and lips keep their own contrast
_LUMA = np.array((0.114, 0.587, 0.299), np.float32)  # of BGR, ITU-R BT.601


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """How to relight a texture, everything in the atlas at HALF.

    `ratio` (.., 3) is the target's slow part over the source's, `low` (.., 3) the
    target's, `own` (..) from 0 to 1 where the source keeps its contrast, and `skin`
    (3, 3) what elsewhere becomes of a difference from `low` in BGR.
    """

    ratio: Floats
    low: Floats
    own: Floats
    skin: Floats

    def __call__(self, texture: Bytes, place: Floats) -> Bytes:
        """Return the relit texture at places (h, w, 2) in parts of its side, BGR."""
        low = at(self.low, place)
        rest = f32(at(texture, place)) * at(self.ratio, place) - low
        own = at(self.own, place)[..., np.newaxis]
        plain = f32(cv2.transform(rest, self.skin))
        return u8(np.clip(np.rint(low + plain + own * (rest - plain)), 0, 255))


def relight(identity: Identity, target: Bytes, weight: Floats) -> Light:
    """Return the light that fits the identity to a target's atlas, BGR at HALF.

    `weight` (HALF, HALF) says where both are skin.
    """
    ours, theirs = f32(identity.textures[-1]), f32(target)
    low_ours = surroundings(ours, weight, _REACH)
    low = surroundings(theirs, weight, _REACH)
    ratio = np.clip(low / np.maximum(low_ours, _DARKEST), _GAIN_MIN, _GAIN_MAX)
    luma, chroma = _contrasts(f32(ours * ratio - low), f32(theirs - low), weight)
    skin = chroma * np.eye(3) + (luma - chroma) * np.outer(np.ones(3), _LUMA)
    features = blur(f32(1 - atlas().skin), 1.0) * np.float32(_FEATURES)
    # Frames are no skin: they stay what they are, only in another light.
    own = np.maximum(features, half(identity.frames))
    return Light(f32(ratio), low, f32(own), f32(skin))


def _contrasts(ours: Floats, theirs: Floats, weight: Floats) -> tuple[float, float]:
    """Return how much of the source's luma and chroma contrast to keep."""
    one, other = _spread(ours, weight), _spread(theirs, weight)
    ratio = [math.sqrt((b + 0.5) / (a + 0.5)) for a, b in zip(one, other, strict=True)]
    luma, chroma = (
        min(max(value**_MATCH, _CONTRAST_MIN), _CONTRAST_MAX) for value in ratio
    )
    return luma, chroma


def _spread(rest: Floats, weight: Floats) -> tuple[float, float]:
    """Return the mean square of luma and of chroma over the weighted texels."""
    total = max(float(weight.sum()), 1e-6)
    luma = rest @ _LUMA
    chroma = rest - luma[..., np.newaxis]
    bright = float((np.square(luma) * weight).sum()) / total
    colour = float((np.square(chroma).sum(axis=-1) * weight).sum()) / total
    return bright, colour
