"""Find every face: the whole picture, ever smaller tiles, and a second look.

The full-range network looks at the whole picture once; it sees faces from 9 to
78 % of its window.  The short-range network looks at the whole and at ever smaller
tiles; it sees 13 to 85 % of its own, upright or turned by any angle (measured:
docs/detection.md).  Every candidate is then looked at once more, centred and turned
level, and where both looks are not sure, by the mesh network, which tells whether
there is a face: texture that resembles one by chance seldom does so each time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from functions.swap.engine import boxes
from functions.swap.engine.arrays import Bytes, f32
from functions.swap.engine.blazeface import BlazeFace, Found
from functions.swap.engine.face import Face, faces_of
from functions.swap.engine.facemesh import window_of
from functions.swap.engine.window import Pyramid, Window, apply, inverse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from functions.swap.engine.facemesh import FaceMesh

# The mean of both looks that is enough, by the size of the face in pixels: from 32 on
# a true face always has more, at 24 it must be taken with less, and below what
# docs/detection.md promises only a sure one counts.
_SIZES, _ENOUGH = (20.0, 23.0, 25.0, 32.0), (0.70, 0.58, 0.58, 0.70)
_SURE, _STRONG = 0.8, 0.7  # a mean that needs no third look; a look that is clear
_MESHABLE = 40.0  # pixels: a smaller face is too small for the mesh network
_PRESENT = 0.5
_CANDIDATE_MIN = 0.45
_CANDIDATES_MAX, _OVERLAPS_MAX = 256, 2048
_SAME = 0.3  # intersection over union above which two boxes are one face
_NESTED = 0.6  # or this much of the smaller one lies in the larger
_LARGER = 1.4  # windows beyond the picture, for a face that fills it
_TILE, _FACE_MIN = 128, 16  # pixels of a tile; the smallest face sure to be seen
_STRIDE = 104 / 128  # of a tile
_OCTAVE = 2.5  # between the levels: each seeks faces up to this much larger
# The face that the finest level seeks, in pixels of the picture: a 180th of its
# longer side, within these.
_SIDES, _SMALLEST, _LARGEST = 180, 16.0, 24.0
_FLAT = 3.0  # levels: a tile that varies less holds no face
_SECOND = 3.5  # the window of the second look, over the face's longer side
_STILL_MIN, _REACHES = 0.45, (2.2, 3.5, 5.0)


@dataclass(frozen=True, slots=True)
class Detector:
    """The networks that look: `wide` at the whole, `near` at tiles, `mesh` at doubts.

    `pool` runs looks side by side: each network is too small to share one look
    among several cores.
    """

    wide: BlazeFace
    near: BlazeFace
    mesh: FaceMesh
    pool: Executor

    def __call__(self, pixels: Bytes, *, small: bool = True) -> list[Face]:
        """Return the faces in a BGR picture, largest first.

        Without `small`, faces under an eighth of the shorter side are left out, and
        the work is a few looks whatever the picture's size.
        """
        height, width = pixels.shape[:2]
        longest, shortest = max(width, height), min(width, height)
        whole = Window(width / 2, height / 2, longest)
        larger = Window(width / 2, height / 2, longest * _LARGER)
        looks = [(self.near, whole), (self.near, larger)]
        if small:
            looks += [(self.near, tile) for tile in _tiles(width, height)]
            looks += [(self.near, whole.turned(quarter)) for quarter in (1, 2, 3)]
            looks.append((self.wide, whole))
        else:
            looks += [(self.near, tile) for tile in _level(width, height, shortest)]
        pyramid = Pyramid(pixels, max(0, longest // self.near.side).bit_length())
        seen = self.pool.map(lambda look: _seen(pyramid, *look), looks)
        found = suppress(Found.join(list(seen)))
        best = np.argsort(-found.scores, kind="stable")[:_CANDIDATES_MAX]
        candidates = [found.pick([index]) for index in best.tolist()]
        agreed = self.pool.map(lambda one: self._agreed(pixels, one), candidates)
        return faces_of(suppress(Found.join([found.pick([]), *agreed])))

    def still(self, pixels: Bytes, face: Face) -> bool:
        """Return whether a face may still be found where one was covered.

        Looks closer and further than the first time, and is easier to convince.
        """
        x0, y0, x1, y1 = face.box

        def found(network: BlazeFace, reach: float) -> bool:
            window = Window((x0 + x1) / 2, (y0 + y1) / 2, face.size * reach)
            square = window.cut(pixels, network.side)
            seen = _located(network(square, _STILL_MIN), window, network.side)
            return bool((boxes.overlap(face.corners, seen.boxes) > _SAME).any())

        looks = [(self.wide, _REACHES[0]), *((self.near, each) for each in _REACHES)]
        return any(list(self.pool.map(lambda look: found(*look), looks)))

    def _agreed(self, pixels: Bytes, first: Found) -> Found:
        """Look again at one candidate; return it if the looks agree, else none."""
        second = self._centred(pixels, first)
        if len(second) and second.scores[0] < _SURE:
            # A head that leans far is told wrongly how far; now it leans less.
            second = max(second, self._centred(pixels, second), key=_best)
        if _best(second) < _STRONG <= first.scores[0]:
            # Seen clearly and not when level: it is on its side or its head.
            turned = [self._centred(pixels, first, quarter) for quarter in (1, 2, 3)]
            second = max(second, *turned, key=_best)
        if not len(second):
            return second
        both = _mean(Found.join([first, second]))
        box, points, score = both.boxes[0], both.landmarks[0], both.scores[0]
        size = float((box[2:] - box[:2]).max())
        if score < np.interp(size, _SIZES, _ENOUGH):
            return both.pick([])
        if score < _SURE and size >= _MESHABLE:
            present = self.mesh(pixels, window_of(box, points)).presence
            return both.pick([present >= _PRESENT])
        return both

    def _centred(self, pixels: Bytes, one: Found, quarters: int = 0) -> Found:
        """Return what `near` sees of one detection, centred and level.

        Or turned from there by quarters, where the eyes were told wrongly.
        """
        box, points = one.boxes[0], one.landmarks[0]
        eyes = points[1] - points[0]
        (x, y), sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        side = max(float(sides.max()), 1.0) * _SECOND
        turn = math.atan2(eyes[1], eyes[0]) + quarters * math.pi / 2
        window = Window(float(x), float(y), side, turn)
        square = window.cut(pixels, self.near.side)
        found = _located(self.near(square, _CANDIDATE_MIN), window, self.near.side)
        return suppress(found.pick(boxes.overlap(box, found.boxes) > _SAME)).first


def _tiles(width: int, height: int) -> Iterator[Window]:
    """Yield ever larger windows, each level covering the picture."""
    longest = max(width, height)
    smallest = min(max(longest / _SIDES, _SMALLEST), _LARGEST)
    side = _TILE * smallest / _FACE_MIN
    while side < longest:
        yield from _level(width, height, side)
        side *= _OCTAVE


def _level(width: int, height: int, side: float) -> Iterator[Window]:
    """Yield windows of one size that cover the picture."""
    for y in _starts(height, side):
        for x in _starts(width, side):
            yield Window(x + side / 2, y + side / 2, side)


def _starts(length: int, side: float) -> list[float]:
    """Return where tiles begin: evenly spread, the last one ending with the picture."""
    room = max(0.0, length - side)
    count = math.ceil(room / (side * _STRIDE)) + 1
    return [room * i / max(1, count - 1) for i in range(count)]


def _seen(pyramid: Pyramid, network: BlazeFace, window: Window) -> Found:
    """Return the candidates in a window, in pixels of the picture."""
    square = pyramid.cut(window, network.side)
    # A square that hardly varies is sky or wall; looking there is most of the work.
    plain = square[::4, ::4].std() < _FLAT
    found = network(square, _CANDIDATE_MIN) if not plain else Found.none()
    return _located(suppress(found), window, network.side)


def _located(found: Found, window: Window, side: int) -> Found:
    """Return what was found in a window's square, in pixels of the picture."""
    back = inverse(window.matrix(side))
    centres = apply(back, (found.boxes[:, :2] + found.boxes[:, 2:]) / 2)
    half = (found.boxes[:, 2:] - found.boxes[:, :2]) / 2 * f32(window.side / side)
    around = np.concatenate((centres - half, centres + half), axis=1)
    return Found(f32(around), apply(back, found.landmarks), found.scores)


