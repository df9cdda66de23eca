"""Read one tensor out of an ONNX file without reading the file.

A published swapper has 554 MB, and one tensor of it, a megabyte, is needed beside the
graph.  Parsing the file would take twice its size in memory; walking over its fields
(protobuf: a tag, a length, as many bytes) touches a page for each.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from models.errors import UnsupportedNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from onnx import TensorProto

_GRAPH, _INITIALIZER = 7, 5
"""`ModelProto.graph` and `GraphProto.initializer` in onnx.proto."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES_MAX = 10


def last_initializer(path: Path) -> TensorProto:
    """Return the last initializer of the graph in the file at `path`.

    Raises:
        UnsupportedNetwork: the file is no ONNX model, or its graph has none.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import TensorProto

    tensor = TensorProto()
    try:
        with path.open("rb") as file, _mapped(file.fileno()) as raw:
            tensor.ParseFromString(_last(raw))
    except (ValueError, DecodeError) as error:
        raise UnsupportedNetwork(f"{path.name}: {error}") from error
    return tensor


def _mapped(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)


def _last(raw: mmap.mmap) -> bytes:
    found: slice | None = None
    for field, graph in _fields(raw, slice(0, len(raw))):
        if field == _GRAPH:
            for inner, tensor in _fields(raw, graph):
                found = tensor if inner == _INITIALIZER else found
    if found is None:
        raise ValueError("no graph with weights")
    return raw[found]


def _fields(raw: mmap.mmap, within: slice) -> Iterator[tuple[int, slice]]:
    """Yield number and place of every field that has a length of its own.

    Raises:
        ValueError: the bytes are no protobuf message.
    """
    at, end = within.start, within.stop
    while at < end:
        tag, at = _varint(raw, at, end)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _varint(raw, at, end)
            if length > end - at:
                raise ValueError("no ONNX model: it ends too early")
            yield tag >> 3, slice(at, at + length)
            at += length
        elif kind == _VARINT:
            _, at = _varint(raw, at, end)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(f"no ONNX model: wire type {kind}")


def _varint(raw: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return the number at `at`, seven bits a byte, and where it ends."""
    value = 0
    for index in range(_VARINT_BYTES_MAX):
        if at >= end:
            break
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says another byte follows
            return value, at
    raise ValueError("no ONNX model: a number without an end")
