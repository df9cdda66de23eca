"""Embeddings: a face as a direction in the space of an identity network.

What is alike points the same way.  How long the raw vector is tells little (a blurred
face's is short), and only GHOST's converter wants to know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from functions.swap.engine.arrays import Floats, f32

if TYPE_CHECKING:
    from collections.abc import Sequence

LENGTH: Final = 512
"""The numbers in an embedding of the `arcface` contract."""

SAME_MIN: Final = 0.4
"""From which cosine two faces are taken for one person's.

FaceFusion's default (its reference distance of 0.3 is (1 - cosine) / 2).  Insightface's
demo of w600k_r50 (web-demos/src_recognition) calls 0.28 the same and what is under 0.2
not.  The choice of who is swapped hangs on it, so it is the stricter: a face that is
missed can be asked for again, and a stranger's that was changed cannot be unseen.
"""

_CANCELLED: Final = 1e-3  # of the length of one: the directions say opposite things


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """`raw` is (512,) float32, as the network gives it: finite, and not all zero.

    Raises:
        ValueError: it is not.

    """

    raw: Floats

    def __post_init__(self) -> None:
        """Refuse what has no direction."""
        if self.raw.shape != (LENGTH,):
            raise ValueError(f"an embedding is ({LENGTH},), not {self.raw.shape}")
        if not 0 < self.length < float("inf"):
            raise ValueError("an embedding without a direction")

    @property
    def length(self) -> float:
        """The Euclidean length of the raw vector."""
        return float(np.linalg.norm(self.raw))

    @property
    def normed(self) -> Floats:
        """The direction alone, (512,) float32 of length 1."""
        return f32(self.raw / np.linalg.norm(self.raw))


def similarity(a: Embedding, b: Embedding) -> float:
    """Return the cosine between two embeddings, -1 to 1."""
    return float(np.clip(a.normed @ b.normed, -1, 1))


def mean(embeddings: Sequence[Embedding]) -> Embedding:
    """Return several pictures of one person as one embedding.

    Its direction is the mean of the normed embeddings, so that each picture counts
    alike; its length the mean of their lengths.  The method is the field's (FaceFusion
    takes the mean of the normed too, and leaves it shorter than 1).  One is itself.

    Raises:
        ValueError: there are none, or they cancel each other out.

    """
    if len(embeddings) == 1:
        return embeddings[0]
    return _sum([(1 / max(len(embeddings), 1), each) for each in embeddings])


def weighted(source: Embedding, target: Embedding, weight: float) -> Embedding:
    """Return the source's identity with the target's own mixed in: `options.weight`.

    With s and t the two normed and w the weight, the direction is that of
    w s + (1 - w) t; 1 is the source itself, bit for bit, and 0 the target.  (FaceFusion
    mixes likewise and maps its weight to 0.65 to 1.35 of the source; its 0.5 is our 1.)

    Raises:
        ValueError: the weight is not from 0 to 1, or the two cancel each other out.

    """
    if not 0 <= weight <= 1:
        raise ValueError(f"a weight is from 0 to 1, not {weight}")
    if weight == 1:
        return source
    return _sum([(weight, source), (1 - weight, target)])


def _sum(parts: Sequence[tuple[float, Embedding]]) -> Embedding:
    """Return the sum of weighted directions, as long as the weighted lengths."""
    direction = np.zeros(LENGTH, np.float64)
    for weight, embedding in parts:
        direction += weight * embedding.normed
    whole = float(np.linalg.norm(direction))
    if whole < _CANCELLED:
        raise ValueError("identities that cancel each other out, or none")
    length = sum(weight * embedding.length for weight, embedding in parts)
    return Embedding(f32(direction * (length / whole)))
