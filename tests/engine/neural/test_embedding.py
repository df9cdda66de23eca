"""Embeddings: directions, how alike they are, several as one, two mixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from insightface.app.common import Face

from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.embedding import (
    LENGTH,
    SAME_MIN,
    Embedding,
    mean,
    similarity,
    weighted,
)
from tests.engine.neural.networks import vector

seeds = st.integers(0, 2**32)


def of(seed: int, length: float = 20) -> Embedding:
    return Embedding(vector(seed, length))


def between(cosine: float) -> tuple[Embedding, Embedding]:
    """Return two embeddings of that cosine and of unlike lengths."""
    one, other = np.zeros(LENGTH, np.float32), np.zeros(LENGTH, np.float32)
    one[3] = 7
    other[[3, 4]] = 21 * cosine, 21 * math.sqrt(1 - cosine**2)
    return Embedding(one), Embedding(other)


@given(seeds, st.floats(1e-3, 1e3))
def test_normed_is_insightfaces(seed: int, length: float) -> None:
    """The direction is `normed_embedding` of insightface's Face, bit for bit."""
    raw = vector(seed, length)
    assert np.array_equal(Embedding(raw).normed, Face(embedding=raw).normed_embedding)


@pytest.mark.parametrize(
    "raw",
    [
        np.zeros(LENGTH),
        np.full(LENGTH, math.nan),
        np.full(LENGTH, math.inf),
        np.ones(LENGTH - 1),
        np.ones((1, LENGTH)),
    ],
    ids=["zero", "nan", "infinite", "short", "a batch"],
)
def test_what_has_no_direction_is_no_embedding(raw: Floats) -> None:
    """Zeros, what is no number and another shape are refused."""
    with pytest.raises(ValueError, match="embedding"):
        Embedding(f32(raw))


@pytest.mark.parametrize("cosine", [-1, -0.5, 0, SAME_MIN, 0.9, 1])
def test_similarity_is_the_cosine(cosine: float) -> None:
    """However long they are, what counts is the angle between two embeddings."""
    assert similarity(*between(cosine)) == pytest.approx(cosine, abs=1e-6)


def test_a_face_is_wholly_itself() -> None:
    """Rounding never makes a face more than alike."""
    found = [similarity(of(seed), of(seed, 3)) for seed in range(500)]
    assert min(found) > 1 - 1e-6
    assert max(found) <= 1


def test_strangers_are_not_the_same() -> None:
    """The threshold is above what insightface's demo calls the same, and strangers."""
    assert SAME_MIN > 0.28
    assert max(similarity(of(0), of(seed)) for seed in range(1, 500)) < SAME_MIN


def test_one_source_is_itself() -> None:
    """The mean of one embedding is that embedding, bit for bit."""
    only = of(1)
    assert mean([only]) is only


def test_sources_count_alike() -> None:
    """The mean lies between directions, however long each vector is."""
    one, other = between(0.5)
    middle = mean([one, other])
    assert similarity(middle, one) == pytest.approx(math.cos(math.pi / 6), abs=1e-6)
    assert similarity(middle, other) == pytest.approx(math.cos(math.pi / 6), abs=1e-6)
    assert middle.length == pytest.approx(14, rel=1e-6)
    assert middle.raw.dtype == np.float32


@given(st.lists(seeds, min_size=2, max_size=8, unique=True))
def test_the_order_of_sources_says_nothing(several: list[int]) -> None:
    """Sources may be named in any order."""
    there = mean([of(seed) for seed in several])
    back = mean([of(seed) for seed in reversed(several)])
    assert np.allclose(there.raw, back.raw, atol=1e-5)


def test_no_source_is_refused() -> None:
    """There is no mean of nothing, nor of what cancels out."""
    with pytest.raises(ValueError, match="cancel"):
        mean([])
    with pytest.raises(ValueError, match="cancel"):
        mean([of(1), Embedding(-of(1).raw)])


def test_the_whole_weight_is_the_source() -> None:
    """A weight of 1 is the source bit for bit: as if nobody had spoken of weights."""
    source = of(1)
    assert weighted(source, of(2), 1) is source


def test_no_weight_is_the_target() -> None:
    """A weight of 0 leaves the target who it is."""
    target = of(2)
    assert np.allclose(weighted(of(1), target, 0).raw, target.raw, atol=1e-5)


@given(seeds, st.floats(0.01, 0.98))
def test_more_weight_is_more_of_the_source(seed: int, weight: float) -> None:
    """The more weight, the more alike the source and the less alike the target."""
    source, target = of(seed), of(seed + 1)
    less, more = (weighted(source, target, w) for w in (weight, weight + 0.01))
    assert similarity(more, source) > similarity(less, source)
    assert similarity(more, target) < similarity(less, target)


@given(seeds, st.floats(0, 1))
def test_the_mixture_is_the_formula(seed: int, weight: float) -> None:
    """The direction is w s + (1 - w) t of the normed, as the docstring says."""
    source, target = of(seed), of(seed + 1, 5)
    wanted = weight * source.normed + (1 - weight) * target.normed
    mixed = weighted(source, target, weight).normed
    assert np.allclose(mixed, wanted / np.linalg.norm(wanted), atol=1e-6)


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_is_a_share(weight: float) -> None:
    """A weight that is no share is refused."""
    with pytest.raises(ValueError, match="weight"):
        weighted(of(1), of(2), weight)
