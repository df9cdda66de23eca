"""RetinaFace: read as insightface 2.1 reads it, in both of its layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from insightface.model_zoo.retinaface import RetinaFace as Peer

from functions.swap.engine.letterbox import Passes
from functions.swap.engine.placement import Unfit
from functions.swap.engine.retinaface import RetinaFace
from tests.engine.neural.answers import (
    Session,
    agree,
    distances,
    network,
    opened,
    picture,
)
from tools import standins

if TYPE_CHECKING:
    from collections.abc import Callable

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
    portrait: Callable[[str], Image], tmp_path: Any, name: str
) -> None:
    """A stand-in with nine outputs, read by both: the same to 1e-3 pixels."""
    session = opened(standins.build("det_500m", tmp_path, small=True))
    pixels = portrait(name).pixels
    found = RetinaFace(network(session, "retinaface"), Passes(parity=True))(pixels)
    assert len(found) > 0
    agree(found, Peer(session=session).detect(pixels, input_size=(640, 640)))


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
