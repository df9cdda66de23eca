"""A session that answers what a test wants, to us and to insightface alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, f32
from functions.swap.engine.runtime import Network
from models import catalogue
from models.manifest import Input, Model, Tensor, Upstream
from tools import standins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from functions.swap.engine.detections import Detections
    from models.manifest import Contract

    Answer = Callable[[Floats], list[Floats]]

ANY = (1, 3, 0, 0)
WITHIN = 1e-3  # pixels


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    shape: tuple[int | str, ...]
    type: str = "tensor(float)"


@dataclass(slots=True)
class Session:
    """What onnxruntime's session is to an engine: `answer` of the image it was given.

    `seen` holds those images.
    """

    answer: Answer
    outputs: int
    shape: tuple[int, ...] = ANY
    rank: int = 2
    seen: list[Floats] = field(default_factory=list)

    def get_inputs(self) -> list[Node]:
        return [Node("image", tuple(side or "?" for side in self.shape))]

    def get_outputs(self) -> list[Node]:
        return [Node(f"o{n}", ("?",) * self.rank) for n in range(self.outputs)]

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def run(self, names: Sequence[str], given: Mapping[str, Floats]) -> list[Floats]:
        assert list(names) == [node.name for node in self.get_outputs()]
        (image,) = given.values()
        self.seen.append(image)
        return self.answer(image)


def network(session: Any, contract: Contract, **changes: Any) -> Network:
    """Return the network of a session, real or not, described as its contract is."""
    outputs = tuple(Tensor(node.name, (1,)) for node in session.get_outputs())
    entry = session.get_inputs()[0]
    mean, std = (0, 1000) if contract == "yunet" else (127_500, 128_000)
    order = "bgr" if contract == "yunet" else "rgb"
    shape = tuple(side if isinstance(side, int) else 0 for side in entry.shape)
    said = {"shape": shape, "mean": (mean,) * 3, "std": (std,) * 3, "order": order}
    model = Model(
        name="detector",
        file="detector.onnx",
        contract=contract,
        licence="none",
        commercial=False,
        input=Input(name=entry.name, **(said | changes)),
        outputs=outputs,
        upstream=Upstream("none", "0" * 64, 1),
    )
    return Network(model, session)


def opened(path: Path) -> Any:
    """Return a real session over a file, one thread, as silent as can be."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # of outputs that are longer than the file says
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )


def standin(name: str, folder: Path) -> Network:
    """Return the small stand-in of a model, described as the catalogue does."""
    path = standins.build(name, folder, small=True)
    entry = catalogue.load().model(name)
    return Network(entry.described("0" * 64, path.stat().st_size), opened(path))


def rng(image: Floats) -> np.random.Generator:
    """Return random numbers that depend on what the network is shown, not on us."""
    seed = np.abs(image[0, :, ::7, ::7]).sum(dtype=np.float64)
    return np.random.default_rng(int(seed * 1000))


def distances(
    strides: Sequence[int], per_cell: int, likely: float = 0.01, digits: int = 3
) -> Answer:
    """Return an answer as SCRFD gives it: a share `likely` scores 0.5 and more.

    No two score the same, unless there are too few `digits` for that; boxes reach 1
    to 5 strides.
    """

    def answer(image: Floats) -> list[Floats]:
        numbers, (height, width) = rng(image), image.shape[2:]
        counts = [(height // s) * (width // s) * per_cell for s in strides]
        total = sum(counts)
        ranks = numbers.permutation(total) + numbers.random(total) * 0.9
        ranks *= 0.5 / (1 - likely) / total
        scores = np.split(ranks[:, np.newaxis], np.cumsum(counts)[:-1])
        boxes = [numbers.uniform(1, 5, (n, 4)) for n in counts]
        points = [numbers.normal(0, 1, (n, 10)) for n in counts]
        return [
            f32(x) for x in (*(np.round(s, digits) for s in scores), *boxes, *points)
        ]

    return answer


def batched(answer: Answer) -> Answer:
    """Return the same answer with a first axis of 1."""
    return lambda image: [output[np.newaxis] for output in answer(image)]


def agree(ours: Detections, theirs: tuple[Any, Any]) -> None:
    """Hold detections against insightface's: the same, in the same order."""
    table, points = theirs
    assert np.array_equal(ours.scores, table[:, 4])
    assert np.abs(ours.boxes - table[:, :4]).max(initial=0) <= WITHIN
    assert np.abs(ours.points - points).max(initial=0) <= WITHIN


def picture(width: int, height: int, seed: int = 0) -> Bytes:
    """Return a picture of coarse random colours."""
    numbers = np.random.default_rng(seed)
    coarse = numbers.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(9, 0).repeat(9, 1)[:height, :width])
