"""Upscalers: RRDBNet of Real-ESRGAN (Wang et al. 2021), Swin2SR (Conde et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.standins import layers
from tools.standins.graph import Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

NOMINAL = (1, 3, 128, 128)
FACTOR = 4
GREY = 0.5


@dataclass(frozen=True, slots=True)
class Dense:
    """An RRDBNet: features, how many each dense layer adds, blocks, and the scale.

    `gain` is that of the last layer, which keeps nearly every pixel within 0..1.
    """

    features: int
    growth: int
    blocks: int
    scale: int
    gain: float


def dense(name: str, widths: Dense) -> Graph:
    """Return an RRDBNet: pixels of 0..1 in, about that out, `scale` times as large.

    It always enlarges four times; to double, it first folds 2x2 pixels into one.
    """
    graph = Graph(name)
    x = graph.input("input", NOMINAL, "", "", "height", "width")
    for _ in range((FACTOR // widths.scale).bit_length() - 1):
        x = _folded(graph, x)
    first = x = graph.conv(x, widths.features, gain=1)
    for _ in range(widths.blocks):
        x = _in_residual(graph, x, widths.growth)
    x = graph.add(first, graph.conv(x, widths.features, gain=0.3))
    for _ in range(FACTOR.bit_length() - 1):
        x = graph.leaky(graph.conv(graph.double(x, "nearest"), widths.features))
    x = graph.leaky(graph.conv(x, widths.features))
    x = graph.conv(x, 3, gain=widths.gain, bias=GREY, name="output")
    graph.output(x, "", "", f"{widths.scale}*height", f"{widths.scale}*width")
    return graph


def _folded(graph: Graph, x: Value) -> Value:
    height, width = (side // 2 for side in x.shape[2:])
    shape = (1, 4 * x.channels, height, width)
    return graph.node("SpaceToDepth", [x], shape, blocksize=2)


def _in_residual(graph: Graph, x: Value, growth: int) -> Value:
    """Add three dense blocks, a fifth of each, and a fifth of them all."""
    inner = x
    for _ in range(3):
        inner = graph.add(inner, _fifth(graph, _dense_block(graph, inner, growth)))
    return graph.add(x, _fifth(graph, inner))


def _dense_block(graph: Graph, x: Value, growth: int) -> Value:
    seen = x
    for _ in range(4):
        more = graph.leaky(graph.conv(seen, growth))
        seen = graph.concat(seen, more)
    return graph.conv(seen, x.channels, gain=1)


def _fifth(graph: Graph, x: Value) -> Value:
    share = graph.constant(f"share_{len(graph.nodes)}", 0.2)
    return graph.node("Mul", [x, share], x.shape)


@dataclass(frozen=True, slots=True)
class Swin:
    """A Swin2SR: features, heads, groups of six layers, features while enlarging."""

    features: int
    heads: int
    groups: int
    layers: int
    enlarged: int


def swin(name: str, widths: Swin) -> Graph:
    """Return a Swin2SR that enlarges four times; sides must be multiples of 8."""
    graph = Graph(name, opset=17, ir_version=8)
    image = graph.input("input", NOMINAL, "", "", "height", "width")
    first = x = graph.conv(image, widths.features, gain=2, centred=True)
    for _ in range(widths.groups):
        inner = x
        for index in range(widths.layers):
            inner = layers.window_block(graph, inner, widths.heads, shifted=index % 2)
        x = graph.add(x, graph.conv(inner, widths.features, gain=0.3))
    x = graph.add(first, graph.conv(x, widths.features, gain=0.3))
    x = graph.leaky(graph.conv(x, widths.enlarged), 0.01)
    for _ in range(FACTOR.bit_length() - 1):
        x = _unfolded(graph, graph.conv(x, 4 * widths.enlarged, gain=1))
    x = graph.conv(x, 3, gain=0.15, bias=GREY, name="output")
    graph.output(x, "", "", "4*height", "4*width")
    return graph


def _unfolded(graph: Graph, x: Value) -> Value:
    height, width = (2 * side for side in x.shape[2:])
    shape = (1, x.channels // 4, height, width)
    return graph.node("DepthToSpace", [x], shape, blocksize=2, mode="CRD")


REAL_ESRGAN_X2 = Dense(64, 32, 23, 2, 0.02)
REAL_ESRGAN_X4 = Dense(64, 32, 23, 4, 0.006)
SMALL_X2 = Dense(4, 4, 1, 2, 0.5)
SMALL_X4 = Dense(4, 4, 1, 4, 0.4)
SWIN2_SR_X4 = Swin(180, 6, 6, 6, 64)
SMALL_SWIN = Swin(8, 2, 1, 2, 4)
