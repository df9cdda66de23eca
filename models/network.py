"""A published TFLite file, read into plain values.

The schema is TensorFlow's `schema.fbs`, version 3, through the `tflite` package.
Weights come out dense and float32: DENSIFY and DEQUANTIZE of constants are done
here, so that whoever translates the operators never meets them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.errors import UnsupportedNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import flatbuffers
    import numpy as np
    import tflite
    from numpy.typing import NDArray

VERSION = 3


@dataclass(frozen=True, slots=True)
class Operator:
    """One step: what it does, with which options, from which tensors to which."""

    kind: str
    options: Mapping[str, int]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """The whole graph.  Tensors are known by their index in the file.

    `shapes` are NHWC as published; `constants` hold float32 weights, and int32 for
    the arguments of operators such as PAD.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    constants: Mapping[int, NDArray[Any]]


def read(raw: bytes) -> Network:
    """Return the network in the TFLite file `raw`.

    Raises:
        UnsupportedNetwork: it is no such file, or holds something unknown to us.
    """
    try:
        return _read(raw)
    except (struct.error, LookupError, TypeError, ValueError) as error:
        raise UnsupportedNetwork(f"not a TFLite file: {error}") from error


def _read(raw: bytes) -> Network:
    import tflite

    if not tflite.Model.ModelBufferHasIdentifier(raw, 0):
        raise ValueError("no TFL3 mark")
    model = tflite.Model.GetRootAs(raw)
    if model.Version() != VERSION or model.SubgraphsLength() != 1:
        raise UnsupportedNetwork(
            f"schema {model.Version()} with {model.SubgraphsLength()} graphs"
        )
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    constants = _constants(model, tensors)
    operators = [
        _operator(model, graph.Operators(index))
        for index in range(graph.OperatorsLength())
    ]
    return Network(
        operators=tuple(_without_decoding(operators, constants)),
        inputs=_integers(graph.InputsAsNumpy()),
        outputs=_integers(graph.OutputsAsNumpy()),
        names=tuple(tensor.Name().decode() for tensor in tensors),
        shapes=tuple(_integers(tensor.ShapeAsNumpy()) for tensor in tensors),
        constants=constants,
    )


# --- operators ---------------------------------------------------------------

# Which table of the schema holds an operator's options, and what we read from it.
OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "CONV_2D": (
        "Conv2DOptions",
        (
            "Padding",
            "StrideH",
            "StrideW",
            "DilationHFactor",
            "DilationWFactor",
            "FusedActivationFunction",
        ),
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        (
            "Padding",
            "StrideH",
            "StrideW",
            "DilationHFactor",
            "DilationWFactor",
            "DepthMultiplier",
            "FusedActivationFunction",
        ),
    ),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", ("BlockSize",)),
    "MAX_POOL_2D": (
        "Pool2DOptions",
        (
            "Padding",
            "StrideH",
            "StrideW",
            "FilterHeight",
            "FilterWidth",
            "FusedActivationFunction",
        ),
    ),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", ("AlignCorners", "HalfPixelCenters")),
}


def _operator(model: tflite.Model, operator: tflite.Operator) -> Operator:
    kind = _kind(model.OperatorCodes(operator.OpcodeIndex()))
    return Operator(
        kind=kind,
        options=_options(kind, operator),
        inputs=_integers(operator.InputsAsNumpy()),
        outputs=_integers(operator.OutputsAsNumpy()),
    )


def _kind(code: tflite.OperatorCode) -> str:
    """Return an operator's name; codes from 127 on live in the newer, wider field."""
    import tflite

    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    for name, value in vars(tflite.BuiltinOperator).items():
        if value == number:
            return str(name)
    raise UnsupportedNetwork(f"operator code {number}")


def _options(kind: str, operator: tflite.Operator) -> dict[str, int]:
    import tflite

    if kind not in OPTIONS:
        return {}
    table, fields = OPTIONS[kind]
    if operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, table):
        raise UnsupportedNetwork(f"{kind}: its options are not {table}")
    options = getattr(tflite, table)()
    raw = operator.BuiltinOptions()
    options.Init(raw.Bytes, raw.Pos)
    return {field: int(getattr(options, field)()) for field in fields}


