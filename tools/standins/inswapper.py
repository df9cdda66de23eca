"""inswapper_128: encoder, six blocks styled by the latent, decoder.

The layers can be read off the published file and agree with its 138.3 million
parameters, 174.6 billion multiply-accumulates and 554 MB: a 7x7 stem on a mirrored
border, two halvings to 1024 channels at 32x32, twelve styled convolutions on mirrored
borders, two bilinear doublings.  `emap` is the last initializer and feeds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.standins.graph import Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

LATENT = 512
SIDE = 128


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels at 128x128 (first and second), 64x64 and 32x32, and how many blocks."""

    planes: tuple[int, int, int, int]
    blocks: int


def build(name: str, widths: Widths) -> Graph:
    """Return the swapper: `target` and `source` in, `output` in 0..1 out."""
    graph = Graph(name)
    target = graph.input("target", (1, 3, SIDE, SIDE))
    source = graph.input("source", (1, LATENT))
    one, two, four, eight = widths.planes
    x = graph.leaky(graph.conv(graph.reflect(target, 3), one, 7, pad=0, gain=3))
    for channels, stride in ((two, 1), (four, 2), (eight, 2)):
        x = graph.leaky(graph.conv(x, channels, stride=stride))
    for _ in range(widths.blocks):
        x = _styled_block(graph, x, source)
    x = graph.leaky(graph.conv(graph.double(x), four))
    x = graph.leaky(graph.conv(graph.double(x), two))
    x = graph.leaky(graph.conv(x, one))
    x = graph.conv(graph.reflect(x, 3), 3, 7, pad=0, gain=0.5)
    x = graph.node("Tanh", [x], x.shape)
    x = graph.node("Add", [x, graph.constant("one", 1.0)], x.shape)
    graph.output(graph.node("Div", [x, graph.constant("two", 2.0)], x.shape, "output"))
    graph.weight("emap", (LATENT, LATENT), LATENT**-0.5)
    return graph


def _styled_block(graph: Graph, x: Value, source: Value) -> Value:
    inner = _styled(graph, x, source)
    inner = _styled(graph, graph.relu(inner), source)
    return graph.add(inner, x)


def _styled(graph: Graph, x: Value, source: Value) -> Value:
    """Convolve, normalise each channel, scale and shift it by what the latent says."""
    x = graph.conv(graph.reflect(x, 1), x.channels, pad=0)
    usual = np.repeat([1.0, 0.0], x.channels)
    style = graph.gemm(source, 2 * x.channels, gain=0.5 * LATENT**0.5, bias=usual)
    style = graph.reshape(style, 1, 2 * x.channels, 1, 1)
    scale, shift = _halves(graph, style)
    scaled = graph.node("Mul", [_instance_norm(graph, x), scale], x.shape)
    return graph.node("Add", [scaled, shift], x.shape)


def _halves(graph: Graph, style: Value) -> tuple[Value, Value]:
    half = style.channels // 2
    shape = (1, half, 1, 1)

    def part(start: int, end: int) -> Value:
        bounds = [graph.integers([n]) for n in (start, end, 1)]
        return graph.node("Slice", [style, *bounds, bounds[-1]], shape)

    return part(0, half), part(half, 2 * half)


def _instance_norm(graph: Graph, x: Value) -> Value:
    """Normalise each channel in single steps, as published."""
    small = (*x.shape[:2], 1, 1)
    mean = graph.node("ReduceMean", [x], small, axes=[2, 3], keepdims=1)
    apart = graph.node("Sub", [x, mean], x.shape)
    square = graph.node("Mul", [apart, apart], x.shape)
    variance = graph.node("ReduceMean", [square], small, axes=[2, 3], keepdims=1)
    tiny = graph.constant(f"epsilon_{len(graph.nodes)}", 1e-8)
    root = graph.node("Sqrt", [graph.node("Add", [variance, tiny], small)], small)
    return graph.node("Div", [apart, root], x.shape)


INSWAPPER_128 = Widths((128, 256, 512, 1024), 6)
SMALL = Widths((4, 4, 8, 16), 2)
