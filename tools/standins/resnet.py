"""ResNets (He et al. 2016), normalisation folded: the backbone of several models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.standins.graph import RELU

if TYPE_CHECKING:
    from tools.standins.graph import Graph, Value

EXPANSION = 4
"""How much wider a bottleneck's end is than its waist."""


@dataclass(frozen=True, slots=True)
class Widths:
    """The first width, and how many blocks of which width each stage has."""

    stem: int
    blocks: tuple[int, int, int, int]
    planes: tuple[int, int, int, int]
    bottleneck: bool = False


def stages(
    graph: Graph, x: Value, widths: Widths, *, level: float = 1.0
) -> list[Value]:
    """Return features at strides 4, 8, 16 and 32 of an image of deviation 1/level."""
    x = graph.conv(x, widths.stem, 7, 2, gain=3 * level, centred=True)
    x = graph.max_pool(graph.relu(x), 3, 2, 1)
    levels = []
    for stage, (count, planes) in enumerate(
        zip(widths.blocks, widths.planes, strict=True)
    ):
        block = _bottleneck if widths.bottleneck else _basic
        for index in range(count):
            x = block(graph, x, planes, 2 if stage and not index else 1)
        levels.append(x)
    return levels


def _basic(graph: Graph, x: Value, channels: int, stride: int) -> Value:
    inner = graph.relu(graph.conv(x, channels, stride=stride))
    inner = graph.conv(inner, channels, gain=0.5 * RELU)
    return _joined(graph, inner, x, stride)


def _bottleneck(graph: Graph, x: Value, channels: int, stride: int) -> Value:
    inner = graph.relu(graph.conv(x, channels, 1))
    inner = graph.relu(graph.conv(inner, channels, stride=stride))
    inner = graph.conv(inner, EXPANSION * channels, 1, gain=0.5 * RELU)
    return _joined(graph, inner, x, stride)


def _joined(graph: Graph, inner: Value, x: Value, stride: int) -> Value:
    if stride > 1 or x.channels != inner.channels:
        x = graph.conv(x, inner.channels, 1, stride, gain=1)
    return graph.relu(graph.add(inner, x))


R18 = Widths(64, (2, 2, 2, 2), (64, 128, 256, 512))
R34 = Widths(64, (3, 4, 6, 3), (64, 128, 256, 512))
R50 = Widths(64, (3, 4, 6, 3), (64, 128, 256, 512), bottleneck=True)
SMALL = Widths(8, (1, 1, 1, 1), (8, 8, 16, 16))
