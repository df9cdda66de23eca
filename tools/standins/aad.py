"""Swappers that modulate a face at every scale: GHOST and HyperSwap, 256x256.

Both are the AEI-Net of FaceShifter (Li et al. 2019): a U-Net reads the target's
attributes at eight scales, and at each a block mixes what they say with what the source
says, by a mask of its own.  HyperSwap begins with shuffled pixels instead of a
transposed convolution, and gives a mask besides (facefusion-labs, `hyperswap/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.standins.graph import RELU, Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

SIDE = 256
SOURCE = 512
COLOURS = 3
STYLE = 0.3
"""How far the source moves a channel, in deviations of that channel."""


@dataclass(frozen=True, slots=True)
class Widths:
    """One swapper.

    `down` are the channels at 128, 64 ... 2 pixels, `up` those of the blocks from 2
    to 256 pixels, `blocks` how often each modulates.  `length` is how long a source
    vector is: 1 if it is normalised.
    """

    down: tuple[int, ...]
    up: tuple[int, ...]
    length: float
    blocks: int
    masked: bool
    opset: int
    ir_version: int
    half: bool


def build(name: str, widths: Widths) -> Graph:
    """Return a swapper: `source` and `target` in, `output` in -1..1 out."""
    graph = Graph(
        name, opset=widths.opset, ir_version=widths.ir_version, half=widths.half
    )
    source = graph.input("source", (1, SOURCE))
    target = graph.input("target", (1, 3, SIDE, SIDE))
    features = _attributes(graph, target, widths)
    places = "half_pixel" if widths.masked else "align_corners"
    x = _first(graph, source, widths)
    for index, (channels, feature) in enumerate(zip(widths.up, features, strict=True)):
        if index:
            x = graph.resize(x, 2, places)
        x = _block(graph, x, channels, feature, source, widths)
    graph.output(graph.last("Tanh", x, "output"))
    if widths.masked:
        mask = _mask(graph, graph.concat(target, features[-1]), widths)
        graph.output(graph.last("Sigmoid", mask, "mask"))
    return graph


def _first(graph: Graph, source: Value, widths: Widths) -> Value:
    """Make 2x2 pixels of the source."""
    channels = widths.up[0]
    x = graph.reshape(source, 1, SOURCE, 1, 1)
    if not widths.masked:
        return graph.up_conv(x, channels, 2, 1, around=0)
    x = graph.conv(x, 4 * channels)
    return graph.node("DepthToSpace", [x], (1, channels, 2, 2), blocksize=2, mode="CRD")


def _attributes(graph: Graph, x: Value, widths: Widths) -> list[Value]:
    """Return what the target is like at 2, 4 ... 256 pixels."""
    downs = []
    for index, channels in enumerate(widths.down):
        gain = RELU if index else 3.0
        x = graph.conv(x, channels, 4, 2, pad=1, bias=None, gain=gain)
        x = graph.leaky(x, 0.1)
        downs.append(x)
    ups = [x]
    for skip in reversed(downs[:-1]):
        # As wide as the next scale, but never wider than what is skipped to.
        channels = skip.channels
        x = graph.leaky(graph.up_conv(x, channels, 4, 2), 0.1)
        x = graph.concat(x, skip)
        ups.append(x)
    places = "half_pixel" if widths.masked else "align_corners"
    return [*ups, graph.resize(x, 2, places)]


def _block(
    graph: Graph, x: Value, out: int, feature: Value, source: Value, widths: Widths
) -> Value:
    """Modulate and convolve a few times, beside the input or what becomes of it."""
    quiet = 0.5 if out > COLOURS else 0.3
    inner = x
    for index in range(widths.blocks):
        last = index == widths.blocks - 1
        inner = graph.relu(_modulated(graph, inner, feature, source, widths.length))
        channels, gain = (out, quiet) if last else (x.channels, RELU)
        inner = graph.conv(inner, channels, bias=None, gain=gain)
    if out != x.channels:
        x = graph.relu(_modulated(graph, x, feature, source, widths.length))
        x = graph.conv(x, out, bias=None, gain=2 * quiet)
    return graph.add(inner, x)


def _modulated(
    graph: Graph, x: Value, feature: Value, source: Value, length: float
) -> Value:
    """Mix what the attributes and the source say of the normalised channels."""
    channels = x.channels
    label = f"InstanceNormalization_{len(graph.nodes)}"
    plain = [
        graph.constant(f"{label}.{end}", np.full(channels, number))
        for end, number in (("w", 1.0), ("b", 0.0))
    ]
    x = graph.node("InstanceNormalization", [x, *plain], x.shape, epsilon=1e-5)
    scale, shift = (
        graph.conv(feature, channels, 1, gain=STYLE, bias=usual) for usual in (1, 0)
    )
    attributes = _affine(graph, x, scale, shift)
    gain = STYLE * SOURCE**0.5 / length
    scale, shift = (
        graph.reshape(
            graph.gemm(source, channels, gain=gain, bias=usual), 1, channels, 1, 1
        )
        for usual in (1, 0)
    )
    identity = _affine(graph, x, scale, shift)
    mask = graph.conv(x, 1, 1, gain=1)
    mask = graph.node("Sigmoid", [mask], mask.shape)
    apart = graph.node("Sub", [identity, attributes], x.shape)
    return graph.add(attributes, graph.node("Mul", [mask, apart], x.shape))


def _affine(graph: Graph, x: Value, scale: Value, shift: Value) -> Value:
    scaled = graph.node("Mul", [x, scale], x.shape)
    return graph.node("Add", [scaled, shift], x.shape)


def _mask(graph: Graph, x: Value, widths: Widths) -> Value:
    """Say which pixels are the face's: here nearly all of them, softly."""
    filters = widths.down[0] // 2
    sides = (filters, 2 * filters, 4 * filters)
    for channels in sides:
        x = graph.relu(graph.conv(x, channels, bias=None))
        x = graph.max_pool(x, 2, 2)
    inner = graph.relu(graph.conv(x, x.channels, bias=None))
    inner = graph.conv(inner, x.channels, bias=None, gain=0.5)
    x = graph.relu(graph.add(inner, x))
    for channels in (2 * filters, filters, filters):
        x = graph.relu(graph.up_conv(x, channels, 2, 2))
    return graph.conv(x, 1, 1, gain=0.5, bias=2.0)


