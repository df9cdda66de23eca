"""Cover a face so that it cannot be brought back.

A Gaussian blur alone can be undone: it is linear, and what it keeps of the fine
detail is only small, not gone.  So all three methods first destroy: the face is
averaged into a grid of a few cells, and each cell's colour is rounded to 16 levels.
What is drawn, smooth (`blur`), as tiles (`mosaic`) or not at all (`box`), is made
from those few numbers alone.  Sharpening and enlarging have nothing to work on.

The grid is laid over the face, not over the picture, so that the next frame of a
film samples the same places again and averaging over frames learns nothing new.
Rounding is used and not noise, because noise is what averaging removes.

Over every cover lie slanting bands, as of reeded glass or a shutter, and every edge
is soft.  The bands come from nothing in the picture.  They keep a detector from
taking the shape of a head for one, and what deconvolution rings at from looking
like eyes; the figures below were chosen by that attack (docs/engine.md).
Where the detector is unsure of a face, the cover is larger.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from functions.swap.engine.arrays import Bytes, Floats, f32, u8
from functions.swap.engine.face import uncertain

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.swap.engine.face import Face

Method = Literal["blur", "mosaic", "box"]
METHODS: tuple[Method, ...] = ("blur", "mosaic", "box")
CELLS = 4  # across the face's box: people are recognised from 7 on (Harmon, 1973)
_COARSER = (CELLS, 3, 2, 1)  # a face that is still found gets fewer
_LEVELS = 16
_PADDING, _DOUBT = 0.25, 0.25  # of the face's size, each side; what doubt adds
_FADE = 0.12  # of the face's size, outside all that must be covered
_ROUND = 0.3  # of the face's size: less than the padding leaves beside the face
_TILES = 10  # across the face's box: smaller than a cell, so no wiser than it
_DARK = 48  # level: the box is as dark as its bands allow
_BANDS, _PERIOD = 48.0, 0.35  # levels; of the face's size, along a side

Box = tuple[int, int, int, int]


def cover(pixels: Bytes, face: Face, method: Method, cells: int = CELLS) -> None:
    """Cover a face in a BGR picture, in place.

    `cells` is how many cells the face's longer side is averaged into.
    """
    inner, fade = region(face), face.size * _FADE
    x0, y0, x1, y1 = _clip(_grown(inner, fade), pixels)
    if x0 >= x1 or y0 >= y1:
        return
    part = pixels[y0:y1, x0:x1]
    drawn = _drawn(part, method, cells, face.size)
    radius = 0.0 if method == "box" else face.size * _ROUND
    alpha = _alpha((x0, y0, x1, y1), inner, fade, radius)
    part[:] = cv2.blendLinear(drawn, part, alpha, 1 - alpha)


def hide(
    pixels: Bytes, face: Face, method: Method, found: Callable[[Bytes, Face], bool]
) -> None:
    """Cover a face in a BGR picture, in place, until it is found no more.

    `found` looks whether a face may still be found where this one was.  As long as
    one is, there are fewer cells, and at last a box.
    """
    for cells in _COARSER:
        cover(pixels, face, method, cells)
        if not found(pixels, face):
            return
    cover(pixels, face, "box")


def region(face: Face) -> tuple[float, float, float, float]:
    """Return the box that must be covered: (x0, y0, x1, y1) in pixels.

    A head that leans needs a larger upright box, by |sin| + |cos| of the lean.
    """
    x0, y0, x1, y1 = face.box
    across = face.points[1] - face.points[0]
    lean = math.atan2(float(across[1]), float(across[0]))
    wider = abs(math.sin(lean)) + abs(math.cos(lean))
    reach = face.size * (0.5 * wider + _PADDING + _DOUBT * uncertain(face.score))
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return x - reach, y - reach, x + reach, y + reach


def _drawn(part: Bytes, method: Method, cells: float, size: float) -> Bytes:
    """Return what is drawn over `part`, made from a few averaged cells or none."""
    if method == "box":
        return _reeded(np.full_like(part, _DARK), size)
    height, width = part.shape[:2]
    coarse = _coarse(part, cells, size)
    if method == "blur":
        return _reeded(u8(cv2.resize(coarse, (width, height))), size)
    columns, rows = _grid(part, _TILES, size)
    smooth = u8(cv2.resize(coarse, (columns, rows)))
    tiles = _reeded(smooth, size * columns / width)
    return u8(cv2.resize(tiles, (width, height), interpolation=cv2.INTER_NEAREST))


def _coarse(part: Bytes, cells: float, size: float) -> Bytes:
    """Return the averages of a few cells, each rounded to 16 levels."""
    averages = cv2.resize(part, _grid(part, cells, size), interpolation=cv2.INTER_AREA)
    step = 256 // _LEVELS
    return u8(u8(averages) // step * step + step // 2)


def _grid(part: Bytes, across: float, size: float) -> tuple[int, int]:
    """Return how many columns and rows `part` has, with `across` over a face."""
    height, width = part.shape[:2]
    return max(1, round(across * width / size)), max(1, round(across * height / size))


def _reeded(smooth: Bytes, size: float) -> Bytes:
    """Return the smooth picture behind slanting bands of glass."""
    height, width = smooth.shape[:2]
    along = np.arange(height + width - 1) * (2 * math.pi / (_PERIOD * size))
    line = f32(_BANDS * np.sin(along))
    bands = np.ascontiguousarray(sliding_window_view(line, width))  # line[x + y]
    return u8(cv2.add(smooth, cv2.merge([bands] * 3), dtype=cv2.CV_8U))


def _alpha(box: Box, inner: tuple[float, ...], fade: float, radius: float) -> Floats:
    """Return 1 inside `inner`, its corners rounded, falling to 0 outside, (h, w)."""
    x0, y0, x1, y1 = box
    xs = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5)
    ys = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5)
    dx = np.maximum(np.maximum(inner[0] + radius - xs, xs - inner[2] + radius), 0)
    dy = np.maximum(np.maximum(inner[1] + radius - ys, ys - inner[3] + radius), 0)
    distance = np.hypot(dx[np.newaxis], dy[:, np.newaxis]) - radius
    return f32(np.clip(1 - distance / max(fade, 1e-6), 0, 1))


def _grown(box: tuple[float, ...], by: float) -> tuple[float, ...]:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _clip(box: tuple[float, ...], pixels: Bytes) -> Box:
    height, width = pixels.shape[:2]
    return (
        max(0, math.floor(box[0])),
        max(0, math.floor(box[1])),
        min(width, math.ceil(box[2])),
        min(height, math.ceil(box[3])),
    )
