"""The mesh swap: a source's texture on a target's geometry, in the target's light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine import skin
from functions.swap.engine.arrays import Bytes, Floats, f32, sample, u8
from functions.swap.engine.atlas import (
    HALF,
    SIDE,
    affines,
    atlas,
    blur,
    facing,
    fill,
    moved,
    scale,
    visible,
)
from functions.swap.engine.identity import flatten
from functions.swap.engine.topology import ringed, topology

if TYPE_CHECKING:
    from functions.swap.engine.identity import Identity

_MAP_MAX = 192  # sides of the map; beyond, it is enlarged
_LIGHT = 0.10  # of the atlas's side: light that varies more slowly is the target's
_GAIN_MIN, _GAIN_MAX = 0.3, 3.0
_CONTRAST_MIN, _CONTRAST_MAX = 0.4, 1.2
_MATCH = 0.8  # 1 would give the source exactly the target's contrast
_GRAIN = 8.0  # levels: grain and pores are the target's, wrinkles are not
_FINEST = 0.6  # pixels: the detail that a picture at its own size can hold
_FEATHER = 0.01  # of the face's size in the picture: the softest edge we accept


@dataclass(frozen=True, slots=True, eq=False)
class Swapped:
    """A face ready to be blended into its picture at (`x`, `y`).

    `pixels` is (h, w, 3) uint8 BGR, `alpha` (h, w) float32 from 0 to 1.
    """

    x: int
    y: int
    pixels: Bytes
    alpha: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Light:
    """`gain` and `offset` (HALF, HALF, 3): pixel * gain + offset is in new light."""

    gain: Floats
    offset: Floats


def render(pixels: Bytes, points: Floats, identity: Identity) -> Swapped:
    """Return the identity on the face whose mesh is `points` in a BGR picture."""
    flat = flatten(pixels, points, HALF)
    seen = visible(points)
    theirs = skin.read(flat, seen)
    luma = u8(cv2.cvtColor(flat, cv2.COLOR_BGR2YCrCb))
    trust = f32(theirs.open * identity.trust * seen)
    light = _relight(identity.textures[-1], luma, f32(trust * atlas().skin))
    mask = _mask(trust, theirs)
    size = scale(points)
    x, y, place = _place(pixels, points)
    face = _draw(place, identity.texture(min(size, identity.scale)), light)
    alpha = _alpha(place, mask, size)
    h, w = alpha.shape
    face = _detailed(face, pixels[y : y + h, x : x + w], size / identity.scale)
    return Swapped(x, y, face, alpha)


def _mask(trust: Floats, theirs: skin.Skin) -> Floats:
    """Return where the source shows, at SIDE, before the hull."""
    return f32(cv2.resize(trust * (1 - blur(theirs.frames, 0.7)), (SIDE, SIDE)))


def _relight(source: Bytes, target: Bytes, weight: Floats) -> _Light:
    """Fit the source to the target's light: luma by ratio, chroma by difference.

    Both are (HALF, HALF, 3) uint8 YCrCb; `weight` says where both are skin.
    """
    ours, theirs = f32(source), f32(target)
    low_ours = skin.surroundings(ours, weight, _LIGHT)
    low_theirs = skin.surroundings(theirs, weight, _LIGHT)
    luma = f32(low_theirs[..., :1] / np.maximum(low_ours[..., :1], 8))
    luma = f32(np.clip(luma, _GAIN_MIN, _GAIN_MAX))
    ratio = np.concatenate((luma, np.ones_like(luma), np.ones_like(luma)), axis=-1)
    contrast = _contrast((ours - low_ours) * ratio, theirs - low_theirs, weight)
    gain = ratio * contrast
    return _Light(f32(gain), f32(low_theirs - gain * low_ours))


def _contrast(ours: Floats, theirs: Floats, weight: Floats) -> Floats:
    """Return how much of each channel's contrast the target's picture would show."""
    total = max(float(weight.sum()), 1e-6)
    spread = [
        np.square(one * weight[..., np.newaxis]).sum(axis=(0, 1)) / total
        for one in (ours, theirs)
    ]
    ratio = np.sqrt((spread[1] + 0.5) / (spread[0] + 0.5))
    return f32(np.clip(ratio**_MATCH, _CONTRAST_MIN, _CONTRAST_MAX))


def _place(pixels: Bytes, points: Floats) -> tuple[int, int, Floats]:
    """Return the corner of the face's rectangle and the atlas's place at each pixel.

    The map is (h, w, 2) float32 in parts of the atlas's side.
    """
    outline = ringed(points)
    height, width = pixels.shape[:2]
    low, high = outline.min(axis=0), outline.max(axis=0)
    x0, y0 = np.clip(np.floor(low).astype(int), 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(high).astype(int), (x0 + 1, y0 + 1), (width, height))
    w, h = int(x1 - x0), int(y1 - y0)
    step = max(1.0, max(w, h) / _MAP_MAX)
    cols, rows = math.ceil(w / step), math.ceil(h / step)
    corner, cell = f32((x0, y0)), f32((w / cols, h / rows))
    local = (outline - corner) / cell
    triangles = topology().triangles
    which = np.full((rows, cols), len(triangles), np.int32)
    for index in np.argsort(facing(points)).tolist():
        fill(which, local[triangles[index]], index)
    table = affines(local, topology().layout, triangles)
    xs, ys = np.arange(cols, dtype=np.float32), np.arange(rows, dtype=np.float32)
    grid = f32(np.stack(np.meshgrid(xs + 0.5, ys + 0.5), axis=-1))
    place = moved(table, which, grid)
    if step > 1:
        place = f32(cv2.resize(place, (w, h)))
    return int(x0), int(y0), place


def _draw(place: Floats, texture: Bytes, light: _Light) -> Bytes:
    """Return the relit texture at `place`, uint8 BGR."""
    lit = f32(_at(texture, place)) * _at(light.gain, place) + _at(light.offset, place)
    luma = u8(np.clip(np.rint(lit), 0, 255))
    return u8(cv2.cvtColor(luma, cv2.COLOR_YCrCb2BGR))


def _alpha(place: Floats, mask: Floats, size: float) -> Floats:
    hull = f32(_at(f32(mask * atlas().hull), place))
    radius = max(1, round(size * _FEATHER))
    side = 2 * radius + 1
    soft = cv2.blur(cv2.erode(hull, np.ones((side, side), np.uint8)), (side, side))
    return f32(np.minimum(hull, soft) * (1 - _at(atlas().keep, place)))


def _at(image: Floats | Bytes, place: Floats) -> Floats | Bytes:
    """Return an atlas's values at places given in parts of its side."""
    return sample(image, place * np.float32(len(image)) - np.float32(0.5))


def _detailed(face: Bytes, target: Bytes, enlarged: float) -> Bytes:
    """Return the face with the target's grain where the source has no detail."""
    if enlarged <= 1:
        return face
    low = cv2.GaussianBlur(target, (0, 0), _FINEST * enlarged)
    fine = np.clip(target.astype(np.int16) - low, -_GRAIN, _GRAIN)
    return u8(np.clip(face + fine, 0, 255))