_DOWN = (32, 64, 128, 256, 512, 1024, 1024)
_UP = (1024, 1024, 1024, 512, 256, 128, 64, 3)
_FEW_DOWN = (4, 4, 4, 8, 8, 8, 8)
_FEW_UP = (8, 8, 8, 8, 8, 4, 4, 3)


def _hyperswap(down: tuple[int, ...], up: tuple[int, ...]) -> Widths:
    """Make what its exporter does: opset 15, weights of 16 bits, casts at the rim."""
    return Widths(down, up, 1.0, 2, masked=True, opset=15, ir_version=10, half=True)


def _ghost(down: tuple[int, ...], up: tuple[int, ...]) -> Widths:
    return Widths(down, up, 20.0, 1, masked=False, opset=11, ir_version=6, half=False)


HYPERSWAP = _hyperswap(_DOWN, _UP)
GHOST = _ghost(_DOWN, _UP)
SMALL_HYPERSWAP = _hyperswap(_FEW_DOWN, _FEW_UP)
SMALL_GHOST = _ghost(_FEW_DOWN, _FEW_UP)


def crossface(name: str, hidden: tuple[int, ...]) -> Graph:
    """Return the converter: an embedding of w600k_r50 in, one of GHOST's out."""
    graph = Graph(name)
    x = graph.input("input", (1, SOURCE))
    for width in hidden:
        x = graph.leaky(graph.gemm(x, width))
    graph.output(graph.gemm(x, SOURCE, name="output"))
    return graph


CROSSFACE = (1024, 2048, 1024)
SMALL_CROSSFACE = (32,)
