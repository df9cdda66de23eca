"""Make a network portable, quick to load, and open to batches.

The level is ORT_ENABLE_BASIC: what it writes is right on every CPU, and the same bytes
each time; higher levels write this CPU's block layout into the file, which on another
CPU can be wrong without an error.  They are for whoever loads it, in memory.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from models import golden, runtime
from models.errors import UnsupportedNetwork
from models.wire import last_initializer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedWriter as Outside

    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

    from models.manifest import Model, Shape, Tensor

LARGE = 4 * 2**20
"""From how many bytes on weights lie in a file of their own, to be mapped.  Measured:
17 MB of weights load in 15 ms instead of 33, 554 MB in 8 to 40 ms instead of 660."""

_PAGE, _LINE, _SMALL = 4096, 64, 1024
"""Where a tensor begins in the file of weights: a long one at a page, to be mapped.
A small one, such as the shape another shall have, stays in the graph."""

EMAP = "emap.npy"
EMAP_SHAPE = (512, 512)

BATCHED = {"inswapper", "hyperswap", "ghost", "crossface", "gfpgan", "restoreformer"}
BATCHED |= {"realesrgan", "swin2sr", "classifier", "bisenet"}
"""Contracts whose outputs all have the batch in front; a detector's have not."""


@contextlib.contextmanager
def alone(path: Path) -> Iterator[Path]:
    """Give the file at `path` in a folder where there is nothing else.

    An ONNX file may name others beside it as its weights.  No digest covers those, so
    they must not be found.
    """
    with tempfile.TemporaryDirectory(prefix="guise-") as folder:
        link = Path(folder, path.name)
        link.symlink_to(path.resolve())
        yield link


def simplified(model: ModelProto) -> ModelProto:
    """Return `model` simplified as far as it stays right on every CPU."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="guise-") as folder:
        path = Path(folder, "model.onnx")
        _optimise(model.SerializeToString(), path, None)
        simple = onnx.load(path)
    _tidy(simple)
    return simple


def portable(source: Path, folder: Path, name: str) -> tuple[str | None, bool]:
    """Write the network at `source` as `<name>.onnx`, simplified, into `folder`.

    Return the name of the file with its weights, None where they stay inside, and
    whether the network is one of float16.  ONNX Runtime maps such a file into memory:
    nothing is read before it is used, and all processes of a machine share it.

    A network of float16 keeps its graph as it is published: a CPU computes none of it,
    and what ONNX Runtime writes on one widens every number, on a GPU too.

    Raises:
        UnsupportedNetwork: ONNX Runtime cannot open it.
    """
    path = folder / f"{name}.onnx"
    weights = f"{name}.bin" if source.stat().st_size >= LARGE else None
    try:
        _optimise(str(source), path, weights)
    except Exception as error:  # each of its faults is a class of its own
        text = str(error).replace(f"{source.parent}/", "")
        raise UnsupportedNetwork(f"{source.name}: {text}") from error
    with editing(path) as model:
        half = _widened(model.graph)
        _tidy(model)
    if half:
        _as_it_is(source, path, weights)
    return weights, half


def emap(source: Path) -> NDArray[np.float32]:
    """Return the map of an inswapper, (512, 512) float32: its last initializer.

    No node uses it, so an optimiser drops it; insightface reads it in the same place.

    Raises:
        UnsupportedNetwork: what lies there is no such map.
    """
    import numpy as np
    from onnx import TensorProto, numpy_helper

    tensor = last_initializer(source)
    kinds = {TensorProto.FLOAT, TensorProto.FLOAT16}
    if tuple(tensor.dims) != EMAP_SHAPE or tensor.data_type not in kinds:
        raise UnsupportedNetwork(
            f"{source.name}: its last weight {tensor.name} is no map of 512 x 512"
        )
    if tensor.data_location:
        raise UnsupportedNetwork(f"{source.name}: its map is in another file")
    try:
        return numpy_helper.to_array(tensor).astype(np.float32)
    except ValueError as error:
        raise UnsupportedNetwork(f"{source.name}: its map: {error}") from error


def save(path: Path, values: NDArray[np.float32]) -> None:
    """Write what `numpy.load` reads, and may map."""
    import numpy as np

    with path.open("wb") as file:
        np.lib.format.write_array(file, values, allow_pickle=False)


def batched(path: Path, model: Model) -> Model:
    """Open the prepared network at `path` to batches, where it allows; describe it.

    It allows it when a batch of two gives what two runs give.  Where it does not, the
    file is left as it is.
    """
    wider = _wider(model)
    if model.contract not in BATCHED or wider == model:
        return model
    before = path.read_bytes()
    with editing(path) as network:
        _free_reshapes(network.graph)
        _drop_unused(network.graph)
        declare(network.graph, wider)
    if _gives_the_same(path, wider):
        return wider
    path.write_bytes(before)
    return model


def declare(graph: GraphProto, model: Model) -> None:
    """Give the graph's inputs and outputs the shapes that `model` promises."""
    promised = {tensor.name: tensor.shape for tensor in _tensors(model)}
    for value in (*graph.input, *graph.output):
        _declare(value, promised[value.name])


