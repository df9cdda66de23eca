"""ONNX Runtime: sessions from a verified pack, proved before their first answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from functions.swap.engine.arrays import f32
from functions.swap.engine.binding import Binding, static
from functions.swap.engine.placement import RECORDING, Unfit, refuse_strays
from functions.swap.threads import marking
from functions.warm import Warm
from models.manifest import GOLDEN_TOLERANCE
from models.runtime import load as load_onnxruntime
from models.verify import compare, verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnxruntime

    from functions.swap.engine.arrays import Bytes, Floats
    from functions.swap.engine.placement import Placement
    from models.manifest import Model, Pack, Tensor

_OPENED_AT_ONCE_MAX: Final = 4


class Session(Protocol):
    """What runs a network: ONNX Runtime's own session, or a `Binding` before it."""

    def run(self, names: Sequence[str], given: dict[str, Floats], /) -> list[Floats]:
        """Return the outputs of those names."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network: the manifest's contract and the session that honours it."""

    model: Model
    session: Session

    def __call__(self, image: Floats, *vectors: Floats) -> dict[str, Floats]:
        """Run the image, and the vectors in the manifest's order; outputs by name."""
        names = [output.name for output in self.model.outputs]
        given = {self.model.input.name: image}
        for tensor, value in zip(self.model.vectors, vectors, strict=True):
            given[tensor.name] = value
        return dict(zip(names, self.session.run(names, given), strict=True))

    def image(self, *pictures: Bytes) -> Floats:
        """Return the input tensor for BGR pictures of one size, a batch of them.

        Each is (height, width, 3) uint8; the tensor is as the manifest asks.
        """
        expected = self.model.input
        mean, std = f32(expected.mean) / 1000, f32(expected.std) / 1000
        step = -1 if expected.order == "rgb" else 1
        if expected.layout == "nhwc":
            return f32((np.stack(pictures)[..., ::step] - mean) * (1 / std))
        planes = np.empty((len(pictures), 3, *pictures[0].shape[:2]), np.float32)
        for picture, place in zip(pictures, planes, strict=True):
            for channel, plane in enumerate(cv2.split(picture)[::step]):
                np.subtract(plane, mean[channel], place[channel])
                place[channel] *= 1 / std[channel]
        return planes

    @property
    def side(self) -> int:
        """The pixels a side of the square input; 0 where any will do."""
        return self.model.input.shape[1 if self.model.input.layout == "nhwc" else 2]


@dataclass(frozen=True, slots=True)
class Opened:
    """A pack whose networks can run.

    `proof` ends when every byte and every golden output has been compared.  Until
    it has, nothing that the networks gave may leave the process.
    """

    pack: Pack
    networks: tuple[Network, ...]
    proof: Warm[None]


def load(folder: Path, placement: Placement, *, full: bool = True) -> Opened:
    """Open every network of the pack in `folder`, and begin to prove them.

    Names and sizes are checked before anything is opened, and the digest of whatever
    is read then.  The other digests and the golden outputs follow at once where all
    networks are small.  Where weights are mapped from a file, hashing and trying
    them takes longer than opening them, so it goes on beside the first job, on a
    thread of its own: see `Opened.proof`.

    Raises:
        models.errors.PackRefused: the folder is not the pack its manifest tells.
        Unfit: a network does not open as the manifest says, or not on the device
            that is asked for, or does not give its golden output.

    """
    pack = verify(folder, full=False)
    large = any(model.weights for model in pack.models)
    read = {name for model in pack.models for name in (model.file, model.emap)}
    if full:
        compare(folder, (file for file in pack.files if file.name in read))
    with ThreadPoolExecutor(_OPENED_AT_ONCE_MAX, "open") as pool:
        networks = tuple(pool.map(lambda m: _open(folder, m, placement), pack.models))

    def hash_rest() -> None:
        if full:
            compare(folder, (file for file in pack.files if file.name not in read))

    def prove() -> None:
        # Beside the golden runs: it takes one core, and they leave some idle.
        hashed = Warm(hash_rest)
        try:
            with np.load(folder / pack.golden, allow_pickle=False) as golden:
                for network in networks:
                    _prove(network, golden)
        finally:
            hashed.get()  # a file that is wrong is named, whatever came of it

    proof = Warm(prove)
    if not large or placement.gpu is not None:  # one job at a time on a GPU
        proof.get()
    return Opened(pack, networks, proof)


