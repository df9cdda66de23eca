"""What a network must give: an input made of noise, and the outputs that belong to it.

Small networks are computed by ONNX's reference implementation at float64, which is the
same everywhere.  Large ones (an inswapper is 175 billion multiplications) would take
minutes that way, so ONNX Runtime computes them: the published file, as it is, nothing
optimised, on one thread.  Those outputs differ between CPUs in the last bits of
float32, as all of its outputs do; the manifest says how far they may lie.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from typing import TYPE_CHECKING

from models import runtime
from models.errors import UnsupportedNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto
    from onnxruntime import InferenceSession

    from models import catalogue, manifest
    from models.manifest import Input, Shape

    Floats = NDArray[np.float32]
    Arrays = dict[str, Floats]

FILE = "golden.npz"

GRID = 4096
"""Golden outputs are whole multiples of 1/GRID: fine enough to find a fault, and so
coarse that float64 on another CPU rounds to the same value."""

TOLERANCE_MICRO = 2_000
"""How far an output of float32 weights may lie from the golden one, in millionths of
the largest golden value.  Measured on full-size stand-ins of every contract: 5 at
most, at every level of optimisation; without AVX-512, of three of them, the same."""

SIDES = {"scrfd": 128, "retinaface": 128, "realesrgan": 32, "swin2sr": 32}
"""The golden image of a network that takes any size: each start runs it."""


def example(ready: ModelProto, model: catalogue.Member) -> Arrays:
    """Return a golden input of the model and the outputs it must give, by tensor.

    They are computed at float64 and rounded to a grid: another CPU's last bits are
    lost in the rounding, and the pack is the same everywhere.
    """
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    image = noise(f"guise golden {model.name}", model.input)
    names = [output.name for output in model.outputs]
    outputs = ReferenceEvaluator(_doubled(ready)).run(
        names, {model.input.name: image.astype(np.float64)}
    )
    arrays = {model.input.name: image}
    for name, values in zip(names, outputs, strict=True):
        arrays[name] = (np.rint(values * GRID) / GRID).astype(np.float32)
    return arrays


# --- inputs ------------------------------------------------------------------


def inputs(model: manifest.Model, seed: str = "golden") -> Arrays:
    """Return an image of noise and vectors of length 1, as `model` takes them."""
    import numpy as np

    side = SIDES.get(model.contract, 1)
    shape = tuple(
        length or (1 if axis == 0 else side)
        for axis, length in enumerate(model.input.shape)
    )
    arrays = {model.input.name: noise(f"guise {seed} {model.name}", model.input, shape)}
    for vector in model.vectors:
        count = (1, *vector.shape[1:])
        text = f"guise {seed} {model.name} {vector.name}"
        levels = _levels(text, count) - 127.5
        arrays[vector.name] = (levels / np.linalg.norm(levels)).astype(np.float32)
    return arrays


def noise(seed: str, expected: Input, shape: Shape | None = None) -> Floats:
    """Return an image of uniform noise as `expected` wants it.

    SHAKE-256 makes it: numpy does not promise the same numbers in its next version.
    """
    return normalised(_levels(seed, shape or expected.shape), expected)


def normalised(levels: NDArray[np.float64], expected: Input) -> Floats:
    """Return pixels 0 to 255, laid out as `expected` asks, as the numbers it asks.

    What is no image (a vector, two axes) is taken as it is.
    """
    import numpy as np

    if len(expected.shape) != len("nchw"):
        return levels.astype(np.float32)
    shape = (1, 1, 1, 3) if expected.layout == "nhwc" else (1, 3, 1, 1)
    mean, std = (
        np.array(milli, np.float64).reshape(shape) / 1000
        for milli in (expected.mean, expected.std)
    )
    return ((levels - mean) / std).astype(np.float32)


def _levels(seed: str, shape: Shape) -> NDArray[np.float64]:
    import numpy as np

    count = math.prod(shape)
    raw = hashlib.shake_256(seed.encode()).digest(count)
    return np.frombuffer(raw, np.uint8).reshape(shape).astype(np.float64)


# --- outputs -----------------------------------------------------------------


def computed(
    session: InferenceSession, model: manifest.Model, given: Mapping[str, Floats]
) -> Arrays:
    """Return the outputs of a session of `model`, by name.

    Raises:
        UnsupportedNetwork: an output is not of the contract's shape, or no number.
    """
    import numpy as np

    names = [output.name for output in model.outputs]
    outputs = dict(zip(names, session.run(names, dict(given)), strict=True))
    for tensor in model.outputs:
        values = outputs[tensor.name]
        if not fits(tensor.shape, values.shape):
            raise UnsupportedNetwork(
                f"{model.name}: {tensor.name} is {values.shape}, not {tensor.shape}"
            )
        if not np.isfinite(values).all():
            raise UnsupportedNetwork(f"{model.name}: {tensor.name} is not finite")
    return outputs


def fits(promised: Shape, actual: Shape) -> bool:
    """Whether a tensor's shape is the one promised; 0 promises nothing of an axis."""
    return len(promised) == len(actual) and all(
        length in {0, there} for length, there in zip(promised, actual, strict=True)
    )


def furthest(outputs: Mapping[str, Floats], golden: Mapping[str, Floats]) -> float:
    """Return how far outputs lie from the golden ones, in millionths of the largest.

    What is not finite lies infinitely far.
    """
    import numpy as np

    def share(name: str) -> float:
        largest = float(np.abs(golden[name]).max()) or 1.0
        far = float(np.abs(outputs[name] - golden[name]).max())
        return 1e6 * far / largest if math.isfinite(far) else math.inf

    return max(share(name) for name in outputs)


def session(path: Path, level: str, *, threads: int = 0) -> InferenceSession:
    """Open the network at `path` at a level of optimisation, on the CPU.

    Raises:
        UnsupportedNetwork: ONNX Runtime cannot.
    """
    onnxruntime = runtime.load()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, level
    )
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what fails is raised; the rest is not for here
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # each of its faults is a class of its own
        text = str(error).replace(f"{path.parent}/", "")
        raise UnsupportedNetwork(f"{path.name}: {text}") from error


# --- files -------------------------------------------------------------------


def write(path: Path, arrays: Mapping[str, Floats]) -> None:
    """Write what `numpy.load` reads.  Unlike `numpy.savez`: no clock, no order."""
    import numpy as np

    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, always
            with archive.open(member, "w") as file:
                np.lib.format.write_array(file, arrays[name], allow_pickle=False)


def named(model: str, arrays: Mapping[str, Floats]) -> Iterator[tuple[str, Floats]]:
    """Yield the arrays of a model under the names they have in the golden file."""
    for tensor, values in arrays.items():
        yield f"{model}/{tensor}", values


def _doubled(model: ModelProto) -> ModelProto:
    """Return `model` with float64 weights, input and outputs."""
    import numpy as np
    from onnx import ModelProto, TensorProto, numpy_helper

    double = ModelProto()
    double.CopyFrom(model)
    for tensor in double.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*double.graph.input, *double.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return double