def suppress(found: Found) -> Found:
    """Return one detection a face: the mean, weighted by score, of those that agree.

    Weighted non-maximum suppression (Bazarevsky et al., 2019, 4): steadier than
    taking the best, since neighbours see the same face from other anchors.  The
    score stays the best's; best first.
    """
    if len(found) < 2:  # noqa: PLR2004 - nothing to compare
        return found
    order = np.argsort(-found.scores, kind="stable")[:_OVERLAPS_MAX]
    ranked = found.pick(order)
    same = boxes.overlaps(ranked.boxes) > _SAME
    nested = boxes.nesting(ranked.boxes) > _NESTED
    left, kept = np.ones(len(ranked), bool), []
    for index in range(len(ranked)):
        if left[index]:
            group = _mean(ranked.pick(same[index] & left))
            kept.append(Found(group.boxes, group.landmarks, ranked.scores[[index]]))
            left &= ~(same[index] | nested[index])
    return Found.join([ranked.pick([]), *kept])


def _best(found: Found) -> float:
    return float(found.scores.max(initial=0))


def _mean(group: Found) -> Found:
    """Return one detection: the mean by score, with the mean of the scores."""
    weight = group.scores / group.scores.sum()
    return Found(
        f32(np.tensordot(weight, group.boxes, 1))[np.newaxis],
        f32(np.tensordot(weight, group.landmarks, 1))[np.newaxis],
        f32([group.scores.mean()]),
    )
