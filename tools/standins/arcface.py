"""ArcFace embedders: IResNet-50 (w600k_r50) and MobileFaceNet (w600k_mbf).

Layers are those of insightface's `recognition/arcface_torch/backbones` (iresnet.py,
mobilefacenet.py with blocks (2, 8, 12, 4) and scale 2, which is what gives the size of
the published file), as exported for inference: every normalisation that follows a
convolution is folded into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.standins.graph import Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

NOMINAL = (1, 3, 112, 112)
FEATURES = 512
PRELU = 1.37
"""The gain that keeps the variance through a PReLU of slope 0.25."""


@dataclass(frozen=True, slots=True)
class Residual:
    """An IResNet: its first width, its blocks and widths a stage, its output."""

    stem: int
    blocks: tuple[int, ...]
    planes: tuple[int, ...]
    output: str
    gain: float


@dataclass(frozen=True, slots=True)
class Mobile:
    """A MobileFaceNet: its first width, its stages, its last width, its output.

    A stage is how wide it is, how wide the separated layers of the block that leads
    there are, how wide those of its residual blocks, and how many there are.
    """

    stem: int
    stages: tuple[tuple[int, int, int, int], ...]
    last: int
    output: str
    gain: float


def residual(name: str, widths: Residual) -> Graph:
    """Return an IResNet."""
    graph = Graph(name)
    x = graph.input("input.1", NOMINAL, "None", "", "", "")
    x = graph.prelu(graph.conv(x, widths.stem, gain=2, centred=True))
    for count, planes in zip(widths.blocks, widths.planes, strict=True):
        for index in range(count):
            x = _block(graph, x, planes, 1 if index else 2)
    x = graph.norm(x)
    _embed(graph, graph.node("Flatten", [x], (1, x.channels * 49), axis=1), 49, widths)
    return graph


def _block(graph: Graph, x: Value, channels: int, stride: int) -> Value:
    inner = graph.prelu(graph.conv(graph.norm(x), channels, gain=PRELU))
    inner = graph.conv(inner, channels, stride=stride, gain=0.4)
    if stride > 1 or x.channels != channels:
        x = graph.conv(x, channels, 1, stride, gain=1)
    return graph.add(inner, x)


def _embed(graph: Graph, x: Value, run: int, widths: Residual | Mobile) -> None:
    """Add the last matrix and name the output.

    A `run` is what one channel saw everywhere: without its mean, what all faces have
    in common cancels, and two faces give two embeddings.
    """
    x = graph.gemm(x, FEATURES, gain=widths.gain, run=run)
    graph.output(graph.norm(x, name=widths.output))


def mobile(name: str, widths: Mobile) -> Graph:
    """Return a MobileFaceNet."""
    graph = Graph(name)
    x = graph.input("input.1", NOMINAL, "None", "", "", "")
    x = graph.prelu(graph.conv(x, widths.stem, stride=2, gain=2, centred=True))
    for index, (planes, leading, wide, count) in enumerate(widths.stages):
        if index:
            x = _separable(graph, x, planes, leading, 2)
        for _ in range(count):
            x = graph.add(_separable(graph, x, planes, wide), x)
    x = graph.prelu(graph.conv(x, widths.last, 1, gain=PRELU))
    x = graph.conv(x, x.channels, 7, pad=0, groups=x.channels, centred=True)
    _embed(graph, graph.node("Flatten", [x], (1, x.channels), axis=1), 0, widths)
    return graph


def _separable(graph: Graph, x: Value, out: int, wide: int, stride: int = 1) -> Value:
    x = graph.prelu(graph.conv(x, wide, 1, gain=PRELU))
    x = graph.prelu(graph.conv(x, wide, stride=stride, groups=wide, gain=PRELU))
    return graph.conv(x, out, 1, gain=1 if stride > 1 else 0.4)


W600K_R50 = Residual(64, (3, 4, 14, 3), (64, 128, 256, 512), "683", 0.4)
W600K_MBF = Mobile(
    128,
    ((128, 0, 128, 2), (128, 128, 128, 8), (256, 256, 256, 12), (256, 512, 256, 4)),
    512,
    "516",
    1,
)
SMALL_R50 = Residual(8, (1, 1, 1, 1), (8, 8, 8, 8), "683", 1)
SMALL_MBF = Mobile(
    8, ((8, 0, 8, 1), (8, 8, 8, 1), (8, 16, 8, 1), (16, 16, 16, 1)), 64, "516", 1
)
