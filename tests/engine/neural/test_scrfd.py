"""SCRFD: read as its contract says, and as insightface 2.1 reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from insightface.model_zoo.scrfd import SCRFD

from functions.swap.engine.arrays import Bytes, Floats, f32
from functions.swap.engine.letterbox import Passes
from functions.swap.engine.placement import Unfit
from functions.swap.engine.scrfd import Scrfd
from tests.engine.neural.answers import (
    Session,
    agree,
    batched,
    distances,
    network,
    picture,
    standin,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.swap.engine.runtime import Network
    from functions.swap.media import Image

STRIDES = (8, 16, 32)
COUNTS = [2 * (64 // stride) ** 2 for stride in STRIDES]


def quiet() -> list[Floats]:
    """Return an answer over 64 x 64 pixels that shows no face."""
    return [
        np.zeros((count, width), np.float32) for width in (1, 4, 10) for count in COUNTS
    ]


def detector(answer: list[Floats], side: int = 64) -> Scrfd:
    """Return a detector whose network gives one answer."""
    return Scrfd(network(Session(lambda _: answer, 9), "scrfd"), Passes(side=side))


def blank(side: int = 64) -> Bytes:
    return np.zeros((side, side, 3), np.uint8)


@pytest.mark.parametrize(
    ("level", "row", "anchor"),
    [
        (0, 0, (0, 0)),
        (0, 1, (0, 0)),  # two anchors a cell, one after the other
        (0, 2 * 9 + 1, (8, 8)),  # the second cell of the second row of eight
        (1, 2 * 3, (48, 0)),
        (2, 2 * 3, (32, 32)),
    ],
)
def test_a_box_is_distances_from_its_anchor(
    level: int, row: int, anchor: tuple[int, int]
) -> None:
    """Left, top, right, bottom and five points, in strides from the cell's corner."""
    answer, stride = quiet(), STRIDES[level]
    answer[level][row] = 0.75
    answer[level + 3][row] = (1, 2, 3, 4)
    answer[level + 6][row] = np.arange(10) / 2
    found = detector(answer)(blank())
    (x, y), s = anchor, stride
    assert found.scores.tolist() == [0.75]
    assert found.boxes.tolist() == [[x - s, y - 2 * s, x + 3 * s, y + 4 * s]]
    expected = [[x + (n - 1) * s / 2, y + n * s / 2] for n in range(1, 11, 2)]
    assert found.points.tolist() == [expected]


def test_half_a_score_is_enough() -> None:
    """0.5 is a face, what is less is none."""
    answer = quiet()
    answer[0][:2, 0] = 0.5, np.nextafter(f32(0.5), f32(0))
    answer[3][:2] = ((0, 0, 1, 1), (0, 0, 3, 3))
    assert detector(answer)(blank()).boxes.tolist() == [[0, 0, 8, 8]]


def test_the_picture_is_twice_the_input() -> None:
    """What is found in the input is told in pixels of the picture."""
    answer = quiet()
    answer[0][0], answer[3][0] = 0.9, (0, 0, 4, 2)
    assert detector(answer)(blank(128)).boxes.tolist() == [[0, 0, 64, 32]]


@pytest.mark.parametrize("kind", [0, 3, 6])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_an_answer_gone_wild_shows_no_face(kind: int, value: float) -> None:
    """Scores, boxes or points that are no numbers, or far too large, are left out."""
    answer = quiet()
    answer[0][0], answer[3][0] = 0.9, (0, 0, 4, 2)
    answer[kind][0] = value
    assert len(detector(answer)(blank())) == 0


@pytest.mark.parametrize("index", range(9))
@pytest.mark.parametrize("change", [lambda o: o[:-1], lambda o: o.T, lambda o: o[0]])
def test_an_answer_of_another_shape_is_unfit(
    index: int, change: Callable[[Floats], Floats]
) -> None:
    """A row too few, rows for columns, or a rank too few, in any of the outputs."""
    answer = quiet()
    answer[index] = change(answer[index])
    with pytest.raises(Unfit, match="detector: an output is"):
        detector(answer)(blank())


@pytest.mark.parametrize("outputs", [6, 8, 12, 15])
def test_another_number_of_outputs_is_no_scrfd(outputs: int) -> None:
    """Without points, or with other strides, it is another contract."""
    with pytest.raises(Unfit, match="nine"):
        Scrfd(network(Session(lambda _: [], outputs), "scrfd"))


def test_a_side_that_is_none_is_told_at_once() -> None:
    """A detector that could never look is refused when it is made."""
    with pytest.raises(Unfit, match="32"):
        detector(quiet(), side=50)