def _open(folder: Path, model: Model, placement: Placement) -> Network:
    """Open a network: small ones at ALL, those with mapped weights at EXTENDED.

    The graphs are saved at BASIC.  Optimised here, at ALL, a graph is laid out for
    the CPU it runs on; that copies the weights, which is what a mapped file saves.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = (
        level.ORT_ENABLE_EXTENDED if model.weights else level.ORT_ENABLE_ALL
    )
    options.intra_op_num_threads = _threads(model, placement)
    options.inter_op_num_threads = 1
    # A pool would keep what a run computed, an embedding or a face, until the next
    # run.  Without one it is freed at its end, and written over: see `server.seal`.
    # It costs nothing that could be measured (IResNet-50, SCRFD, inswapper).
    options.enable_cpu_mem_arena = False
    # A thread that spins for the next run takes the core from whoever decodes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if placement.gpu is not None:
        options.add_session_config_entry(*RECORDING)
    graph = placement.cuda_graph and static(model)
    try:
        with marking():  # the threads it makes are the device's
            session = ort.InferenceSession(
                folder / model.file, options, providers=placement.providers(graph=graph)
            )
    except Exception as error:  # ONNX Runtime raises a class of its own for each code
        raise Unfit(f"{model.name}: does not open: {error}") from error
    _match(model, session)
    if placement.gpu is not None:
        refuse_strays(session, model.name, placement.provider)
        session = Binding(session, model, "cuda", placement.gpu, graph=graph)
    return Network(model, session)


def _threads(model: Model, placement: Placement) -> int:
    """One thread a run for the small networks of the mesh engine, several runs at once.

    They are too small to share (measured on two cores: 0.7 ms a tile, against 1.2
    with two threads a run).
    """
    return 1 if model.contract in {"blazeface", "facemesh"} else placement.threads


def _match(model: Model, session: onnxruntime.InferenceSession) -> None:
    """Refuse a network that takes or gives other tensors than its manifest says."""
    takes = {each.name: each.shape for each in model.vectors}
    takes[model.input.name] = model.input.shape
    gives = {each.name: each.shape for each in model.outputs}
    sides = (takes, session.get_inputs()), (gives, session.get_outputs())
    for expected, found in sides:
        shapes = {each.name: tuple(each.shape) for each in found}
        if shapes.keys() != expected.keys():
            raise Unfit(f"{model.name}: its tensors are {', '.join(shapes)}")
        for name, shape in expected.items():
            if not _fits(shape, shapes[name]):
                raise Unfit(f"{model.name}: {name} is {shapes[name]}")


def _fits(told: Sequence[int], found: Sequence[int | str | None]) -> bool:
    """Return whether a shape is the one told; one of the two may leave an axis open."""
    return len(told) == len(found) and all(
        not mine or not isinstance(theirs, int) or mine == theirs
        for mine, theirs in zip(told, found, strict=True)
    )


def _prove(network: Network, golden: Mapping[str, Floats]) -> None:
    model = network.model

    def wanted(tensor: Tensor) -> Floats:
        return golden[f"{model.name}/{tensor.name}"]

    vectors = [wanted(each) for each in model.vectors]
    outputs = network(golden[f"{model.name}/{model.input.name}"], *vectors)
    for tensor in model.outputs:
        expected, found = wanted(tensor), outputs[tensor.name]
        if not np.allclose(found, expected, rtol=0, atol=_allowed(model, expected)):
            raise Unfit(f"{model.name}: {tensor.name} is not the golden output")


def _allowed(model: Model, expected: Floats) -> float:
    """Return how far an output may lie from the golden one; see `Model`."""
    if not model.tolerance_micro:
        return GOLDEN_TOLERANCE
    return model.tolerance_micro / 1e6 * (float(np.abs(expected).max()) or 1.0)
