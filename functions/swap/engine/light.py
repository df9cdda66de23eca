"""Light: a source's texture as the target's picture would have shown it.

What varies slowly over a face is light and complexion; what varies fast is who it
is.  So the slow part becomes the target's, channel by channel as von Kries adapts
to a light, and the fast part stays the source's, with the contrast that the
target's camera gives to skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, f32, u8
from functions.swap.engine.atlas import at, atlas, blur, half
from functions.swap.engine.skin import norm, surroundings, weighted

if TYPE_CHECKING:
    from functions.swap.engine.identity import Identity

_REACH = 0.15  # of the atlas's side: what varies more slowly is light
_GAIN_MIN, _GAIN_MAX, _DARKEST = 0.3, 3.0, 8.0
_MATCH = 0.8  # 1 would give the source exactly the target's contrast
# Luma, chroma.  A cast differs from shade to shade within one picture, so little of
# the colour that skin differs by says who someone is.
_KEPT_MIN, _KEPT_MAX = f32((0.35, 0.2)), f32((1.0, 0.4))
_FEATURES = 0.6  # how far brows and lips keep their own contrast
_COLOUR = 0.7  # the most of its own colour that anything keeps
_LUMA = np.array([[0.114, 0.587, 0.299]], np.float32)  # of BGR, ITU-R BT.601


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """How to relight a texture, everything in the atlas at HALF.

    `ratio` (.., 3) is the target's slow part over the source's, `low` (.., 3) the
    target's.  Of what a texture differs from `low`, `kept` (.., 2) says how much of
    its brightness and of its colour is kept.
    """

    ratio: Floats
    low: Floats
    kept: Floats

    def __call__(self, texture: Bytes, place: Floats) -> Bytes:
        """Return the relit texture at places (h, w, 2) in parts of its side, BGR."""
        low = at(self.low, place)
        rest = f32(at(texture, place)) * at(self.ratio, place) - low
        luma, chroma = cv2.split(at(self.kept, place))
        bright = f32(cv2.transform(rest, _LUMA)) * (luma - chroma)
        lit = low + rest * chroma[..., np.newaxis] + bright[..., np.newaxis]
        return u8(np.clip(np.rint(lit), 0, 255))


def relight(identity: Identity, target: Bytes, weight: Floats) -> Light:
    """Return the light that fits the identity to a target's atlas, BGR at HALF.

    `weight` (HALF, HALF) says where both are skin.
    """
    ours, theirs = f32(identity.flat), f32(target)
    low_ours = surroundings(ours, weight, _REACH)
    low = surroundings(theirs, weight, _REACH)
    ratio = np.clip(low / np.maximum(low_ours, _DARKEST), _GAIN_MIN, _GAIN_MAX)
    colourful = min(_colour(low, weight) / max(_colour(low_ours, weight), 1.0), 1.0)
    skin = _contrasts(f32(ours * ratio - low), f32(theirs - low), weight)
    skin *= f32((1.0, colourful))
    features = blur(f32(1 - atlas().skin), 1.0) * np.float32(_FEATURES)
    # Frames are no skin: they stay what they are, only in another light.
    own = np.maximum(features, half(identity.frames))[..., np.newaxis]
    most = f32((1.0, _COLOUR)) * f32((1.0, colourful))
    return Light(f32(ratio), low, f32(skin + own * (most - skin)))


def _colour(low: Floats, weight: Floats) -> float:
    """Return how far from grey skin is, in levels; 0 in a grey picture."""
    blue, _, red = weighted(low, weight).tolist()
    return abs(float(red) - float(blue))


def _contrasts(ours: Floats, theirs: Floats, weight: Floats) -> Floats:
    """Return how much of the source's luma and chroma contrast skin keeps, (2,)."""
    one, other = _spread(ours, weight), _spread(theirs, weight)
    ratio = np.sqrt((other + np.float32(0.5)) / (one + np.float32(0.5)))
    return f32(np.clip(ratio**_MATCH, _KEPT_MIN, _KEPT_MAX))


def _spread(rest: Floats, weight: Floats) -> Floats:
    """Return the mean square of luma and of chroma over the weighted texels, (2,)."""
    luma = f32(cv2.transform(rest, _LUMA))
    chroma = norm(f32(rest - luma[..., np.newaxis]))
    return weighted(f32(np.square(cv2.merge((luma, chroma)))), weight)
