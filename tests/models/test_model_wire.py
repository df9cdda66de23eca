"""One tensor is read out of a file without the file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.errors import UnsupportedNetwork
from models.wire import last_initializer


def network(*weights: np.ndarray) -> onnx.ModelProto:
    """Return a graph that passes its input on, and has these weights beside."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["x"], ["y"])
    tensors = [numpy_helper.from_array(each, f"w{i}") for i, each in enumerate(weights)]
    return helper.make_model(helper.make_graph([node], "g", [value], [other], tensors))


def test_the_last(tmp_path: Path) -> None:
    """The last weight is read, whatever lies before and after it in the file."""
    first, last = (np.full((n, 3), n, np.float32) for n in (40, 2))
    model = network(first, last)
    model.graph.doc_string = "after the weights"
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    tensor = last_initializer(path)
    assert tensor.name == "w1"
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), last)


def test_none(tmp_path: Path) -> None:
    """A graph without weights is refused by name."""
    path = tmp_path / "a.onnx"
    path.write_bytes(network().SerializeToString())
    with pytest.raises(UnsupportedNetwork, match=r"^a\.onnx: no graph with weights$"):
        last_initializer(path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "cannot mmap an empty file"),
        (b"\x3a\x05\x2a", "it ends too early"),
        (b"\x80" * 11, "a number without an end"),
        (b"\x3b", "wire type 3"),
        (b"\x3a\x04\x2a\x02\xff\xff", "a.onnx"),
    ],
)
def test_no_model(tmp_path: Path, raw: bytes, message: str) -> None:
    """A file that is no ONNX model is refused by name."""
    path = tmp_path / "a.onnx"
    path.write_bytes(raw)
    with pytest.raises(UnsupportedNetwork, match=message):
        last_initializer(path)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes(noise: bytes, at: int) -> None:
    """Whatever the bytes are, there is a tensor, or a refusal."""
    model = network(np.ones(3, np.float32)).SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.onnx")
        path.write_bytes(model[:at] + noise + model[at + len(noise) :])
        try:
            assert isinstance(last_initializer(path), TensorProto)
        except UnsupportedNetwork as error:
            assert str(error).startswith("a.onnx: ")  # noqa: PT017 - either is right
