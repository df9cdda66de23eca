"""What in a face is skin, and what lies in front of it: hair, glasses, hands.

All in the atlas at HALF, without a network: skin varies slowly over a face, so
what stands out from its own smooth surroundings, where skin must be, is something
else.  `difference` is that distance in robust standard deviations of Lab.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, f32, u8
from functions.swap.engine.atlas import HALF, SIDE, atlas, blur, dilate, disc, half

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COARSE = 32  # side of the atlas for what is smooth
_REACH = (0.25, 0.14, 0.10)  # of the atlas's side: the surroundings, round by round
# Lab of OpenCV, 8 bits.  Below the floor noise would count, above the roof shading.
_DEVIATION_FLOOR = np.array((8.0, 3.0, 3.5), np.float32)
_DEVIATION_ROOF = np.array((14.0, 7.0, 7.0), np.float32)
_MAD = 1.4826  # median absolute deviation to standard deviation, for a Gaussian
_PRIOR = 0.02  # weight of the mean where no skin is near
_HALF_SEEN = 0.5
_RIM, _SIDES = 0.03, 0.16  # of the atlas's side, from the edge of the oval
_GLASSES_SHARE = 0.25  # of the bridge of the nose that is no skin
_FRAME = 2.4
_DARKER, _YELLOWER, _NARROW = 30.0, 12.0, 9  # levels, levels, texels
_MAYBE, _SURELY, _SURE_TEXELS, _LONG = 0.8, 1.6, 8, 45
_FRAMES_MIN = 0.01  # of the atlas
_EXPOSURE, _GAIN_MAX = 110.0, 5.0  # level; the most that a dark face is brightened
_HAIR = 2.6
_BLOB = 4.5
_LIPS_MIN = 1.15  # measured: 2.3 and more in colour, 1.4 in grey, 1.0 under a hand
_FALL, _NOSTRILS = 8.0, 0.75  # rows of the fade below the tip of the nose; its start


@dataclass(frozen=True, slots=True, eq=False)
class Skin:
    """`difference` and `open` are (HALF, HALF) float32, `open` from 0 to 1.

    `open` says where nothing lies in front of the face.  `glasses` says whether
    frames were seen, and then `frames` (SIDE, SIDE), 0 to 1, is where; if they are
    too small to be `resolved`, all that they may cover.
    """

    difference: Floats
    open: Floats
    frames: Floats
    glasses: bool
    resolved: bool


def read(texture: Bytes, seen: Floats) -> Skin:
    """Tell skin from the rest in a face laid out flat.

    `texture` is (n, n, 3) uint8 BGR, `seen` (HALF, HALF) how well a texel is seen.
    """
    lab = _lab(texture)
    difference = _difference(half(lab), seen)
    free = f32(
        np.minimum.reduce(
            [_hairless(difference), _blobless(difference), _handless(difference)]
        )
    )
    if not _wears_glasses(difference):
        none = np.zeros((SIDE, SIDE), np.float32)
        return Skin(difference, free, none, glasses=False, resolved=True)
    frames = _frames(lab)
    resolved = bool(frames.mean() >= _FRAMES_MIN)
    return Skin(
        difference,
        free,
        frames if resolved else atlas().lenses,
        glasses=True,
        resolved=resolved,
    )


def _lab(texture: Bytes) -> Floats:
    """Return Lab at SIDE, a dark picture first brought to a common brightness."""
    sized = cv2.resize(texture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    bright = float(half(u8(sized))[atlas().core > _HALF_SEEN].mean())
    gain = min(max(_EXPOSURE / max(bright, 1), 1), _GAIN_MAX)
    return f32(cv2.cvtColor(cv2.convertScaleAbs(sized, alpha=gain), cv2.COLOR_BGR2Lab))


def _difference(lab: Floats, seen: Floats) -> Floats:
    flat = atlas()
    usable = f32(flat.skin * (seen > _HALF_SEEN) * (flat.depth > _RIM))
    weight = f32(flat.core * (seen > _HALF_SEEN))
    difference = np.zeros((HALF, HALF), np.float32)
    for reach in _REACH:
        rest = lab - surroundings(lab, weight, reach)
        typical = np.abs(rest[(flat.core * weight) > _HALF_SEEN])
        spread = np.median(typical, axis=0) * _MAD if len(typical) else _DEVIATION_ROOF
        spread = np.clip(spread, _DEVIATION_FLOOR, _DEVIATION_ROOF)
        difference = norm(f32(rest / spread))
        weight = f32(np.clip((_BLOB - difference) / 2, 0, 1) * usable)
    return f32(difference)


def surroundings(image: Floats, weight: Floats, reach: float) -> Floats:
    """Return the weighted local mean of a square (n, n, 3), at its own size.

    `reach` is the Gaussian's deviation as a part of the side.  Normalised
    convolution, with the overall mean as a faint prior; done small, as it is smooth.
    """
    size = (_COARSE, _COARSE)
    mass = f32(cv2.resize(weight, size, interpolation=cv2.INTER_AREA))
    heavy = image * weight[..., np.newaxis]
    total = f32(cv2.resize(heavy, size, interpolation=cv2.INTER_AREA))
    mean = weighted(image, weight)
    sigma = reach * _COARSE
    local = blur(total, sigma) + np.float32(_PRIOR) * mean
    local /= blur(mass, sigma)[..., np.newaxis] + np.float32(_PRIOR)
    height, width = weight.shape
    return f32(cv2.resize(local, (width, height), interpolation=cv2.INTER_CUBIC))


def norm(image: Floats) -> Floats:
    """Return the length of each pixel's three channels."""
    a, b, c = cv2.split(image)
    return f32(np.sqrt(a * a + b * b + c * c))


