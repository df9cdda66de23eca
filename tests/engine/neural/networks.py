"""Networks for tests: the catalogue's entry over a session, real or a fake of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from functions.swap.engine import align
from functions.swap.engine.arrays import Bytes, Floats, Matrix, f32, u8
from functions.swap.engine.runtime import Network, _match
from models import catalogue, runtime
from tools.standins import file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.manifest import Input, Model, Tensor

_CATALOGUE = catalogue.load()


def published(name: str, *, at_once: int | None = None) -> Model:
    """Return what a manifest says of a network in the catalogue.

    `at_once` is another first axis for all it takes and gives, 0 being any.
    """
    model = _CATALOGUE.model(name).described("0" * 64, 0)
    if at_once is None:
        return model

    def axis(tensor: Input | Tensor) -> Any:  # as it came
        return replace(tensor, shape=(at_once, *tensor.shape[1:]))

    return replace(
        model,
        input=axis(model.input),
        vectors=tuple(axis(each) for each in model.vectors),
        outputs=tuple(axis(each) for each in model.outputs),
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


def standin(model: Model, folder: Path) -> Network:
    """Return the network of a catalogue's entry over its stand-in.

    Tensors are held against the entry as when a pack is opened.
    """
    network = opened(model, folder / file_name(model.name))
    _match(model, network.session)
    return network


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
