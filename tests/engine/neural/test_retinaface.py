"""RetinaFace: as insightface 2.1 reads it, and the classic by its formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from insightface.model_zoo.retinaface import RetinaFace as Peer

from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.detections import Detections, sane, suppress
from functions.swap.engine.letterbox import Passes
from functions.swap.engine.placement import Unfit
from functions.swap.engine.retinaface import RetinaFace
from functions.swap.engine.runtime import Network
from models.manifest import Tensor
from tests.engine.neural.answers import (
    Session,
    agree,
    distances,
    network,
    picture,
    standin,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.swap.media import Image

LAYOUTS = {9: ((8, 16, 32), 2), 15: ((8, 16, 32, 64, 128), 1)}


@settings(max_examples=30)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(0, 2**16),
    st.sampled_from((0.001, 0.02, 0.3)),
    st.sampled_from(tuple(LAYOUTS)),
)
def test_answers_are_read_as_insightface_reads_them(
    width: int, height: int, seed: int, likely: float, outputs: int
) -> None:
    """Inputs, boxes, points and order are the same, with nine outputs and fifteen."""
    answer = distances(*LAYOUTS[outputs], likely, digits=9)
    ours, theirs = (Session(answer, outputs) for _ in range(2))
    if min(256 * height // width, 256 * width // height) < 1:
        return  # insightface has no pixel left
    pixels, passes = picture(width, height, seed), Passes(side=256, parity=True)
    found = RetinaFace(network(ours, "retinaface"), passes)(pixels)
    expected = Peer(session=theirs).detect(pixels, input_size=(256, 256))
    assert np.array_equal(ours.seen, theirs.seen)
    agree(found, expected)


def test_two_passes_are_merged_as_insightface_merges_them() -> None:
    """Asked for a coarse pass, it is merged as insightface merges two sizes."""
    ours, theirs = (Session(distances(*LAYOUTS[9], digits=9), 9) for _ in range(2))
    pixels, passes = picture(500, 400), Passes(coarse=128, parity=True)
    agree(
        RetinaFace(network(ours, "retinaface"), passes)(pixels),
        Peer(session=theirs).detect(pixels, input_size=[(128, 128), (640, 640)]),
    )


def test_one_pass_unless_told() -> None:
    """Of itself it looks once, as insightface's does."""
    session = Session(distances(*LAYOUTS[15]), 15)
    RetinaFace(network(session, "retinaface"))(picture(60, 60))
    assert [image.shape[2:] for image in session.seen] == [(640, 640)]


@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_a_portrait_shows_what_it_shows_insightface(
    portrait: Callable[[str], Image], tmp_path: Path, name: str
) -> None:
    """A stand-in with nine outputs, read by both: the same to 1e-3 pixels."""
    net, pixels = standin("det_500m", tmp_path), portrait(name).pixels
    found = RetinaFace(net, Passes(parity=True))(pixels)
    assert len(found) > 0
    agree(found, Peer(session=net.session).detect(pixels, input_size=(640, 640)))


SIDES = {32: (512, 256), 16: (128, 64), 8: (32, 16)}
CLASSIC = tuple(Tensor(f"o{n}", (1, 4, 0, 0)) for n in range(9))


def classic(answer: Callable[[Any], list[Any]]) -> RetinaFace:
    """Return a detector over 128 x 128 pixels whose outputs are pictures."""
    net = network(Session(answer, 9), "retinaface")
    model = msgspec.structs.replace(net.model, outputs=CLASSIC)
    return RetinaFace(Network(model, net.session), Passes(side=128))


def pictures(seed: int, likely: float) -> list[Floats]:
    """Return a random answer of the classic over 128 x 128 pixels."""
    numbers, answer = np.random.default_rng(seed), []
    for stride in SIDES:
        side = 128 // stride
        faces = numbers.random((1, 2, side, side)) * 0.5 / (1 - likely)
        answer.append(f32(np.concatenate((1 - faces, faces), axis=1)))
        answer.append(f32(numbers.normal(0, 0.3, (1, 8, side, side))))
        answer.append(f32(numbers.normal(0, 0.2, (1, 20, side, side))))
    return answer


