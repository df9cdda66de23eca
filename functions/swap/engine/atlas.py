"""The atlas: every face laid out flat in the same square, texel by texel.

Whatever is known about faces in general (where skin is, where eyes are, how far
the edge) is a mask in the atlas; whatever is seen in one picture is brought here
before two faces are compared, and goes back as one dense map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine import topology as tp
from functions.swap.engine.arrays import Bytes, Floats, f32, sample, u8
from functions.swap.engine.topology import ringed, topology

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

SIDE = 256  # of the masks
HALF = 128  # of the maps and of what is measured
_SHIFT = 4  # OpenCV draws polygons in sixteenths of a pixel
_FOLD = 1e-9
_INSIDE, _SURELY = 0.5, 0.9
# Parts of the atlas's side, chosen by eye on the contact sheet.
_EDGE, _FADE, _CORE_DEPTH, _RIM = 0.008, 0.05, 0.13, 0.03

_BRIDGE = (193, 417, 168, 6, 197, 196, 419, 122, 351)
_NOSTRILS = (59, 79, 238, 20, 242, 141, 94, 370, 462, 250, 458, 309, 289, 326, 97, 2)
_CHEEKS = (50, 280)
_NOSE_TIP = 1
_BELOW = 10  # texels: how far down the folds below an eye reach


@dataclass(frozen=True, slots=True, eq=False)
class Atlas:
    """Constant masks, float32 from 0 to 1, and the raster of the triangles.

    At SIDE: `hull` fades from the face to its edge; `keep` is what a swap leaves
    alone, the eyeballs and the open mouth; `glasses` is where frames may be
    and `lenses` what a pair of them covers.

    At HALF: `skin` is where skin must be;
    `core` where it always is; `depth` the distance to the oval's edge, 1 being the
    atlas's side; `bridge` between the eyes and the `lips`; `brow` the row above the
    brows and `nose` that of the tip of the nose; `triangles` (HALF, HALF) int32 is
    each texel's triangle, outside the last.
    """

    hull: Floats
    keep: Floats
    skin: Floats
    core: Floats
    depth: Floats
    bridge: Floats
    lips: Floats
    glasses: Floats
    lenses: Floats
    triangles: NDArray[np.int32]
    brow: int
    nose: int


@cache
def atlas() -> Atlas:
    """Draw the masks, once a process (10 ms)."""
    oval = _area(tp.OVAL)
    eyes = f32(np.maximum(_area(tp.LEFT_EYE), _area(tp.RIGHT_EYE)))
    skin = half(f32(np.clip(oval - _features(eyes), 0, 1)))
    solid = (oval > _INSIDE).astype(np.uint8)
    depth = f32(cv2.distanceTransform(solid, cv2.DIST_L2, 5)) / np.float32(SIDE)
    rows = topology().layout[:, 1] * HALF
    return Atlas(
        hull=smooth((depth - _EDGE) / _FADE),
        keep=f32(np.maximum(blur(eyes, 1.2), blur(_area(tp.MOUTH), 1.2))),
        skin=skin,
        core=f32((skin > _SURELY) & (half(depth) > _CORE_DEPTH)),
        depth=half(depth),
        bridge=half(_area(_BRIDGE, hull=True)),
        lips=half(_area(tp.LIPS)),
        glasses=_glasses(depth, eyes),
        lenses=blur(f32(np.maximum(dilate(eyes, 18), _area(_BRIDGE, hull=True))), 3.0),
        triangles=_raster(),
        nose=int(rows[_NOSE_TIP]),
        brow=int(rows[[*tp.LEFT_BROW, *tp.RIGHT_BROW]].min()) - 2,
    )


def _features(eyes: Floats) -> Floats:
    """Return where a face has something other than skin by nature."""
    brows = [_area(brow, hull=True) for brow in (tp.LEFT_BROW, tp.RIGHT_BROW)]
    nostrils = dilate(_area(_NOSTRILS, hull=True), 2)
    return f32(
        np.maximum.reduce(
            [
                dilate(eyes, 4),
                *(dilate(brow, 4) for brow in brows),
                dilate(_area(tp.LIPS), 3),
                nostrils,
            ]
        )
    )


def _glasses(depth: Floats, eyes: Floats) -> Floats:
    """Return where frames may be: a band over the eyes, less eyes and brows.

    The folds below an eye look like frames, and no frame goes there.  A brow counts
    half: only what is much darker than skin is a frame there.
    """
    rows = topology().layout[:, 1] * SIDE
    top = int(rows[[*tp.LEFT_BROW, *tp.RIGHT_BROW]].min()) - 4
    band = np.zeros((SIDE, SIDE), np.float32)
    band[top : int(rows[list(_CHEEKS)].max()) + 10] = 1
    brows = [_area(brow, hull=True) for brow in (tp.LEFT_BROW, tp.RIGHT_BROW)]
    band *= 1 - np.maximum(*brows) * np.float32(0.5)
    below = np.roll(dilate(eyes, 7), _BELOW, axis=0)
    return f32(band * (depth > _RIM) * (1 - np.maximum(dilate(eyes, 4), below)))


def scale(points: Floats) -> float:
    """Return how many pixels of the picture the side of the atlas has there."""
    return math.sqrt(max(float(np.median(_ratio(points))), _FOLD))


def _ratio(points: Floats) -> Floats:
    """Return each triangle's signed picture area over its atlas area, (t,)."""
    triangles, layout = topology().triangles, topology().layout
    return f32(_signed(ringed(points)[triangles]) / _signed(layout[triangles]))


