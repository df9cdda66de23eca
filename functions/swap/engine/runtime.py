"""ONNX Runtime: sessions from a verified pack, proved before their first answer."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from functions.swap.engine.arrays import f32
from models.manifest import GOLDEN_TOLERANCE
from models.runtime import load as load_onnxruntime
from models.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnxruntime

    from functions.swap.engine.arrays import Bytes, Floats
    from models.manifest import Model, Pack


class Unfit(RuntimeError):
    """What was loaded must not serve: a wrong answer, or not the device asked for."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where the models run; `uuid` is empty for a CPU."""

    kind: Literal["cpu", "cuda"]
    name: str
    uuid: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the device as plain data for a record."""
        return {"kind": self.kind, "name": self.name, "uuid": self.uuid}


@dataclass(frozen=True, slots=True)
class Network:
    """One network: the manifest's contract and the session that honours it."""

    model: Model
    session: onnxruntime.InferenceSession

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
        batch = np.stack(pictures)
        if expected.order == "rgb":
            batch = batch[..., ::-1]
        if expected.layout == "nhwc":
            return f32((batch - mean) * (1 / std))
        planes = np.empty((len(batch), 3, *batch.shape[1:3]), np.float32)
        for channel in range(3):  # each read in a row and written in a row
            np.subtract(batch[..., channel], mean[channel], planes[:, channel])
            planes[:, channel] *= 1 / std[channel]
        return planes

    @property
    def side(self) -> int:
        """The pixels a side of the square input; 0 where any will do."""
        return self.model.input.shape[1 if self.model.input.layout == "nhwc" else 2]


def cpu() -> Device:
    """Return this machine's processor by the name that it gives itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return Device("cpu", line.partition(":")[2].strip())
    return Device("cpu", platform.machine())


def load(folder: Path, *, device: str, full: bool = True) -> tuple[Pack, list[Network]]:
    """Verify the pack in `folder`, open every network and prove its golden output.

    `device` is "auto" or "cpu": networks this small run nowhere else.  The graphs are
    saved at BASIC and optimised here at ALL: laid out in memory for the CPU it runs
    on that level is right; a file saved at it is wrong on others.

    Raises:
        models.errors.PackRefused: the folder is not the pack its manifest tells.
        Unfit: no such device, or a network does not give its golden output.

    """
    if device not in {"auto", "cpu"}:
        raise Unfit(f"this pack runs on cpu, not on {device}")
    pack = verify(folder, full=full)
    networks = [_open(folder, model) for model in pack.models]
    with np.load(folder / pack.golden, allow_pickle=False) as golden:
        for network in networks:
            _prove(network, golden)
    return pack, networks


def _open(folder: Path, model: Model) -> Network:
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # One thread a run, several runs at once: the networks are too small to share
    # (measured on two cores: 0.7 ms a tile, against 1.2 with two threads a run).
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        folder / model.file, options, providers=["CPUExecutionProvider"]
    )
    return Network(model, session)


def _prove(network: Network, golden: Mapping[str, Floats]) -> None:
    name = network.model.name
    outputs = network(golden[f"{name}/{network.model.input.name}"])
    for key, value in outputs.items():
        expected = golden[f"{name}/{key}"]
        if not np.allclose(value, expected, rtol=0, atol=GOLDEN_TOLERANCE):
            raise Unfit(f"{name}: {key} is not the golden output")