@contextlib.contextmanager
def editing(path: Path) -> Iterator[ModelProto]:
    """Load the graph at `path` without its weights, and write it back when changed."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    yield model
    path.write_bytes(model.SerializeToString(deterministic=True))


def settle(tensor: TensorProto, values: NDArray[np.generic], file: Outside) -> None:
    """Write the values of a tensor into the file of weights, and point it there."""
    from onnx import TensorProto

    aligned = _LINE if values.nbytes < _PAGE else _PAGE
    file.seek(-(-file.tell() // aligned) * aligned)
    place = {
        "location": Path(file.name).name,
        "offset": file.tell(),
        "length": values.nbytes,
    }
    file.write(values.tobytes())
    for field in ("raw_data", "float_data", "int32_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))


# --- what is written ---------------------------------------------------------


def _widened(graph: GraphProto) -> bool:
    """Whether ONNX Runtime has put in casts, because a CPU computes no float16."""
    marks = ("InsertedPrecisionFreeCast_", "InsertedCast_")
    return any(node.name.startswith(marks) for node in graph.node)


def _as_it_is(source: Path, path: Path, weights: str | None) -> None:
    """Write the graph as published; its weights into a file of their own, if any."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source, load_external_data=False)
    _tidy(model)
    if weights is not None:
        with (path.parent / weights).open("wb") as file:
            for tensor in model.graph.initializer:
                values = numpy_helper.to_array(tensor)
                if values.nbytes >= _SMALL:
                    settle(tensor, values, file)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _optimise(model: bytes | str, path: Path, weights: str | None) -> None:
    onnxruntime = runtime.load()
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # emap feeds nothing, as published
    if weights:
        prefix = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{prefix}_file_name", weights)
        options.add_session_config_entry(f"{prefix}_min_size_in_bytes", str(_SMALL))
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _tidy(model: ModelProto) -> None:
    """Drop what says nothing.

    ONNX Runtime names every operator set it knows in what it writes; those that no
    node uses go, so that the file asks for ONNX itself and nothing else.  So do
    weights that feed nothing: it warns of each at every start.
    """
    used = {node.domain for node in model.graph.node}
    sets = [one for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(sets)
    _drop_unused(model.graph)


def _read(graph: GraphProto) -> Iterator[str]:
    """Yield what the nodes of a graph read, and those of the graphs within."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read(inner)


def _drop_unused(graph: GraphProto) -> None:
    read = {*_read(graph), *(output.name for output in graph.output)}
    for at in reversed(range(len(graph.initializer))):
        if graph.initializer[at].name not in read:
            del graph.initializer[at]


def _tensors(model: Model) -> tuple[Tensor, ...]:
    from models.manifest import Tensor

    image = Tensor(model.input.name, model.input.shape)
    return (image, *model.vectors, *model.outputs)


def _declare(value: ValueInfoProto, shape: Shape) -> None:
    """Write a shape; an axis that takes any length gets a name, the first is `batch`.

    An input's axes that had names keep them.
    """
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(shape):
        return
    for axis, (dim, length) in enumerate(zip(dims, shape, strict=True)):
        if length:
            dim.dim_value = length
        elif not dim.dim_param:
            dim.dim_param = f"{value.name}_{axis}" if axis else "batch"


# --- batches -----------------------------------------------------------------


def _wider(model: Model) -> Model:
    """Describe `model` as taking any batch."""

    def wide(tensor: Tensor) -> Tensor:
        return msgspec.structs.replace(tensor, shape=(0, *tensor.shape[1:]))

    image = model.input
    return msgspec.structs.replace(
        model,
        input=msgspec.structs.replace(image, shape=(0, *image.shape[1:])),
        vectors=tuple(map(wide, model.vectors)),
        outputs=tuple(map(wide, model.outputs)),
    )


def _free_reshapes(graph: GraphProto) -> None:
    """Let every Reshape to a batch of one keep the batch it is given: 0 says so."""
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            weights[node.output[0]] = node.attribute[0].t
    freed: dict[str, str] = {}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[0] in weights:
            continue
        shape = weights.get(node.input[1])
        if shape is None or shape.data_location:
            continue
        values = numpy_helper.to_array(shape).copy()
        if not values.size or values[0] != 1:
            continue
        name = node.input[1]
        if name not in freed:
            values[0] = 0
            freed[name] = f"{name}_batch"
            graph.initializer.append(numpy_helper.from_array(values, freed[name]))
        node.input[1] = freed[name]


def _gives_the_same(path: Path, model: Model) -> bool:
    """Whether a batch of two is two runs of one."""
    import numpy as np

    first, second = (golden.inputs(model, seed) for seed in ("golden", "second"))
    both = {name: np.concatenate([first[name], second[name]]) for name in first}
    try:
        session = golden.session(path, "ORT_ENABLE_EXTENDED")
        one, two, pair = (
            golden.computed(session, model, each) for each in (first, second, both)
        )
    except Exception:  # noqa: BLE001 - each of its faults is a class of its own
        return False
    apart = {name: np.concatenate([one[name], two[name]]) for name in one}
    if any(pair[name].shape != apart[name].shape for name in pair):
        return False
    return golden.furthest(pair, apart) <= golden.TOLERANCE_MICRO
