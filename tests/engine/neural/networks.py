"""Networks for tests: a manifest's entry over a session, real or a fake of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from functions.swap.engine import align
from functions.swap.engine.arrays import Bytes, Floats, Matrix, f32, u8
from functions.swap.engine.runtime import Network
from models import runtime
from models.manifest import Input, Model, Tensor, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from models.manifest import Contract, Template

UNIT, SIGNED, LEVELS = (0, 255_000), (127_500, 127_500), (0, 1000)
"""Mean and deviation of an input from 0 to 1, from -1 to 1, and as it is."""


def described(
    name: str,
    contract: Contract,
    image: tuple[str, tuple[int, ...], tuple[int, int]],
    outputs: Mapping[str, tuple[int, ...]],
    *,
    vectors: Mapping[str, tuple[int, ...]] | None = None,
    template: Template | None = None,
) -> Model:
    """Return a manifest's entry: the image is its name, its shape and its numbers."""
    given, shape, (mean, std) = image
    return Model(
        name=name,
        file=f"{name}.onnx",
        contract=contract,
        licence="none",
        commercial=False,
        input=Input(given, shape, (mean, mean, mean), (std, std, std)),
        outputs=tuple(Tensor(*each) for each in outputs.items()),
        upstream=Upstream("a test", "0" * 64, 0),
        vectors=tuple(Tensor(*each) for each in (vectors or {}).items()),
        template=template,
    )


class Session:
    """Stands for a session of ONNX Runtime: answers by a function, keeps the inputs."""

    def __init__(self, answer: Callable[..., Floats]) -> None:
        self._answer = answer
        self.runs: list[dict[str, Floats]] = []

    def run(self, names: Sequence[str], given: dict[str, Floats]) -> list[Floats]:
        assert all(value.dtype == np.float32 for value in given.values())
        self.runs.append(given)
        return [self._answer(*given.values())] * len(names)


def opened(model: Model, path: Path) -> Network:
    """Return the network in a file, on one thread of the processor."""
    onnxruntime: Any = runtime.load()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # emap feeds nothing, as published
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    return Network(model, session)


def noise(seed: int, *shape: int) -> Bytes:
    """Return random levels with a little of every scale in them."""
    random = np.random.default_rng(seed)
    return u8(random.integers(0, 256, shape))


def faces(count: int, seed: int = 2) -> list[Matrix]:
    """Return the five points of faces in a picture of 512x512 or just off its edge.

    They are float64, so that insightface does not round on the way to its matrix.
    """
    random = np.random.default_rng(seed)
    template = align.points_of("arcface_112", 112)
    return [
        template * random.uniform(0.5, 3)
        + random.normal(0, 4, (5, 2))
        + random.uniform(-50, 300, 2)
        for _ in range(count)
    ]


def vector(seed: int, length: float = 20) -> Floats:
    """Return a random embedding, (512,), of that length."""
    raw = np.random.default_rng(seed).normal(size=512)
    return f32(raw * (length / np.linalg.norm(raw)))