@settings(max_examples=40)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(0, 2**16),
    st.sampled_from((0.001, 0.02, 0.3)),
    st.sampled_from((2, 3)),
)
def test_answers_are_read_as_insightface_reads_them(
    width: int, height: int, seed: int, likely: float, rank: int
) -> None:
    """Inputs, boxes, points and order are the same, for any picture, equal scores too.

    Also where most of what it sees overlaps, and where outputs have an axis for the
    batch.
    """
    answer = distances(STRIDES, 2, likely)
    answer = batched(answer) if rank == 3 else answer
    ours, theirs = (Session(answer, 9, rank=rank) for _ in range(2))
    pixels = picture(width, height, seed)
    if min(int(160 * height / width), int(160 * width / height)) < 1:
        return  # insightface has no pixel left
    found = Scrfd(network(ours, "scrfd"), Passes(side=160, parity=True))(pixels)
    expected = SCRFD(session=theirs).detect(pixels, input_size=(160, 160))
    assert np.array_equal(ours.seen, theirs.seen)
    agree(found, expected)


def test_both_passes_are_merged_as_insightface_merges_them() -> None:
    """What 128 and 640 pixels show is suppressed together, the coarse pass first."""
    ours, theirs = (Session(distances(STRIDES, 2), 9) for _ in range(2))
    pixels = picture(700, 500)
    passes = Passes(coarse=128, parity=True)
    agree(
        Scrfd(network(ours, "scrfd"), passes)(pixels),
        SCRFD(session=theirs).detect(pixels),
    )
    assert [image.shape[2] for image in ours.seen] == [128, 640]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, SCRFD]:
    """Return a stand-in's network, and insightface's detector over the same."""
    network = standin("det_10g", tmp_path_factory.mktemp("scrfd"))
    return network, SCRFD(session=network.session)


def views(pixels: Bytes) -> dict[str, Bytes]:
    """Return a portrait as it may come: whole, cut by each edge, wide, tall, tiny."""
    height, width = pixels.shape[:2]
    return {
        "whole": pixels,
        "left": pixels[:, width // 2 :],
        "right": pixels[:, : width // 2],
        "top": pixels[height // 3 :],
        "bottom": pixels[: height // 3],
        "wide": pixels[height // 3 : height // 3 + 9],
        "tall": pixels[:, width // 2 : width // 2 + 9],
        "tiny": pixels[:1, :1],
        "black": pixels * 0,
        "odd": pixels[:-13, :-7],
        "many": np.tile(pixels, (3, 4, 1)),
    }


@pytest.mark.parametrize("view", list(views(blank())))
@pytest.mark.parametrize("name", ["collins", "hopper"])
@pytest.mark.parametrize("side", [320, 640])
def test_a_portrait_shows_what_it_shows_insightface(
    pair: tuple[Network, SCRFD],
    portrait: Callable[[str], Image],
    name: str,
    view: str,
    side: int,
) -> None:
    """One pass over a portrait, whole or cut, is insightface's to 1e-3 pixels."""
    own, peer = pair
    pixels = np.ascontiguousarray(views(portrait(name).pixels)[view])
    found = Scrfd(own, Passes(side=side, parity=True))(pixels)
    agree(found, peer.detect(pixels, input_size=(side, side)))


def test_the_portraits_are_no_empty_test(
    pair: tuple[Network, SCRFD], portrait: Callable[[str], Image]
) -> None:
    """The stand-in finds something in the portraits and nothing in the dark."""
    find = Scrfd(pair[0])
    assert len(find(portrait("hopper").pixels)) > 2
    assert len(find(blank(640))) == 0


@pytest.mark.parametrize("seed", range(6))
def test_random_pictures_show_what_they_show_insightface(
    pair: tuple[Network, SCRFD], seed: int
) -> None:
    """Both passes over pictures of any size are insightface's to 1e-3 pixels."""
    own, peer = pair
    width, height = np.random.default_rng(seed).integers(20, 1500, 2)
    pixels = picture(int(width), int(height), seed)
    found = Scrfd(own, Passes(coarse=128, parity=True))(pixels)
    agree(found, peer.detect(pixels))


def test_where_the_ratio_fits_nothing_differs_from_insightface(
    pair: tuple[Network, SCRFD], portrait: Callable[[str], Image]
) -> None:
    """As it is served, a picture of 16:9 gives insightface's boxes too."""
    own, peer = pair
    pixels = np.ascontiguousarray(portrait("hopper").pixels[:288, :512])
    agree(Scrfd(own)(pixels), peer.detect(pixels))


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (2, 9000)])
def test_a_line_of_pixels_is_a_picture(
    pair: tuple[Network, SCRFD], size: tuple[int, int]
) -> None:
    """Where insightface has no pixel left, nothing fails and nothing is wild."""
    found = Scrfd(pair[0])(picture(*size))
    assert np.abs(found.boxes).max(initial=0) <= 5 * max(size)
