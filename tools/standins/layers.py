"""Layers of transformers, in operators of opset 17."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tools.standins.graph import Graph, Value

WINDOW = 8
"""How wide the windows are within which Swin2SR attends."""


def dense(graph: Graph, x: Value, features: int, *, gain: float = 1.0) -> Value:
    """Multiply each row of [..., channels] by a random matrix, and add a bias."""
    label = f"MatMul_{len(graph.nodes)}"
    channels = x.shape[-1]
    matrix = graph.weight(f"{label}.w", (channels, features), gain / channels**0.5)
    graph.macs += math.prod(x.shape) * features
    shape = (*x.shape[:-1], features)
    bias = graph.constant(f"{label}.b", np.zeros(features))
    return graph.node("Add", [graph.node("MatMul", [x, matrix], shape), bias], shape)


def norm(graph: Graph, x: Value) -> Value:
    """Normalise each row."""
    label = f"LayerNormalization_{len(graph.nodes)}"
    scale = graph.constant(f"{label}.w", np.ones(x.shape[-1]))
    shift = graph.constant(f"{label}.b", np.zeros(x.shape[-1]))
    return graph.node("LayerNormalization", [x, scale, shift], x.shape, epsilon=1e-6)


def gelu(graph: Graph, x: Value) -> Value:
    """Let each number through by how likely it is above others: x * Phi(x)."""
    number = len(graph.nodes)
    root, one, half = (
        graph.constant(f"gelu_{number}.{name}", value)
        for name, value in (("root", 0.5**0.5), ("one", 1.0), ("half", 0.5))
    )
    likely = graph.node("Mul", [x, root], x.shape)
    likely = graph.node("Erf", [likely], x.shape)
    likely = graph.node("Add", [likely, one], x.shape)
    return graph.node("Mul", [graph.node("Mul", [x, likely], x.shape), half], x.shape)


def attention(graph: Graph, x: Value, heads: int) -> Value:
    """Attend among the rows of each of n sets, [n, rows, channels]."""
    sets, rows, channels = x.shape
    each = channels // heads
    split = (sets, rows, heads, each)

    def part(*order: int) -> Value:
        projected = dense(graph, x, channels)
        parted = graph.reshape(projected, 0, 0, heads, each, known=split)
        return graph.transpose(parted, *order)

    query, key, value = part(0, 2, 1, 3), part(0, 2, 3, 1), part(0, 2, 1, 3)
    scale = graph.constant(f"scale_{len(graph.nodes)}", each**-0.5)
    graph.macs += 2 * sets * rows * rows * channels
    shape = (sets, heads, rows, rows)
    alike = graph.node("MatMul", [query, key], shape)
    alike = graph.node("Mul", [alike, scale], shape)
    alike = graph.node("Softmax", [alike], shape, axis=-1)
    seen = graph.node("MatMul", [alike, value], (sets, heads, rows, each))
    seen = graph.transpose(seen, 0, 2, 1, 3)
    return dense(graph, graph.reshape(seen, 0, 0, channels, known=x.shape), channels)


def block(graph: Graph, x: Value, heads: int, wider: int) -> Value:
    """Attend, then think about each row alone; both beside the input."""
    x = graph.add(x, attention(graph, norm(graph, x), heads))
    inner = gelu(graph, dense(graph, norm(graph, x), wider * x.shape[-1]))
    return graph.add(x, dense(graph, inner, x.shape[-1], gain=0.5))


def window_block(graph: Graph, x: Value, heads: int, *, shifted: bool | int) -> Value:
    """Apply `block` within windows of an image, whose sides it divides.

    Every other time the image is rolled by half a window first, and back after.
    """
    by = WINDOW // 2 if shifted else 0
    x = _rolled(graph, x, by)
    channels, height, width = x.shape[1:]
    count = height * width // WINDOW**2
    folded = (1, WINDOW**2 * channels, height // WINDOW, width // WINDOW)
    deep = graph.node("SpaceToDepth", [x], folded, blocksize=WINDOW)
    size = graph.node("Shape", [deep], (4,))
    known = (1, WINDOW**2, channels, count)
    sets = graph.reshape(deep, 1, WINDOW**2, channels, -1, known=known)
    # [1, rows, channels, n] to [n, rows, channels]
    sets = graph.transpose(sets, 3, 1, 2, 0)
    sets = graph.reshape(sets, -1, WINDOW**2, channels, known=(count, *known[1:3]))
    sets = graph.transpose(block(graph, sets, heads, 2), 1, 2, 0)
    deep = graph.node("Reshape", [sets, size], folded)
    x = graph.node("DepthToSpace", [deep], x.shape, blocksize=WINDOW, mode="DCR")
    return _rolled(graph, x, -by)


def _rolled(graph: Graph, x: Value, by: int) -> Value:
    if not by:
        return x
    far = 2**31 - 1
    for axis in (2, 3):
        halves = [
            graph.node("Slice", [x, *map(graph.integers, bounds)], x.shape)
            for bounds in (([by], [far], [axis]), ([0], [by], [axis]))
        ]
        x = graph.node("Concat", halves, x.shape, axis=axis)
    return x