def one_by_one(answer: list[Floats]) -> Detections:
    """Decode every anchor by itself, as Faster R-CNN's formulas have it."""
    boxes, points, scores = [], [], []
    for level, (stride, sides) in enumerate(SIDES.items()):
        score, box, point = answer[3 * level : 3 * level + 3]
        for y, x, a in np.ndindex(128 // stride, 128 // stride, 2):
            if score[0, 2 + a, y, x] < 0.5:
                continue
            # The anchor's first and last pixel: 16 pixels, enlarged about their middle.
            first = np.array([x, y]) * stride + 7.5 - 0.5 * (sides[a] - 1)
            last = first + sides[a] - 1
            side = last - first + 1
            middle = first + 0.5 * (side - 1)
            dx, dy, dw, dh = box[0, 4 * a : 4 * a + 4, y, x].astype(float)
            centre = middle + np.array([dx, dy]) * side
            half = 0.5 * (np.exp([dw, dh]) * side - 1)
            boxes.append(np.concatenate((centre - half, centre + half)))
            marks = point[0, 10 * a : 10 * a + 10, y, x].reshape(5, 2)
            points.append(middle + marks * side)
            scores.append(score[0, 2 + a, y, x])
    return Detections(f32(boxes), f32(points), f32(scores))


def told(answer: list[Floats]) -> tuple[Floats, Floats]:
    """Return the faces of an answer as insightface tells them: a table, and points."""
    left = suppress(sane(one_by_one(answer), (128, 128)), 0.4)
    return f32(np.c_[left.boxes, left.scores]), left.points


@given(st.integers(0, 2**16))
def test_the_classic_regresses_square_anchors(seed: int) -> None:
    """Boxes and points are those of each anchor by itself, best first."""
    answer = pictures(seed, 0.1)
    found = classic(lambda _: answer)(picture(128, 128))
    agree(found, told(answer))


def test_the_classic_of_the_catalogue_is_read(tmp_path: Path) -> None:
    """A stand-in of the published file gives what each anchor says by itself."""
    net, pixels = standin("retinaface_r50", tmp_path), picture(128, 128, 2)
    found = RetinaFace(net, Passes(side=128))(pixels)
    assert len(found) > 0
    agree(found, told(list(net(net.image(pixels)).values())))


@pytest.mark.parametrize("index", range(9))
def test_a_classic_of_another_size_is_unfit(index: int) -> None:
    """A row of cells too few in any of its pictures is not the contract."""
    answer = pictures(0, 0.1)
    answer[index] = answer[index][:, :, 1:]
    with pytest.raises(Unfit, match="an output is"):
        classic(lambda _: answer)(picture(128, 128))


@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_classic_gone_wild_shows_no_face(index: int, value: float) -> None:
    """Boxes and points that are no numbers, or far too large, are left out."""
    answer = pictures(0, 0.1)
    for level in range(3):
        answer[3 * level + index][:] = value
    assert len(classic(lambda _: answer)(picture(128, 128))) == 0


def test_cells_that_do_not_fit_are_unfit() -> None:
    """With a stride of 128 a side of 160 makes one cell, and not two."""

    def answer(image: Any) -> list[Any]:
        return distances(*LAYOUTS[15])(np.zeros((1, 3, 256, 256), np.float32))

    net = network(Session(answer, 15), "retinaface")
    with pytest.raises(Unfit, match="an output is"):
        RetinaFace(net, Passes(side=160))(picture(90, 90))


@pytest.mark.parametrize("outputs", [3, 6, 10, 12])
def test_another_number_of_outputs_is_no_retinaface(outputs: int) -> None:
    """Without points there is nothing to align a face by."""
    with pytest.raises(Unfit, match="nine outputs or fifteen"):
        RetinaFace(network(Session(lambda _: [], outputs), "retinaface"))
