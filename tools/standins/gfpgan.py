"""GFPGAN 1.4 (Wang et al. 2021), the clean architecture: a U-Net steers a StyleGAN2.

The U-Net gives a latent for each layer of the generator, and at each scale a scale and
a shift for half of its channels.  A styled convolution makes its filters from the
latent, so that their numbers are known at run time only, as in the published file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.standins.graph import RELU, Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

SIDE = 512
COLOUR_GAIN = 0.12


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels of the U-Net at 512, 256 ... 4 pixels, and how long a latent is.

    The generator is twice as wide as the U-Net.  Its noise is one number a pixel, or
    without `noise` one a column.  `steer` is the gain of what the U-Net says to it.
    """

    planes: tuple[int, ...]
    latent: int
    noise: bool
    steer: float


def build(name: str, widths: Widths) -> Graph:
    """Return the restorer: an aligned face of -1..1 in, about that out."""
    graph = Graph(name)
    image = graph.input("input", (1, 3, SIDE, SIDE))
    x, downs = _encode(graph, image, widths)
    count = 2 * len(widths.planes)
    flat = graph.node("Flatten", [x], (1, x.channels * 16), axis=1)
    latents = graph.gemm(flat, count * widths.latent, gain=widths.steer)
    conditions = _decode(graph, x, downs, widths)
    x = _generate(graph, _rows(graph, latents, count), conditions, widths)
    graph.output(x)
    return graph


def _encode(graph: Graph, image: Value, widths: Widths) -> tuple[Value, list[Value]]:
    x = graph.leaky(graph.conv(image, widths.planes[0], 1))
    downs = []
    for channels in widths.planes[1:]:
        x = _residual(graph, x, channels, down=True)
        downs.append(x)
    return graph.leaky(graph.conv(x, x.channels)), downs


def _decode(
    graph: Graph, x: Value, downs: list[Value], widths: Widths
) -> list[tuple[Value, Value]]:
    """Return a scale and a shift for each scale of the generator but the first."""
    conditions = []
    wide = reversed(widths.planes[:-1])
    for channels, skip in zip(wide, reversed(downs), strict=True):
        x = _residual(graph, graph.add(x, skip), channels, down=False)
        scale, shift = (_condition(graph, x, u, widths.steer) for u in (1.0, 0.0))
        conditions.append((scale, shift))
    return conditions


def _condition(graph: Graph, x: Value, usual: float, gain: float) -> Value:
    x = graph.leaky(graph.conv(x, x.channels))
    return graph.conv(x, x.channels, gain=gain, bias=usual)


def _residual(graph: Graph, x: Value, channels: int, *, down: bool) -> Value:
    inner = graph.leaky(graph.conv(x, x.channels))
    if down:
        inner, x = (graph.average_pool(each, 2, 2) for each in (inner, x))
    else:
        inner, x = graph.double(inner), graph.double(x)
    inner = graph.leaky(graph.conv(inner, channels))
    return graph.add(inner, graph.conv(x, channels, 1, gain=0.5, bias=None))


def _rows(graph: Graph, latents: Value, count: int) -> list[Value]:
    """Cut one vector into `count` latents."""
    length = latents.channels // count
    axis = graph.integers([1])
    rows = []
    for index in range(count):
        bounds = [graph.integers([n * length]) for n in (index, index + 1)]
        rows.append(graph.node("Slice", [latents, *bounds, axis], (1, length)))
    return rows


def _generate(
    graph: Graph,
    latents: list[Value],
    conditions: list[tuple[Value, Value]],
    widths: Widths,
) -> Value:
    """Return the picture: each scale adds its colours to those of the one before."""
    planes = [2 * each for each in reversed(widths.planes)]
    shape = (1, planes[0], 4, 4)
    x = graph.node("Identity", [graph.weight("constant", shape, 1)], shape)
    x = _styled(graph, x, latents[0], planes[0], widths)
    picture = _colours(graph, x, latents[1])
    steps = zip(planes[1:], conditions, strict=True)
    for index, (channels, condition) in enumerate(steps, 1):
        first, second, third = latents[2 * index - 1 : 2 * index + 2]
        x = _styled(graph, graph.double(x), first, channels, widths)
        x = _conditioned(graph, x, *condition)
        x = _styled(graph, x, second, channels, widths)
        picture = graph.add(graph.double(picture), _colours(graph, x, third))
    return graph.node("Identity", [picture], picture.shape, "output")


def _styled(
    graph: Graph, x: Value, latent: Value, channels: int, widths: Widths
) -> Value:
    """Convolve with filters of the latent, add noise that is always the same."""
    x = _modulated(graph, x, latent, channels, 3)
    number = len(graph.nodes)
    rows = x.shape[2] if widths.noise else 1
    noise = graph.weight(f"noise_{number}", (1, 1, rows, x.shape[3]), 0.02)
    bias = graph.constant(f"bias_{number}", np.zeros((1, channels, 1, 1)))
    for more in (noise, bias):
        x = graph.node("Add", [x, more], x.shape)
    return graph.leaky(x)


def _conditioned(graph: Graph, x: Value, scale: Value, shift: Value) -> Value:
    """Let the U-Net scale and shift the second half of the channels."""
    half = x.channels // 2
    shape = (1, half, *x.shape[2:])
    axis = graph.integers([1])
    free, steered = (
        graph.node("Slice", [x, *map(graph.integers, bounds), axis], shape)
        for bounds in (([0], [half]), ([half], [2 * half]))
    )
    steered = graph.node("Mul", [steered, scale], shape)
    return graph.concat(free, graph.node("Add", [steered, shift], shape))


def _colours(graph: Graph, x: Value, latent: Value) -> Value:
    x = _modulated(graph, x, latent, 3, 1)
    quiet = graph.constant(f"quiet_{len(graph.nodes)}", COLOUR_GAIN)
    return graph.node("Mul", [x, quiet], x.shape)


def _modulated(
    graph: Graph, x: Value, latent: Value, channels: int, kernel: int
) -> Value:
    """Scale the filters' inputs by the latent and make every filter of length 1."""
    label = f"modulated_{len(graph.nodes)}"
    shape = (channels, x.channels, kernel, kernel)
    filters = graph.weight(label, shape, 1)
    style = graph.gemm(latent, x.channels, gain=0.5, bias=1)
    style = graph.reshape(style, 1, x.channels, 1, 1)
    filters_now = graph.node("Mul", [filters, style], shape)
    square = graph.node("Mul", [filters_now, filters_now], shape)
    one = (channels, 1, 1, 1)
    length = graph.node("ReduceSum", [square], one, axes=[1, 2, 3], keepdims=1)
    tiny = graph.constant(f"{label}.epsilon", 1e-8)
    length = graph.node("Add", [length, tiny], one)
    filters_now = graph.node(
        "Div", [filters_now, graph.node("Sqrt", [length], one)], shape
    )
    gain = graph.constant(f"{label}.gain", RELU)
    filters_now = graph.node("Mul", [filters_now, gain], shape)
    around = kernel // 2
    out = (1, channels, *x.shape[2:])
    graph.macs += int(np.prod(shape)) * x.shape[2] * x.shape[3]
    return graph.node(
        "Conv", [x, filters_now], out, kernel_shape=[kernel] * 2, pads=[around] * 4
    )


GFPGAN_1_4 = Widths((32, 64, 128, 256, 256, 256, 256, 256), 512, noise=True, steer=0.08)
SMALL = Widths((2, 2, 2, 4, 4, 4, 4, 4), 8, noise=False, steer=1)