def _integers(values: Iterable[int] | int) -> tuple[int, ...]:
    """Return a flatbuffers vector as integers; an absent one (a scalar's) as none."""
    return () if isinstance(values, int) else tuple(int(value) for value in values)


# --- weights -----------------------------------------------------------------


def _constants(
    model: tflite.Model, tensors: list[tflite.Tensor]
) -> dict[int, NDArray[Any]]:
    constants = {}
    for index, tensor in enumerate(tensors):
        buffer = model.Buffers(tensor.Buffer())
        if buffer.DataLength():
            constants[index] = _constant(tensor, buffer.DataAsNumpy())
    return constants


def _constant(tensor: tflite.Tensor, data: NDArray[np.uint8]) -> NDArray[Any]:
    values = data.view(_dtype(tensor))
    shape = _integers(tensor.ShapeAsNumpy())
    if tensor.Sparsity() is not None:
        return _dense(tensor.Sparsity(), values, shape)
    return values.reshape(shape)


def _dtype(tensor: tflite.Tensor) -> str:
    """Return the numpy type of a constant, little-endian as flatbuffers are."""
    from tflite import TensorType

    known = {
        TensorType.FLOAT32: "<f4",
        TensorType.FLOAT16: "<f2",
        TensorType.INT32: "<i4",
    }
    if tensor.Type() not in known:
        raise UnsupportedNetwork(f"{tensor.Name().decode()}: type {tensor.Type()}")
    return known[tensor.Type()]


def _dense(
    sparsity: tflite.SparsityParameters, values: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Return a sparse constant in full.

    The format is that of `SparsityParameters` in schema.fbs (after TACO): one level
    a dimension; a dense level has all its positions, a sparse one lists them, segment
    by segment, one segment for each position of the level above.
    """
    import numpy as np

    order = _integers(sparsity.TraversalOrderAsNumpy())
    if sparsity.BlockMapLength() or order != tuple(range(len(shape))):
        raise UnsupportedNetwork(f"DENSIFY: in blocks, or in the order {order}")
    where: list[NDArray[Any]] = []
    for level in range(sparsity.DimMetadataLength()):
        above = len(where[0]) if where else 1
        parents, here = _level(sparsity.DimMetadata(level), above)
        where = [axis[parents] for axis in where] + [here]
    full = np.zeros(shape, values.dtype)
    full[tuple(where)] = values
    return full


def _level(
    metadata: tflite.DimensionMetadata, above: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return, for each position of one level, its parent's index and its own."""
    import numpy as np
    from tflite import DimensionType

    if metadata.Format() == DimensionType.DENSE:
        size = metadata.DenseSize()
        return np.repeat(np.arange(above), size), np.tile(np.arange(size), above)
    segments = _vector(metadata.ArraySegments(), metadata.ArraySegmentsType())
    indices = _vector(metadata.ArrayIndices(), metadata.ArrayIndicesType())
    return np.repeat(np.arange(above), np.diff(segments)), indices


def _vector(table: flatbuffers.table.Table, kind: int) -> NDArray[Any]:
    """Return an index vector; the schema has them in three widths."""
    import numpy as np
    import tflite

    holders = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
    vector = holders[kind]()
    vector.Init(table.Bytes, table.Pos)
    return np.asarray(vector.ValuesAsNumpy(), np.int64)


def _without_decoding(
    operators: list[Operator], constants: dict[int, NDArray[Any]]
) -> list[Operator]:
    """Carry out DENSIFY and DEQUANTIZE on constants; return the other operators."""
    import numpy as np

    left = []
    for operator in operators:
        if operator.kind not in {"DENSIFY", "DEQUANTIZE"}:
            left.append(operator)
            continue
        weights = constants.get(operator.inputs[0])
        if weights is None or weights.dtype != np.float16:
            raise UnsupportedNetwork(f"{operator.kind}: not of float16 weights")
        wide = weights if operator.kind == "DENSIFY" else weights.astype(np.float32)
        constants[operator.outputs[0]] = wide
    return left
