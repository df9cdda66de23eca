"""ONNX Runtime: sessions from a verified pack, proved before their first answer."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

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

    def __call__(self, tensor: Floats) -> dict[str, Floats]:
        """Run an input of the manifest's shape; return its outputs by name."""
        names = [output.name for output in self.model.outputs]
        values = self.session.run(names, {self.model.input.name: tensor})
        return dict(zip(names, values, strict=True))

    def image(self, pixels: Bytes) -> Floats:
        """Return the input tensor for a BGR picture of the network's own size."""
        low, high = self.model.input.low, self.model.input.high
        scale = np.float32((high - low) / 255)
        return (pixels[np.newaxis, :, :, ::-1] * scale + np.float32(low)).astype(
            np.float32, copy=False
        )

    @property
    def side(self) -> int:
        """The pixels a side of the square input."""
        return self.model.input.shape[1]


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