def weighted(image: Floats, weight: Floats) -> Floats:
    """Return the weighted mean of each channel of (h, w, c), (c,)."""
    flat = image.reshape(weight.size, -1)
    return f32(weight.ravel() @ flat / max(float(weight.sum()), 1e-6))


def _wears_glasses(difference: Floats) -> bool:
    """Return whether something crosses the bridge of the nose, where skin is plain."""
    bridge = difference[atlas().bridge > _HALF_SEEN]
    return bool((bridge > _FRAME).mean() >= _GLASSES_SHARE)


def _frames(lab: Floats) -> Floats:
    """Return the frames of glasses at SIDE.

    They are narrow, and darker or yellower than what is on both sides of them.
    """
    darker = _hat(lab[..., 0], cv2.MORPH_BLACKHAT) / _DARKER
    yellower = _hat(lab[..., 2], cv2.MORPH_TOPHAT) / _YELLOWER
    frames = _connected(f32(np.maximum(darker, yellower) * atlas().glasses))
    return f32(np.minimum(1.6 * blur(frames, 1.0), 1))


def _hat(channel: Floats, kind: int) -> Floats:
    """Return by how much narrow things differ from both their sides."""
    box = np.ones((_NARROW, _NARROW), np.uint8)
    return f32(cv2.morphologyEx(channel, kind, box))


def _connected(likely: Floats) -> Floats:
    """Return what may be a frame and hangs together with what surely is one.

    Wrinkles and lashes are as dark, but short; a frame is long.
    """
    maybe = (likely > _MAYBE).astype(np.uint8)
    count, parts, facts, _ = cv2.connectedComponentsWithStats(maybe, connectivity=8)
    sure = np.bincount(u8(likely > _SURELY).ravel() * parts.ravel(), minlength=count)
    length = facts[:, 2:4].max(axis=1)
    kept = (sure >= _SURE_TEXELS) & (length >= _LONG)
    kept[0] = False
    return f32(kept[parts])


def _hairless(difference: Floats) -> Floats:
    """Return 0 from the first hair outwards: what lies beyond hair is no skin."""
    flat = atlas()
    soft = np.clip((blur(f32(difference), 1.0) - _HAIR), 0, 1) * flat.skin
    free = 1 - f32(cv2.morphologyEx(soft, cv2.MORPH_OPEN, disc(1)))
    out = np.ones_like(free)
    rows = slice(0, flat.brow + 1)
    out[rows] = np.minimum.accumulate(free[rows][::-1], axis=0)[::-1]
    left, right = round(HALF * 0.33), round(HALF * 0.67)
    side = np.ones_like(free)
    side[:, right:] = np.minimum.accumulate(free[:, right:], axis=1)
    side[:, :left] = np.minimum.accumulate(free[:, :left][:, ::-1], axis=1)[:, ::-1]
    side[flat.depth > _SIDES] = 1
    return np.minimum(out, side)


def _blobless(difference: Floats) -> Floats:
    """Return 0 where something large is in front: a cup, a microphone, a glove.

    Over the mouth a difference from skin says nothing by itself; there, what hangs
    together with the thing seen beside it belongs to it.
    """
    flat = atlas()
    strange = difference > _BLOB
    beside = f32(strange * flat.skin)
    blob = f32(cv2.morphologyEx(beside, cv2.MORPH_OPEN, disc(3)))
    if not blob.any():
        return np.ones_like(blob)
    blob[flat.nose :] = np.maximum(blob, _touching(strange, blob))[flat.nose :]
    whole = f32(cv2.morphologyEx(blob, cv2.MORPH_CLOSE, disc(3)))
    return 1 - blur(dilate(whole, 2), 1.5)


def _handless(difference: Floats) -> Floats:
    """Return 0 below the nose if the lips cannot be seen.

    A hand is skin, and nothing of it stands out; but lips always do, so where there
    are none something of skin is before them.
    """
    flat = atlas()
    free = np.ones((HALF, HALF), np.float32)
    if np.median(difference[flat.lips > _HALF_SEEN]) < _LIPS_MIN:
        fall = np.clip(1 - np.arange(HALF - flat.nose) / _FALL + _NOSTRILS, 0, 1)
        free[flat.nose :] = fall[:, np.newaxis]
    return free


def _touching(mask: NDArray[np.bool_], seeds: Floats) -> Floats:
    """Return the connected parts of a mask that reach into the seeds."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    numbers = np.unique(np.asarray(parts)[seeds > _HALF_SEEN])
    return f32(np.isin(parts, numbers[numbers > 0]))
