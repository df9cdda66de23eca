"""The hyperswap contract: -1 to 1 both ways, and an embedding as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.embedding import Embedding
from functions.swap.engine.hyperswap import Hyperswap
from functions.swap.engine.runtime import Network
from tests.engine.neural.networks import Session, noise, published, vector

if TYPE_CHECKING:
    from functions.swap.engine.swapper import Swapper

MODEL = published("hyperswap_1a_256")


def unchanged(target: Floats, source: Floats) -> Floats:
    return f32(target + 0 * source[0, 0])


def test_the_latent_is_the_normed_embedding() -> None:
    """The network takes w600k_r50's embedding, but normed."""
    raw = vector(1, 30)
    found = Hyperswap(Network(MODEL, Session(unchanged))).latent(Embedding(raw))
    assert found.shape == (1, 512)
    assert np.array_equal(found[0], Embedding(raw).normed)


def test_levels_come_back_as_they_went() -> None:
    """A picture that the network leaves alone comes back to the bit."""
    session = Session(unchanged)
    swapper: Swapper = Hyperswap(Network(MODEL, session))
    crop = noise(1, 256, 256, 3)
    source = swapper.latent(Embedding(vector(1)))
    assert np.array_equal(swapper(crop, source), crop)
    (given,) = (run["target"] for run in session.runs)
    assert (given.min(), given.max()) == (-1, 1)
    assert np.array_equal(session.runs[0]["source"], source)


@pytest.mark.parametrize(
    ("value", "level"), [(-1, 0), (-2, 0), (0, 128), (0.5, 191), (1, 255), (2, 255)]
)
def test_a_level_is_the_nearest(value: float, level: int) -> None:
    """127.5 x + 127.5 is rounded to the nearest level, a half upwards."""
    swapper = Hyperswap(
        Network(MODEL, Session(lambda target, _: np.full_like(target, value)))
    )
    crop = swapper(noise(1, 256, 256, 3), f32(np.ones((1, 512))))
    assert (crop == level).all()


def test_it_is_a_swapper() -> None:
    """The engine asks it for its side and for how a face must lie."""
    swapper: Swapper = Hyperswap(Network(MODEL, Session(unchanged)))
    assert (swapper.side, swapper.template) == (256, "arcface_128")
