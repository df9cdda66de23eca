"""Paste-back: a swapped crop into the frame it was cut from, in place.

`fast` is what runs.  It looks at the face's region alone, in bands of rows that fit
the processor's cache.  One warp brings the crop, multiplied by its alpha where it is
small, and as a fourth channel how much of the frame stays; in the middle of the face
that is copied, and only along the rim are the two mixed, in uint8.  `parity` is
insightface's mathematics inside the same region: slow, and what `fast` is judged by.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from functions.swap.engine import masks
from functions.swap.engine.arrays import Bytes, Floats, Matrix, f32, u8

if TYPE_CHECKING:
    from collections.abc import Iterator

Span = tuple[float, float]
Row = tuple[float, float, float]

_BAND = 128  # rows at a time
_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_WHITE = 255
_BEYOND = (0, 0, 0, _WHITE)  # the crop's edge: nothing of it, all of the frame
# A matrix with larger entries, or that maps a pixel to a smaller area, is no face's.
_ENTRY_MAX, _AREA_MIN = 1e9, 1e-12
# insightface's: what counts as the crop, and its rim in parts of the face's size.
_SEEN, _ERODED, _ERODED_MIN, _BLURRED, _BLURRED_MIN = 20, 10, 10, 20, 5
_SPARE = 16  # pixels around what insightface's erosion and blur can reach


class Paster:
    """Pastes crops of one size.  Any thread may use it; each has its own buffers."""

    def __init__(self, side: int) -> None:
        self.side = side
        self._box = masks.box(side)
        self._weights = _weights(self._box)
        self._solid = _solid(self._weights[..., 0])
        self._buffers = _Buffers()

    def fast(
        self, pixels: Bytes, crop: Bytes, matrix: Matrix, mask: Floats | None = None
    ) -> None:
        """Draw a crop into its frame; where its alpha is 0 not a bit changes.

        A crop more than twice as large as its face is reduced first, so as not to
        alias.  A face beyond the frame draws nothing.

        Parameters
        ----------
        pixels
            The frame, (h, w, 3) uint8 BGR, contiguous; it is drawn into.
        crop
            The swapped face, (side, side, 3) uint8 BGR.
        matrix
            The affine from frame to crop that cut it, (2, 3) float64, in pixels from
            the centre of the first, as OpenCV's warps take it.
        mask
            Where the crop may show, (side, side) float32 from 0 to 1.

        Raises
        ------
        ValueError
            If an array has another shape or type, or the matrix is not finite or
            has no inverse.  Nothing has been drawn then.

        Notes
        -----
        With crops 20 to 30 levels off, and faces of 100 pixels and more, the PSNR
        against insightface 2.1 inside the face's region is 38 dB and more for faces
        that lean by up to 15 degrees, 33 dB at any lean.  What differs is the rim:
        insightface erodes along the frame's axes, so that it pastes less of a face
        that leans, while here the rim leans with the face.

        """
        place = self._place(pixels, crop, matrix)
        layer, solid = self._layer(crop, mask), self._solid if mask is None else None
        times = min(place.halvings, self.side.bit_length() - 2)
        if times > 0:
            small = self.side >> times
            layer, solid = (
                u8(cv2.resize(layer, (small, small), interpolation=cv2.INTER_AREA)),
                None,
            )
            place = place.reduced(small / self.side)
        for band in _bands(place, pixels.shape, layer.shape[0], solid):
            self._draw(pixels, layer, place, band)

    def parity(self, pixels: Bytes, crop: Bytes, matrix: Matrix) -> None:
        """Draw a crop as insightface 2.1 does, to 2 levels; see `fast`.

        The steps are those of `INSwapper.get` with `paste_back`: a white square is
        warped, its size S measured, eroded by S/10 and blurred by S/20; but within
        S/10 + S/20 + 16 pixels of the face and not on the whole frame.
        """
        place = self._place(pixels, crop, matrix)
        x0, y0, x1, y1 = _padded(place.bounds(-1, self.side), pixels.shape)
        if x0 >= x1 or y0 >= y1:
            return
        size, here = (x1 - x0, y1 - y0), place.matrix(x0, y0)
        white = np.full((self.side, self.side), _WHITE, np.float32)
        mask = _rim(f32(cv2.warpAffine(white, here, size, flags=_WARP)))
        fake = cv2.warpAffine(crop, here, size, flags=_WARP)
        part = pixels[y0:y1, x0:x1]
        np.copyto(part, mask * fake + (1 - mask) * f32(part), casting="unsafe")

    def _place(self, pixels: Bytes, crop: Bytes, matrix: Matrix) -> _Place:
        """Return the matrix as a place, or say what is wrong with the arguments."""
        if crop.shape != (self.side, self.side, 3) or crop.dtype != np.uint8:
            raise ValueError(f"a crop is {self.side} pixels wide and high, uint8 BGR")
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:  # noqa: PLR2004 - rows, columns, BGR
            raise ValueError("a frame is (h, w, 3) uint8 BGR")
        if not (pixels.flags.c_contiguous and pixels.flags.writeable):
            raise ValueError("a frame is contiguous and can be drawn into")
        return _placed(matrix)

    def _layer(self, crop: Bytes, mask: Floats | None) -> Bytes:
        """Return the crop times its alpha, and what is left of the frame.

        (side, side, 4) uint8.
        """
        weights = self._weights
        if mask is not None:
            if mask.shape != self._box.shape:
                raise ValueError(f"a mask is {self.side} pixels wide and high")
            weights = _weights(self._box * mask)
        layer = self._buffers.take("layer", self.side, self.side, 4)
        cv2.cvtColor(crop, cv2.COLOR_BGR2BGRA, dst=layer)
        return u8(cv2.multiply(layer, weights, dst=layer, scale=1 / _WHITE))

    def _draw(self, pixels: Bytes, layer: Bytes, place: _Place, band: _Band) -> None:
        """Draw one band: its middle by copying, its rims by mixing."""
        part = pixels[band.y0 : band.y1, band.x0 : band.x1]
        height, width = part.shape[:2]
        warped = self._buffers.take("warped", height, width, 4)
        cv2.warpAffine(
            layer,
            place.matrix(band.x0, band.y0),
            (width, height),
            dst=warped,
            flags=_WARP,
            borderValue=_BEYOND,
        )
        left, right = band.solid0 - band.x0, band.solid1 - band.x0
        if left < right:
            middle = slice(left, right)
            cv2.cvtColor(warped[:, middle], cv2.COLOR_BGRA2BGR, dst=part[:, middle])
        for rim in (slice(0, left), slice(right, width)):
            if rim.start < rim.stop:
                self._mix(part[:, rim], warped[:, rim])

    def _mix(self, part: Bytes, warped: Bytes) -> None:
        """Put a piece of the warped layer over the frame."""
        height, width = part.shape[:2]
        one = self._buffers.take("one", height, width, 1)
        kept = self._buffers.take("kept", height, width, 3)
        face = self._buffers.take("face", height, width, 3)
        cv2.extractChannel(warped, 3, dst=one)
        cv2.cvtColor(one, cv2.COLOR_GRAY2BGR, dst=kept)
        cv2.multiply(part, kept, dst=kept, scale=1 / _WHITE)
        cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR, dst=face)
        cv2.add(kept, face, dst=part)


class _Buffers(threading.local):
    """Memory that is used again, the caller's thread's own."""

    def __init__(self) -> None:
        self._flat: dict[str, Bytes] = {}

    def take(self, name: str, height: int, width: int, channels: int) -> Bytes:
        """Return (height, width, channels) uint8 with anything in it."""
        size = height * width * channels
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            flat = self._flat[name] = np.empty(size, np.uint8)
        return flat[:size].reshape(height, width, channels)


class _Band(NamedTuple):
    """Rows y0 to y1 of the frame; columns x0 to x1, of which some are solid."""

    y0: int
    y1: int
    x0: int
    x1: int
    solid0: int
    solid1: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a frame's pixels fall in the crop: u = a x + b y + c, and v alike."""

    u: Row
    v: Row

    def matrix(self, x: int, y: int) -> Matrix:
        """Return the 2x3 affine to the crop from a frame that begins at (x, y)."""
        return np.array([(a, b, a * x + b * y + c) for a, b, c in (self.u, self.v)])

    @property
    def area(self) -> float:
        """Pixels of the crop for one of the frame; negative if mirrored."""
        return self.u[0] * self.v[1] - self.u[1] * self.v[0]

    @property
    def halvings(self) -> int:
        """How often the crop may be halved before it is smaller than its face."""
        return math.floor(math.log2(abs(self.area)) / 2)

    def reduced(self, part: float) -> _Place:
        """Return the place in the crop scaled by `part`."""
        u, v = (
            (a * part, b * part, (c + 0.5) * part - 0.5) for a, b, c in (self.u, self.v)
        )
        return _Place(u, v)

    def bounds(self, low: float, high: float) -> tuple[float, float, float, float]:
        """Return the box in the frame around the crop's square from low to high."""
        (a, b, c), (d, e, f), area = self.u, self.v, self.area
        corners = [(u - c, v - f) for u in (low, high) for v in (low, high)]
        xs = [(e * u - b * v) / area for u, v in corners]
        ys = [(a * v - d * u) / area for u, v in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def columns(self, rows: Span, low: float, high: float) -> tuple[Span, Span]:
        """Return in which columns some row may, and every row does, fall in a square.

        The square is the crop's from low to high.
        """
        some = every = (-math.inf, math.inf)
        for a, b, c in (self.u, self.v):
            least, most = sorted((b * rows[0] + c, b * rows[1] + c))
            some = _both(some, _where(a, low - most, high - least))
            every = _both(every, _where(a, low - least, high - most))
        return some, every


def _placed(matrix: Matrix) -> _Place:
    if matrix.shape != (2, 3) or not (np.abs(matrix) < _ENTRY_MAX).all():
        raise ValueError("the matrix of a crop is 2x3, and finite")
    (a, b, c), (d, e, f) = matrix.tolist()
    place = _Place((a, b, c), (d, e, f))
    if abs(place.area) < _AREA_MIN:
        raise ValueError("the matrix of a crop has no inverse")
    return place


def _where(slope: float, low: float, high: float) -> Span:
    """Return from where to where slope * x is between low and high."""
    if slope == 0:
        return (-math.inf, math.inf) if low <= 0 <= high else (math.inf, -math.inf)
    ends = low / slope, high / slope
    return ends if slope > 0 else (ends[1], ends[0])


def _both(one: Span, other: Span) -> Span:
    return max(one[0], other[0]), min(one[1], other[1])


def _pixels(span: Span, low: int, high: int) -> tuple[int, int]:
    """Return the pixels whose centres are in a span, of those from low to high."""
    if span[0] > span[1]:
        return high, high
    first = math.ceil(min(max(span[0], low), high))
    return first, max(first, math.floor(max(min(span[1], high - 1), low - 1)) + 1)


def _bands(
    place: _Place, shape: tuple[int, ...], side: int, solid: int | None
) -> Iterator[_Band]:
    """Yield the parts of a frame that a crop reaches, from top to bottom."""
    _, top, _, bottom = place.bounds(-1, side)
    y0, y1 = _pixels((top, bottom), 0, shape[0])
    for y in range(y0, y1, _BAND):
        end = min(y1, y + _BAND)
        rows = (y, end - 1)
        x0, x1 = _pixels(place.columns(rows, -1, side)[0], 0, shape[1])
        if x0 < x1:
            middle = (x1, x1)
            if solid is not None:
                every = place.columns(rows, solid, side - 1 - solid)[1]
                middle = _pixels(every, x0, x1)
            yield _Band(y, end, x0, x1, *middle)


def _weights(alpha: Floats) -> Bytes:
    """Return what a crop's channels, and a white fourth, are multiplied by."""
    levels = u8(np.rint(np.clip(np.nan_to_num(alpha), 0, 1) * _WHITE))
    return np.dstack((levels, levels, levels, _WHITE - levels))


def _solid(alpha: Bytes) -> int | None:
    """Return how far from the edge a crop is opaque; None if it is nowhere."""
    side = len(alpha)
    insets = range((side + 1) // 2)
    return next(
        (n for n in insets if alpha[n : side - n, n : side - n].min() == _WHITE), None
    )


def _padded(
    box: tuple[float, float, float, float], shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Return the part of the frame that insightface's rim of a face can reach."""
    x0, x1 = _pixels((box[0], box[2]), 0, shape[1])
    y0, y1 = _pixels((box[1], box[3]), 0, shape[0])
    size = math.isqrt((x1 - x0) * (y1 - y0))
    if not size:
        return x0, y0, x0, y0
    pad = size // _ERODED + size // _BLURRED + _SPARE
    left, top = max(0, x0 - pad), max(0, y0 - pad)
    return left, top, min(shape[1], x1 + pad), min(shape[0], y1 + pad)


def _rim(white: Floats) -> Floats:
    """Return insightface's alpha, (h, w, 1), of a white square that was warped."""
    seen = white > _SEEN
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((*white.shape, 1), np.float32)
    white[seen] = _WHITE
    size = math.isqrt(int((rows[-1] - rows[0]) * (columns[-1] - columns[0])))
    kernel = max(size // _ERODED, _ERODED_MIN)
    eroded = cv2.erode(white, np.ones((kernel, kernel), np.uint8))
    blur = 2 * max(size // _BLURRED, _BLURRED_MIN) + 1
    return f32(cv2.GaussianBlur(eroded, (blur, blur), 0) / _WHITE)[..., np.newaxis]
