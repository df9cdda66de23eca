"""Find every face: the whole picture, ever smaller tiles, and a second look.

The full-range network looks at the whole picture once; it sees faces from 9 to
78 % of its window.  The short-range network looks at tiles of the picture ever
smaller; it sees 13 to 85 % of its own, upright or turned by any angle (measured:
docs/detection.md).  Every candidate is then looked at once more, centred and
turned level: texture that resembles a face by chance seldom does so twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine import boxes
from functions.swap.engine.arrays import Bytes, f32, u8
from functions.swap.engine.blazeface import Found
from functions.swap.engine.face import Face, faces_of
from functions.swap.engine.window import Window, apply, inverse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.swap.engine.blazeface import BlazeFace

SCORE_MIN = 0.58  # the mean of both looks; see docs/detection.md
_CANDIDATE_MIN = 0.3
_CANDIDATES_MAX = 512
_SAME = 0.3  # intersection over union above which two boxes are one face
_NESTED = 0.6  # or this much of the smaller one lies in the larger
_FACE_MIN = 16  # pixels of the `near` window: the smallest face it is sure of
_STRIDE = 84 / 128  # of a tile: neighbours share more than the largest face they seek
_OCTAVE = 2.5  # between the levels: each seeks faces up to this much larger
_SMALLEST, _LARGEST = (
    16.0,
    21.5,
)  # pixels of the picture: the face the finest level seeks
_SIDES = 180  # ... which grows with the picture in between
_STILL_MIN, _REACHES = 0.45, (2.2, 3.5, 5.0)
_SECOND = 3.5  # the window of the second look, over the face's longer side
_FLAT = 3.0  # levels: a tile that varies less holds no face


@dataclass(frozen=True, slots=True)
class Detector:
    """The two networks that look: `wide` at the whole, `near` at tiles."""

    wide: BlazeFace
    near: BlazeFace

    def __call__(self, pixels: Bytes, *, small: bool = True) -> list[Face]:
        """Return the faces in a BGR picture, largest first.

        Without `small`, faces under a tenth of the picture are left out, and the
        work is two passes whatever the picture's size.
        """
        height, width = pixels.shape[:2]
        whole = Window(width / 2, height / 2, max(width, height))
        larger = Window(width / 2, height / 2, 1.4 * whole.side)
        found = [
            _look(self.wide, pixels, whole, _CANDIDATE_MIN),
            _look(self.near, pixels, whole, _CANDIDATE_MIN),
            _look(self.near, pixels, larger, _CANDIDATE_MIN),
        ]
        if small:
            found += [
                _look(self.near, level, tile, _CANDIDATE_MIN).times(1 / scale)
                for level, scale in _levels(pixels, whole.side, self.near.side)
                for tile in _tiles(level, self.near.side)
            ]
        seen = suppress(Found.join(found))
        seen = seen.pick(np.argsort(-seen.scores)[:_CANDIDATES_MAX])
        looks = [self._again(pixels, seen.pick([i])) for i in range(len(seen))]
        return faces_of(suppress(Found.join([seen.pick([]), *looks])))

    def still(self, pixels: Bytes, face: Face) -> bool:
        """Return whether a face may still be found where one was covered.

        Looks closer and further than the first time, and is easier to convince.
        """
        x0, y0, x1, y1 = face.box
        looks = [(self.near, reach) for reach in _REACHES] + [(self.wide, _REACHES[0])]
        for network, reach in looks:
            window = Window((x0 + x1) / 2, (y0 + y1) / 2, face.size * reach)
            found = _look(network, pixels, window, _STILL_MIN)
            if (boxes.overlap(face.corners, found.boxes) > _SAME).any():
                return True
        return False

    def _again(self, pixels: Bytes, first: Found) -> Found:
        """Look at one candidate centred and level; return it if both looks agree."""
        box, points = first.boxes[0], first.landmarks[0]
        eyes = points[1] - points[0]
        centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        window = Window(
            float(centre[0]),
            float(centre[1]),
            max(float(sides.max()), 1.0) * _SECOND,
            math.atan2(eyes[1], eyes[0]),
        )
        second = _look(self.near, pixels, window, _CANDIDATE_MIN)
        second = second.pick(boxes.overlap(box, second.boxes) > _SAME)
        if not len(second):
            return first.pick([])
        both = _mean(Found.join([first, suppress(second).pick([0])]))
        return both.pick(both.scores >= SCORE_MIN)


def _levels(pixels: Bytes, longest: float, side: int) -> Iterator[tuple[Bytes, float]]:
    """Yield the picture ever smaller, and its scale, until a tile would hold it all."""
    smallest = min(max(longest / _SIDES, _SMALLEST), _LARGEST)
    scale = _FACE_MIN / smallest
    while longest * scale > side:
        size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
        yield u8(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)), scale
        scale /= _OCTAVE


def _tiles(level: Bytes, side: int) -> Iterator[Window]:
    """Yield the windows that cover a level, less those without any contrast."""
    height, width = level.shape[:2]
    for y in _starts(height, side):
        for x in _starts(width, side):
            part = level[y : y + side, x : x + side]
            if part[::4, ::4].std() >= _FLAT:
                yield Window(x + side / 2, y + side / 2, side)


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles begin: evenly spread, the last one ending with the picture."""
    room = max(0, length - side)
    count = math.ceil(room / (side * _STRIDE)) + 1
    return [round(room * i / max(1, count - 1)) for i in range(count)]


def _look(network: BlazeFace, pixels: Bytes, window: Window, score_min: float) -> Found:
    """Return what the network sees in a window, in pixels of the picture."""
    found = network(window.cut(pixels, network.side), score_min)
    back = inverse(window.matrix(network.side))
    centres = apply(back, (found.boxes[:, :2] + found.boxes[:, 2:]) / 2)
    half = (
        (found.boxes[:, 2:] - found.boxes[:, :2]) / 2 * f32(window.side / network.side)
    )
    around = np.concatenate((centres - half, centres + half), axis=1)
    return Found(f32(around), apply(back, found.landmarks), found.scores)


def suppress(found: Found) -> Found:
    """Return one detection a face: the mean, weighted by score, of those that agree.

    Weighted non-maximum suppression (Bazarevsky et al., 2019, 4): steadier than
    taking the best, since neighbours see the same face from other anchors.
    """
    rest = np.argsort(-found.scores, kind="stable")
    kept = []
    while len(rest):
        best, others = found.boxes[rest[0]], found.boxes[rest]
        same = (boxes.overlap(best, others) > _SAME) | (
            boxes.inside(best, others) > _NESTED
        )
        same[0] = True
        close = boxes.overlap(best, others) > _SAME
        close[0] = True
        group = _mean(found.pick(rest[close]))
        # Neighbours that agree confirm the best; they do not make it less sure.
        kept.append(Found(group.boxes, group.landmarks, found.scores[rest[:1]]))
        rest = rest[~same]
    return Found.join(kept) if kept else found


def _mean(group: Found) -> Found:
    """Return one detection: the mean by score, with the mean of the scores."""
    weight = group.scores / group.scores.sum()
    return Found(
        f32(np.tensordot(weight, group.boxes, 1))[np.newaxis],
        f32(np.tensordot(weight, group.landmarks, 1))[np.newaxis],
        f32([group.scores.mean()]),
    )
