"""The mesh swap: a source's texture on a target's geometry, in the target's light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine import skin
from functions.swap.engine.arrays import Bytes, Floats, f32, u8
from functions.swap.engine.atlas import (
    SIDE,
    affines,
    at,
    atlas,
    facing,
    half,
    moved,
    paint,
    scale,
    visible,
)
from functions.swap.engine.identity import flatten
from functions.swap.engine.light import relight
from functions.swap.engine.topology import OVAL, ringed, topology

if TYPE_CHECKING:
    from functions.swap.engine.identity import Identity

_MAP_MAX = 192  # sides of the map; beyond, it is enlarged
_GRAIN = 7.0  # levels: grain and pores are the target's, wrinkles are not
_FINEST = 0.6  # pixels: the detail that a picture at its own size can hold
_FREQUENCY = 1.3  # radians a pixel: the middle of the finest octave
_FAINT, _SOFTEST = 0.35, 2.0  # deviations in pixels: not worth it; the most
_LINED = 2.5  # times: one face's skin may be this much more lined than another's
_SOLID = 0.9
_FEATHER = 0.01  # of the face's size in the picture: the hardest edge we accept


@dataclass(frozen=True, slots=True, eq=False)
class Swapped:
    """A face ready to be blended into its picture at (`x`, `y`).

    `pixels` is (h, w, 3) uint8 BGR, `alpha` (h, w) float32 from 0 to 1.
    """

    x: int
    y: int
    pixels: Bytes
    alpha: Floats


def render(pixels: Bytes, points: Floats, identity: Identity) -> Swapped:
    """Return the identity on the face whose mesh is `points` in a BGR picture."""
    flat, seen = flatten(pixels, points, SIDE), visible(points)
    theirs = skin.read(flat, seen)
    trust = theirs.open * np.maximum(identity.trust, half(identity.frames)) * seen
    light = relight(identity, u8(half(flat)), f32(trust * atlas().skin))
    size = scale(points)
    x, y, place = _place(pixels, points)
    face = light(identity.texture(min(size, identity.scale)), place)
    alpha = _alpha(place, _mask(f32(trust), theirs, identity.frames), size)
    height, width = alpha.shape
    part = pixels[y : y + height, x : x + width]
    face = _softened(face, part, alpha)
    if size > identity.scale:
        face = _grained(face, part, size / identity.scale)
    return Swapped(x, y, face, alpha)


def _mask(trust: Floats, theirs: skin.Skin, ours: Floats) -> Floats:
    """Return where the source shows, at SIDE, before the hull.

    The target's glasses stay, and then the source's are left away; where the
    target has none, the source's come along, being part of the look.
    """
    whole = f32(cv2.resize(trust, (SIDE, SIDE)))
    if theirs.glasses:
        return f32(whole * (1 - theirs.frames) * (1 - ours))
    return whole


def _place(pixels: Bytes, points: Floats) -> tuple[int, int, Floats]:
    """Return the corner of the face's rectangle and the atlas's place at each pixel.

    The map is (h, w, 2) float32 in parts of the atlas's side.
    """
    outline, edge = ringed(points), points[list(OVAL), :2]
    height, width = pixels.shape[:2]
    low, high = edge.min(axis=0), edge.max(axis=0)
    x0, y0 = np.clip(np.floor(low).astype(int), 0, (width - 1, height - 1)).tolist()
    x1, y1 = np.clip(np.ceil(high).astype(int), (x0 + 1, y0 + 1), (width, height))
    w, h = int(x1) - x0, int(y1) - y0
    step = max(1.0, max(w, h) / _MAP_MAX)
    columns, rows = math.ceil(w / step), math.ceil(h / step)
    local = (outline - f32((x0, y0))) / f32((w / columns, h / rows))
    place = _drawn(local, facing(points), (rows, columns))
    return x0, y0, f32(cv2.resize(place, (w, h))) if step > 1 else place


def _drawn(corners: Floats, front: Floats, shape: tuple[int, int]) -> Floats:
    """Return the atlas's place at each cell, the triangles that face us on top."""
    triangles = topology().triangles
    which = np.full(shape, len(triangles), np.int32)
    paint(which, corners[triangles], np.argsort(front).tolist())
    ys, xs = np.indices(shape, dtype=np.float32) + np.float32(0.5)
    table = affines(corners, topology().layout, triangles)
    return moved(table, which, f32(np.stack((xs, ys), axis=-1)))


def _alpha(place: Floats, mask: Floats, size: float) -> Floats:
    """Return the blend's weight, with no edge harder than the feather.

    On a turned face the far edge of the atlas is a few pixels wide; eroding and
    averaging in the picture keeps it soft there.
    """
    hull = at(f32(mask * atlas().hull), place)
    side = 2 * max(1, round(size * _FEATHER)) + 1
    soft = cv2.blur(cv2.erode(hull, np.ones((side, side), np.uint8)), (side, side))
    return f32(np.minimum(hull, soft) * (1 - at(atlas().keep, place)))


def _grained(face: Bytes, target: Bytes, enlarged: float) -> Bytes:
    """Return an enlarged face with the target's grain, as it has no detail itself."""
    low = cv2.GaussianBlur(target, (0, 0), _FINEST * enlarged)
    fine = np.clip(target.astype(np.int16) - low, -_GRAIN, _GRAIN)
    return u8(np.clip(face + fine, 0, 255))


def _softened(face: Bytes, target: Bytes, alpha: Floats) -> Bytes:
    """Return the face as soft as the target's lens, focus or enlargement made it.

    A Gaussian of deviation s leaves exp(-(s w)^2) of the energy at frequency w.
    """
    where = (alpha > _SOLID).astype(np.float32)
    sharper = _sharpness(face, where) / _sharpness(target, where) / _LINED
    sigma = math.sqrt(max(0.0, math.log(sharper))) / _FREQUENCY
    if sigma < _FAINT:
        return face
    return u8(cv2.GaussianBlur(face, (0, 0), min(sigma, _SOFTEST)))


def _sharpness(pixels: Bytes, where: Floats) -> float:
    """Return the energy of the finest octave over that of the next."""
    grey = f32(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))
    once, twice = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1.0, 2.0))
    fine, coarse = (
        float((np.square(band) * where).sum()) for band in (grey - once, once - twice)
    )
    return (fine + 1) / (coarse + 1)
