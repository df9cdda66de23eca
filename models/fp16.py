"""Halve a network: weights and activations as float16, inputs and outputs as float32.

A device with half-precision units computes it at up to twice the speed in half the
memory; a CPU gains nothing, its kernels widen each number first.  With ONNX alone:
what it does is the whole of this page.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import UnsupportedNetwork
from models.optimise import editing, settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedWriter as Outside

    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

HALVED = {"inswapper", "hyperswap", "ghost", "gfpgan", "restoreformer", "realesrgan"}
"""Contracts that are worth it.  A detector is small, and an identity wants its bits."""

TOLERANCE_MICRO = 30_000
"""How far an output of halved weights may lie from the golden one of float32, in
millionths of the largest golden value: 3 %, eight levels of 255.  Measured on
full-size stand-ins: from 500 (Real-ESRGAN) to 4,900 (GHOST)."""

_WIDE = {"Resize": (1, 2, 3), "Upsample": (1,)}
"""Inputs that stay as they are: regions, scales and sizes are no activations."""


def halve(folder: Path, name: str) -> str:
    """Halve `<name>.onnx` in `folder`, and its weights; return their file's name.

    Raises:
        UnsupportedNetwork: a weight is too large for float16.
    """
    weights = f"{name}.bin"
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        halved = Path(fresh, weights)
        with editing(folder / f"{name}.onnx") as model:
            kept = _kept(model.graph)
            with halved.open("wb") as file:
                for tensor in model.graph.initializer:
                    if tensor.name not in kept:
                        _halve(tensor, folder, file)
            _retype(model)
        halved.replace(folder / weights)
    return weights


def _kept(graph: GraphProto) -> set[str]:
    """Return the weights that must stay float32, because nodes want them so."""
    return {
        node.input[at]
        for node in graph.node
        for at in _WIDE.get(node.op_type, ())
        if at < len(node.input)
    }


def _halve(tensor: TensorProto, folder: Path, file: Outside) -> None:
    """Write the tensor as float16 into `file`, and point it there.

    Whole numbers that were in the old file move as they are.
    """
    from onnx import TensorProto

    values = _values(tensor, folder)
    if tensor.data_type == TensorProto.FLOAT:
        values = _narrow(tensor.name, values)
        tensor.data_type = TensorProto.FLOAT16
    elif not tensor.data_location:
        return
    settle(tensor, values, file)


def _values(tensor: TensorProto, folder: Path) -> NDArray[np.generic]:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor, base_dir=str(folder))


def _narrow(name: str, values: NDArray[np.generic]) -> NDArray[np.generic]:
    import numpy as np

    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise UnsupportedNetwork(f"{name}: a weight is too large for float16")
    return half


def _retype(model: ModelProto) -> None:
    """Cast at the inputs and the outputs, and let all between be float16."""
    from onnx import TensorProto, helper

    graph = model.graph
    del graph.value_info[:]
    for node in graph.node:
        _recast(node)
    produced = set(itertools.chain.from_iterable(node.output for node in graph.node))
    inputs = {value.name: f"{value.name}_half" for value in _floats(graph.input)}
    outputs = {
        value.name: f"{value.name}_half"
        for value in _floats(graph.output)
        if value.name in produced
    }
    renamed = inputs | outputs
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for wide, half in inputs.items():
        cast = helper.make_node("Cast", [wide], [half], to=TensorProto.FLOAT16)
        graph.node.insert(0, cast)
    for wide, half in outputs.items():
        cast = helper.make_node("Cast", [half], [wide], to=TensorProto.FLOAT)
        graph.node.append(cast)


def _floats(values: Iterable[ValueInfoProto]) -> Iterator[ValueInfoProto]:
    from onnx import TensorProto

    for value in values:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            yield value


def _recast(node: NodeProto) -> None:
    """Let what the node casts to, or fills with, be float16 where it was float32."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        tensor = attribute.t
        if attribute.HasField("t") and tensor.data_type == TensorProto.FLOAT:
            values = _narrow(node.name, numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
