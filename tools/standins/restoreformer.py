"""RestoreFormer++ (Wang et al. 2023): an autoencoder over a codebook, with attention.

Residual blocks of six widths down to 16x16, attention there, the nearest of 1024 codes,
and back up, looking at what the encoder saw.  Its form, not its every layer: the size
agrees with the published file's within two per cent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.standins.graph import Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

SIDE = 512
GROUPS = 32


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels at 512, 256 ... 16 pixels; blocks a scale; codes and their length."""

    planes: tuple[int, ...]
    blocks: int
    codes: int
    code: int


def build(name: str, widths: Widths) -> Graph:
    """Return the restorer: an aligned face of -1..1 in, about that out."""
    graph = Graph(name)
    x = graph.input("input", (1, 3, SIDE, SIDE))
    seen = _encode(graph, x, widths)
    x = _middle(graph, seen, seen)
    x = graph.conv(x, widths.code, gain=1)
    x = graph.conv(_nearest(graph, x, widths), widths.planes[-1], gain=1)
    x = _decode(graph, _middle(graph, x, seen), seen, widths)
    x = _swish(graph, _group_norm(graph, x))
    x = graph.conv(x, 3, gain=0.4)
    graph.output(graph.node("Identity", [x], x.shape, "output"))
    return graph


def _encode(graph: Graph, x: Value, widths: Widths) -> Value:
    x = graph.conv(x, widths.planes[0])
    for index, channels in enumerate(widths.planes):
        if index:
            x = graph.conv(x, x.channels, stride=2, gain=1)
        for _ in range(widths.blocks):
            x = _residual(graph, x, channels)
            if index == len(widths.planes) - 1:
                x = _look(graph, x, x)
    return x


def _decode(graph: Graph, x: Value, seen: Value, widths: Widths) -> Value:
    for index, channels in enumerate(reversed(widths.planes)):
        if index:
            x = graph.conv(graph.double(x, "nearest"), x.channels, gain=1)
        for _ in range(widths.blocks + 1):
            x = _residual(graph, x, channels)
            if not index:
                x = _look(graph, x, seen)
    return x


def _middle(graph: Graph, x: Value, seen: Value) -> Value:
    x = _residual(graph, x, x.channels)
    return _residual(graph, _look(graph, x, seen), x.channels)


def _residual(graph: Graph, x: Value, channels: int) -> Value:
    inner = graph.conv(_swish(graph, _group_norm(graph, x)), channels)
    inner = graph.conv(_swish(graph, _group_norm(graph, inner)), channels, gain=0.5)
    if x.channels != channels:
        x = graph.conv(x, channels, 1, gain=1)
    return graph.add(inner, x)


def _look(graph: Graph, x: Value, seen: Value) -> Value:
    """Let every pixel attend to every pixel of what was `seen`."""
    channels, height, width = x.shape[1:]
    rows = height * width
    query = graph.conv(_group_norm(graph, x), channels, 1, gain=1)
    normal = _group_norm(graph, seen)
    key, value = (graph.conv(normal, channels, 1, gain=1) for _ in range(2))
    query, key, value = (
        graph.reshape(each, 1, channels, rows) for each in (query, key, value)
    )
    scale = graph.constant(f"scale_{len(graph.nodes)}", channels**-0.5)
    graph.macs += 2 * rows * rows * channels
    alike = graph.node(
        "MatMul", [graph.transpose(query, 0, 2, 1), key], (1, rows, rows)
    )
    alike = graph.node("Mul", [alike, scale], alike.shape)
    alike = graph.node("Softmax", [alike], alike.shape, axis=2)
    found = graph.node("MatMul", [value, graph.transpose(alike, 0, 2, 1)], value.shape)
    found = graph.reshape(found, 1, channels, height, width)
    return graph.add(x, graph.conv(found, channels, 1, gain=1))


def _nearest(graph: Graph, x: Value, widths: Widths) -> Value:
    """Replace each pixel by the code that is most like it."""
    length, height, width = x.shape[1:]
    rows = height * width
    flat = graph.transpose(graph.reshape(x, length, rows), 1, 0)
    book = graph.weight("codebook", (widths.codes, length), 1)
    turned = graph.node("Transpose", [book], (length, widths.codes), perm=[1, 0])
    alike = graph.node("MatMul", [flat, turned], (rows, widths.codes))
    graph.macs += rows * length * widths.codes
    best = graph.node("ArgMax", [alike], (rows,), axis=1, keepdims=0)
    found = graph.node("Gather", [book, best], (rows, length), axis=0)
    return graph.reshape(graph.transpose(found, 1, 0), 1, length, height, width)


def _swish(graph: Graph, x: Value) -> Value:
    return graph.node("Mul", [x, graph.node("Sigmoid", [x], x.shape)], x.shape)


def _group_norm(graph: Graph, x: Value) -> Value:
    """Normalise groups of channels, as torch exports it to opset 11."""
    label = f"GroupNorm_{len(graph.nodes)}"
    groups = min(GROUPS, x.channels)
    ends = (("one", np.ones(groups)), ("zero", np.zeros(groups)))
    plain = [graph.constant(f"{label}.{end}", numbers) for end, numbers in ends]
    flat = graph.reshape(x, 1, groups, -1)
    flat = graph.node("InstanceNormalization", [flat, *plain], flat.shape, epsilon=1e-6)
    x = graph.reshape(flat, *x.shape)
    shape = (x.channels, 1, 1)
    scale = graph.constant(f"{label}.w", np.ones(shape))
    shift = graph.constant(f"{label}.b", np.zeros(shape))
    return graph.node("Add", [graph.node("Mul", [x, scale], x.shape), shift], x.shape)


PLUS_PLUS = Widths((64, 128, 128, 256, 256, 512), 2, 1024, 256)
SMALL = Widths((2, 2, 2, 4, 4, 4), 1, 16, 4)
