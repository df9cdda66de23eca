"""A published file is read for what we know of it, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tflite

from models import catalogue
from models.convert import convert
from models.errors import UnsupportedNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL, _, MESH = catalogue.load().pack("lite").models


@pytest.mark.parametrize("raw", [b"", b"PK\3\4", bytes(64)])
def test_not_a_network(raw: bytes) -> None:
    """What is no TFLite file is refused, and the network named."""
    with pytest.raises(UnsupportedNetwork, match=rf"^{FULL.name}: not a TFLite file"):
        convert(raw, FULL)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_cut_file(originals: Mapping[str, bytes], share: float) -> None:
    """A file that ends too early is refused."""
    raw = originals[FULL.member]
    with pytest.raises(UnsupportedNetwork):
        convert(raw[: int(len(raw) * share)], FULL)


def spoiled(raw: bytes) -> tuple[bytearray, Any]:
    """Return a copy to write in, and the file's own tables, which write through."""
    copy = bytearray(raw)
    return copy, tflite.Model.GetRootAs(copy)


def put(table: Any, slot: int, value: int) -> None:
    """Overwrite a one-byte field of a flatbuffers table, which must be there."""
    offset = table._tab.Offset(4 + 2 * slot)
    assert offset
    table._tab.Bytes[table._tab.Pos + offset] = value


def test_another_schema(originals: Mapping[str, bytes]) -> None:
    """A version of the schema that we have not read is refused."""
    raw, model = spoiled(originals[FULL.member])
    put(model, 0, 4)
    with pytest.raises(UnsupportedNetwork, match=r"schema 4 with 1 graphs$"):
        convert(bytes(raw), FULL)


def test_unnamed_operator(originals: Mapping[str, bytes]) -> None:
    """An operator that the schema does not name is refused by its number."""
    raw, model = spoiled(originals[FULL.member])
    put(model.OperatorCodes(1), 0, 126)
    put(model.OperatorCodes(1), 3, 250)
    with pytest.raises(UnsupportedNetwork, match=r"operator code 250$"):
        convert(bytes(raw), FULL)


def test_options_of_another_operator(originals: Mapping[str, bytes]) -> None:
    """Options that belong to another operator are refused."""
    raw, model = spoiled(originals[FULL.member])
    graph = model.Subgraphs(0)
    operators = [graph.Operators(at) for at in range(graph.OperatorsLength())]
    conv = tflite.BuiltinOptions.Conv2DOptions
    convolution = next(each for each in operators if each.BuiltinOptionsType() == conv)
    put(convolution, 3, tflite.BuiltinOptions.AddOptions)
    with pytest.raises(UnsupportedNetwork, match=r"CONV_2D: its options are not Conv"):
        convert(bytes(raw), FULL)


def test_weights_of_another_type(originals: Mapping[str, bytes]) -> None:
    """Weights of a type we have not met are refused by name."""
    raw, model = spoiled(originals[MESH.member])
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(at) for at in range(graph.TensorsLength())]
    half = next(t for t in tensors if t.Type() == tflite.TensorType.FLOAT16)
    put(half, 1, tflite.TensorType.INT16)
    with pytest.raises(UnsupportedNetwork, match=rf"{half.Name().decode()}: type 7$"):
        convert(bytes(raw), MESH)


def test_dequantize_of_something_computed(originals: Mapping[str, bytes]) -> None:
    """DEQUANTIZE of anything but float16 weights is refused."""
    raw, model = spoiled(originals[MESH.member])
    graph = model.Subgraphs(0)
    operators = [graph.Operators(at) for at in range(graph.OperatorsLength())]
    codes = [model.OperatorCodes(each.OpcodeIndex()) for each in operators]
    dequantize = tflite.BuiltinOperator.DEQUANTIZE
    at = next(i for i, c in enumerate(codes) if c.DeprecatedBuiltinCode() == dequantize)
    operators[at].InputsAsNumpy()[0] = graph.Inputs(0)
    with pytest.raises(
        UnsupportedNetwork, match=r"DEQUANTIZE: not of float16 weights$"
    ):
        convert(bytes(raw), MESH)


def test_sparse_in_another_order(originals: Mapping[str, bytes]) -> None:
    """Sparse weights stored in an order we have not met are refused."""
    raw, model = spoiled(originals[FULL.member])
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(at) for at in range(graph.TensorsLength())]
    sparse = next(t for t in tensors if t.Sparsity() is not None)
    sparse.Sparsity().TraversalOrderAsNumpy()[:2] = [1, 0]
    with pytest.raises(UnsupportedNetwork, match=r"DENSIFY: .*order \(1, 0, 2, 3\)$"):
        convert(bytes(raw), FULL)
