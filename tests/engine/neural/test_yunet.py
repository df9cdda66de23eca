"""YuNet: read as its contract says, and as OpenCV's FaceDetectorYN reads it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from functions.swap.engine.arrays import Bytes, Floats, f32
from functions.swap.engine.detections import Detections, suppress
from functions.swap.engine.letterbox import Letterbox, Passes
from functions.swap.engine.placement import Unfit
from functions.swap.engine.yunet import OVERLAP_MAX, SCORE_MIN, YuNet
from tests.engine.neural.answers import WITHIN, Session, network, picture, standin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.swap.engine.runtime import Network
    from functions.swap.media import Image

STRIDES = (8, 16, 32)
SINGLE = Passes()


def quiet(side: int = 64) -> list[Floats]:
    """Return an answer over a square of pixels that shows no face."""
    return [
        np.zeros((1, (side // stride) ** 2, width), np.float32)
        for width in (1, 1, 4, 10)
        for stride in STRIDES
    ]


def found(answer: list[Floats]) -> Detections:
    """Return what an answer of a network shows in 64 x 64 pixels."""
    net = network(Session(lambda _: answer, 12, rank=3), "yunet")
    return YuNet(net, Passes(side=64))(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("level", "row", "cell"), [(0, 0, (0, 0)), (0, 11, (3, 1)), (2, 3, (1, 1))]
)
def test_a_box_is_a_centre_and_a_size(
    level: int, row: int, cell: tuple[int, int]
) -> None:
    """Centre and points in strides from the cell, sizes as logarithms of strides."""
    answer, s = quiet(), STRIDES[level]
    answer[level][0, row], answer[level + 3][0, row] = 0.81, 0.64
    answer[level + 6][0, row] = (0.5, 1, math.log(2), math.log(4))
    answer[level + 9][0, row] = np.arange(10) / 4
    one, (column, line) = found(answer), cell
    x, y = (column + 0.5) * s, (line + 1) * s
    assert one.scores[0] == pytest.approx(0.72)  # the root of 0.81 x 0.64
    assert one.boxes[0] == pytest.approx((x - s, y - 2 * s, x + s, y + 2 * s))
    corner = np.array([column, line])
    assert np.allclose(
        one.points[0], (np.arange(10).reshape(5, 2) / 4 + corner) * s, atol=1e-4
    )


@pytest.mark.parametrize(
    ("kind", "thing", "count"),
    [(0.6, 0.6, 1), (0.59, 0.6, 0), (9, 0.37, 1), (-1, 1, 0)],
)
def test_both_scores_count(kind: float, thing: float, count: int) -> None:
    """A face is what is one and is there; each counts from 0 to 1 only."""
    answer = quiet()
    answer[0][0, 0], answer[3][0, 0] = kind, thing
    assert len(found(answer)) == count


@pytest.mark.parametrize(
    ("output", "value", "count"),
    [
        (0, np.nan, 0),
        (3, np.nan, 0),
        (0, np.inf, 1),  # no more than sure
        *((output, value, 0) for output in (6, 9) for value in (np.nan, np.inf, 3e38)),
    ],
)
def test_no_wild_face_is_shown(output: int, value: float, count: int) -> None:
    """What is no number or far too large is left out; a score is 1 at most."""
    answer = quiet()
    answer[0][0, 0] = answer[3][0, 0] = 0.9
    answer[output][0, 0] = value
    one = found(answer)
    assert len(one) == count
    assert np.isfinite(one.boxes).all()
    assert (one.scores <= 1).all()


@pytest.mark.parametrize("index", range(12))
def test_an_answer_of_another_shape_is_unfit(index: int) -> None:
    """A row too few in any of the outputs is not the contract."""
    answer = quiet()
    answer[index] = answer[index][:, :-1]
    with pytest.raises(Unfit, match="detector: an output is"):
        found(answer)


def test_another_number_of_outputs_is_no_yunet() -> None:
    """The file of 2022 and an SCRFD are other contracts."""
    with pytest.raises(Unfit, match="twelve"):
        YuNet(network(Session(lambda _: [], 9), "yunet"))


@pytest.mark.parametrize(("apart", "count"), [(0.6, 2), (0.5, 1)])
def test_faces_that_share_a_third_are_one(apart: float, count: int) -> None:
    """Of squares half their side apart the better is kept, further apart both."""
    answer = quiet()
    answer[0][0, :2, 0], answer[3][0, :2] = (0.9, 0.8), 0.9
    answer[6][0, :2, 2:] = math.log(100 / 8)
    answer[6][0, 1, 0] = apart * 100 / 8 - 1  # from its own cell, the second
    assert len(found(answer)) == count


def test_pixels_come_as_they_are() -> None:
    """The input is BGR, 0 to 255."""
    session = Session(lambda _: quiet(), 12)
    pixels = picture(64, 64)
    YuNet(network(session, "yunet"), Passes(side=64))(pixels)
    assert np.array_equal(session.seen[0][0].transpose(1, 2, 0), pixels)


def test_a_face_that_fills_the_picture_is_looked_for_again() -> None:
    """Trained on faces up to 300 pixels, it sees the picture at 224 as well."""
    session = Session(lambda _: quiet(640), 12, (1, 3, 640, 640))
    YuNet(network(session, "yunet"))(picture(640, 640))
    assert len(session.seen) == 2
    assert not session.seen[0][0, :, 224:].any()


def theirs(file: str, canvas: Bytes) -> Detections:
    """Return what OpenCV reads from a canvas, every candidate of it."""
    peer = cv2.FaceDetectorYN.create(file, "", (640, 640), SCORE_MIN, 1.0, 50_000)
    faces: Any = peer.detect(canvas)[1]  # None where there are none
    table = f32([] if faces is None else faces).reshape(-1, 15)
    boxes = np.concatenate((table[:, :2], table[:, :2] + table[:, 2:4]), axis=1)
    return Detections(boxes, table[:, 4:14].reshape(-1, 5, 2), table[:, 14])


def agree(net: Network, file: str, pixels: Bytes) -> int:
    """Hold what we find against what OpenCV does; return how many that is."""
    box = Letterbox.fit(pixels, (640, 640), 640)
    expected = suppress(box.back(theirs(file, box.canvas)), OVERLAP_MAX)
    ours = YuNet(net, SINGLE)(pixels)
    assert len(ours) == len(expected)
    assert np.allclose(ours.scores, expected.scores, rtol=0, atol=1e-5)
    assert np.abs(ours.boxes - expected.boxes).max(initial=0) <= WITHIN
    assert np.abs(ours.points - expected.points).max(initial=0) <= WITHIN
    return len(ours)


def test_a_picture_shows_what_it_shows_opencv(
    tmp_path: Path, portrait: Callable[[str], Image]
) -> None:
    """Boxes, points, scores and order are OpenCV's to 1e-3 pixels, in any picture."""
    sizes = np.random.default_rng(1).integers(60, 900, (8, 2)).tolist()
    pictures = [picture(w, h, seed) for seed, (w, h) in enumerate(sizes)]
    portraits = [portrait(name).pixels for name in ("collins", "hopper")]
    net, (file,) = standin("yunet", tmp_path), map(str, tmp_path.iterdir())
    assert sum(agree(net, file, each) for each in pictures + portraits) > 8