def unwrap(points: Floats, size: int) -> Floats:
    """Return where each texel of a `size` wide atlas lies in the picture.

    `points` is (468, 2 or more) in pixels from the picture's corner; the answer is
    (size, size, 2) float32 in `cv2.remap`'s pixel centres.
    """
    flat = topology().layout * HALF
    texels = affines(flat, ringed(points), topology().triangles)
    place = moved(texels, atlas().triangles, _grid(HALF))
    return f32(cv2.resize(place - np.float32(0.5), (size, size)))


def facing(points: Floats) -> Floats:
    """Return how open each triangle lies to the camera, (t,) float32.

    The unit is the median triangle's picture area per atlas area; 0 is edge-on,
    negative is turned away.
    """
    ratio = _ratio(points)
    return f32(ratio / max(float(np.median(ratio)), _FOLD))


def visible(points: Floats) -> Floats:
    """Return how well each texel is seen, (HALF, HALF) float32 from 0 to 1."""
    open_ = np.append(np.clip(facing(points) / 0.35 - 0.3, 0, 1), 0).astype(np.float32)
    return blur(open_[atlas().triangles], 1.0)


def affines(start: Floats, end: Floats, triangles: NDArray[np.int32]) -> Floats:
    """Return each triangle's affine from `start` to `end`, (t + 1, 6) float32.

    The last row sends everything far outside.  Cramer's rule in float64; a folded
    triangle goes outside too.
    """
    a, b, c = (start[triangles[:, i]].astype(np.float64) for i in range(3))
    p, q, r = (end[triangles[:, i]].astype(np.float64) for i in range(3))
    ab, ac, pq, pr = b - a, c - a, q - p, r - p
    cross = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    folded = np.abs(cross) < _FOLD
    cross[folded] = 1
    x = (pq * ac[:, 1:] - pr * ab[:, 1:]) / cross[:, np.newaxis]
    y = (pr * ab[:, :1] - pq * ac[:, :1]) / cross[:, np.newaxis]
    table = np.concatenate((x, y, p - x * a[:, :1] - y * a[:, 1:]), axis=1)
    table[folded] = _OUTSIDE
    return np.concatenate((table, [_OUTSIDE])).astype(np.float32)


_OUTSIDE = (0.0, 0.0, 0.0, 0.0, -1e4, -1e4)


def moved(table: Floats, which: NDArray[np.int32], grid: Floats) -> Floats:
    """Return grid points (h, w, 2) moved by the affine of the triangle each is in."""
    own = table[which]
    return f32(
        own[..., :2] * grid[..., :1] + own[..., 2:4] * grid[..., 1:] + own[..., 4:]
    )


def half(image: Floats | Bytes) -> Floats:
    """Return a square mask or picture at HALF."""
    return f32(cv2.resize(image, (HALF, HALF), interpolation=cv2.INTER_AREA))


def blur(mask: Floats, sigma: float) -> Floats:
    """Return the Gaussian blur of a mask."""
    return f32(cv2.GaussianBlur(mask, (0, 0), sigma))


def dilate(mask: Floats, radius: int) -> Floats:
    """Return the mask grown by a disc."""
    return f32(cv2.dilate(mask, disc(radius)))


def disc(radius: int) -> Bytes:
    """Return a disc for OpenCV's morphology."""
    side = 2 * radius + 1
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return u8(shape)


def smooth(value: ArrayLike) -> Floats:
    """Return the smoothstep 3t^2 - 2t^3 of a value clipped to 0..1."""
    t = np.clip(f32(value), 0, 1)
    return f32(t * t * (3 - 2 * t))


def at(image: Floats | Bytes, place: Floats) -> Floats:
    """Return an atlas's values at places (h, w, 2) given in parts of its side."""
    where = place * np.float32(len(image)) - np.float32(0.5)
    return f32(sample(image, where))


def paint(target: NDArray[np.int32], corners: Floats, order: Iterable[int]) -> None:
    """Write each triangle's number where it lies; the last one in order stays.

    `corners` is (t, 3, 2) in pixels from the array's corner.
    """
    fixed = np.rint((corners - np.float32(0.5)) * (1 << _SHIFT)).astype(np.int32)
    for index in order:
        cv2.fillConvexPoly(target, fixed[index], index, cv2.LINE_8, _SHIFT)


@cache
def _grid(size: int) -> Floats:
    """Return the texel centres of a square, (size, size, 2)."""
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    return f32(np.stack(np.meshgrid(centres, centres), axis=-1))


def _raster() -> NDArray[np.int32]:
    triangles, layout = topology().triangles, topology().layout * HALF
    which = np.full((HALF, HALF), len(triangles), np.int32)
    paint(which, layout[triangles], range(len(triangles)))
    return which


def _area(points: Sequence[int], *, hull: bool = False) -> Floats:
    """Return the polygon of these points, or their convex hull, drawn at SIDE."""
    corners = topology().layout[list(points)] * SIDE - np.float32(0.5)
    if hull:
        corners = f32(cv2.convexHull(corners))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    fixed = np.rint(corners * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
    return f32(mask / np.float32(255))


def _signed(corners: Floats) -> Floats:
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return f32(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
