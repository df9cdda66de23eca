"""Random weights that are the same bytes on every machine.

The raw 64-bit words of a PCG64 are a promise of numpy (its distributions are not), and
everything after them is one correctly rounded float operation at a time.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

BLOCK = 1_000_003
"""How many numbers are drawn; larger tensors repeat them.  A prime, so that the rows
of a tensor, which are never that long, are never the same."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One initializer before it has numbers: `values`, or random ones of `deviation`.

    Every `run` consecutive random numbers have no mean, where it is not 0: a filter
    that is one run answers to what changes, never to how bright the picture is.
    """

    name: str
    shape: tuple[int, ...]
    deviation: float = 0.0
    run: int = 0
    values: Floats | None = None

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


class Source:
    """Numbers for the weights of one network, seeded by its name."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        digest = hashlib.sha256(seed.encode()).digest()
        words = np.random.PCG64(int.from_bytes(digest[:16])).random_raw(BLOCK)
        # 24 bits, in [-0.5, 0.5), are exact; so is a sum of many of them in float64.
        unit = (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        self._block = unit - np.float32(0.5)

    def fill(self, weight: Weight) -> Floats:
        """Return the float32 numbers of `weight`, always the same ones."""
        if weight.values is not None:
            return np.ascontiguousarray(weight.values, np.float32)
        drawn = self._draw(weight.name, weight.size)
        if weight.run:
            runs = drawn.reshape(-1, weight.run)
            mean = runs.mean(axis=1, dtype=np.float64, keepdims=True)
            runs -= mean.astype(np.float32)
        drawn *= np.float32(weight.deviation * math.sqrt(12))
        return drawn.reshape(weight.shape)

    def _draw(self, name: str, size: int) -> Floats:
        """Begin anywhere in the block, so that no two tensors begin alike."""
        digest = hashlib.sha256(f"{self._seed}/{name}".encode()).digest()
        start = int.from_bytes(digest[:8]) % BLOCK
        drawn = np.empty(size, np.float32)
        done = 0
        while done < size:
            part = self._block[start : start + size - done]
            drawn[done : done + part.size] = part
            done, start = done + part.size, 0
        return drawn
