"""The ghost contract: an embedding is translated first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.embedding import Embedding
from functions.swap.engine.ghost import Ghost
from functions.swap.engine.runtime import Network
from tests.engine.neural.networks import Session, noise, published, vector

if TYPE_CHECKING:
    from functions.swap.engine.swapper import Swapper

MODEL, CONVERTER = published("ghost_1_256"), published("crossface_ghost")


def doubled(raw: Floats) -> Floats:
    return f32(2 * raw)


def inverted(target: Floats, source: Floats) -> Floats:
    """Answer with the negative where the latent is positive."""
    return f32(-target * np.sign(source[0, 0]))


def ghost() -> tuple[Ghost, Session, Session]:
    swapper, converter = Session(inverted), Session(doubled)
    ours = Ghost(Network(MODEL, swapper), Network(CONVERTER, converter))
    return ours, swapper, converter


def test_the_converter_sees_the_raw_embedding() -> None:
    """The embedding goes in as long as it is, and comes out as the converter says."""
    ours, _, converter = ghost()
    raw = vector(1, 23)
    found = ours.latent(Embedding(raw))
    assert np.array_equal(converter.runs[0]["input"], raw[np.newaxis])
    assert np.array_equal(found, 2 * raw[np.newaxis])


def test_a_picture_comes_back_from_minus_1_to_1() -> None:
    """The negative of a level p is 255 - p, to the bit."""
    ours, session, converter = ghost()
    raw = vector(1)
    raw[0] = 1
    source, crop = ours.latent(Embedding(raw)), noise(2, 256, 256, 3)
    assert np.array_equal(ours(crop, source), 255 - crop)
    assert np.array_equal(session.runs[0]["source"], source)
    assert len(converter.runs) == 1


def test_it_is_a_swapper() -> None:
    """The engine asks it for its side and for how a face must lie."""
    swapper: Swapper = ghost()[0]
    assert (swapper.side, swapper.template) == (256, "arcface_112_v1")
