"""SCRFD (Guo et al. 2021): det_10g, det_2.5g, det_500m.

Widths and depths are those of insightface's `detection/scrfd/configs/scrfd`
(scrfd_10g_bnkps, scrfd_2.5g_bnkps, scrfd_500m_bnkps), batch normalisation folded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tools.standins.anchors import STRIDES, Tuning, heads
from tools.standins.graph import RELU, Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

NOMINAL = (1, 3, 640, 640)
"""The size that the declared outputs, [12800, 1] and so on, belong to."""


@dataclass(frozen=True, slots=True)
class Widths:
    """One network: backbone stages, neck and head.

    `separable` networks are MobileNets, whose stem is (first, second) of `stem`;
    the others are ResNets with the deep stem.
    """

    stem: tuple[int, ...]
    blocks: tuple[int, int, int, int]
    planes: tuple[int, int, int, int]
    neck: int
    head: int
    stacked: int
    separable: bool
    outputs: tuple[int, int, int]
    tuning: tuple[Tuning, Tuning, Tuning]


def build(name: str, widths: Widths) -> Graph:
    """Return the network called `name`.

    `outputs` of `widths` are the published numbers of the scores; those of the boxes
    and of the points lie three and six further on.
    """
    graph = Graph(name)
    x = graph.input("input.1", NOMINAL, "", "", "?", "?")
    levels = _neck(graph, _backbone(graph, x, widths), widths.neck)
    rows = [
        heads(graph, _tower(graph, level, widths), tuning, stride, _numbers(first))
        for level, tuning, stride, first in zip(
            levels, widths.tuning, STRIDES, widths.outputs, strict=True
        )
    ]
    for kind in zip(*rows, strict=True):
        for value in kind:
            graph.output(value)
    return graph


def _numbers(first: int) -> tuple[str, str, str]:
    return str(first), str(first + 3), str(first + 6)


def _backbone(graph: Graph, x: Value, widths: Widths) -> list[Value]:
    """Return the features at strides 8, 16 and 32."""
    x = graph.relu(graph.conv(x, widths.stem[0], stride=2, gain=4, centred=True))
    if widths.separable:
        x = _separable(graph, x, widths.stem[1])
    else:
        for channels in widths.stem[1:]:
            x = graph.relu(graph.conv(x, channels))
        x = graph.max_pool(x, 3, 2, 1)
    levels = []
    for stage, (count, planes) in enumerate(
        zip(widths.blocks, widths.planes, strict=True)
    ):
        for index in range(count):
            first = index == 0 and (widths.separable or stage > 0)
            block = _separable if widths.separable else _basic
            x = block(graph, x, planes, 2 if first else 1)
        levels.append(x)
    return levels[1:]


def _separable(graph: Graph, x: Value, channels: int, stride: int = 1) -> Value:
    x = graph.relu(graph.conv(x, x.channels, stride=stride, groups=x.channels))
    return graph.relu(graph.conv(x, channels, 1))


def _basic(graph: Graph, x: Value, channels: int, stride: int) -> Value:
    """Add a residual block whose shortcut averages before it is projected."""
    inner = graph.relu(graph.conv(x, channels, stride=stride))
    inner = graph.conv(inner, channels, gain=0.5 * RELU)
    if stride > 1:
        x = graph.average_pool(x, 2, 2)
    if x.channels != channels:
        x = graph.conv(x, channels, 1, gain=1)
    return graph.relu(graph.add(inner, x))


def _neck(graph: Graph, levels: list[Value], channels: int) -> list[Value]:
    """Add a path aggregation network (Liu et al. 2018): down, then up again."""
    sides = [graph.conv(level, channels, 1, gain=1) for level in levels]
    for index in (2, 1):
        larger = graph.double(sides[index], "nearest")
        sides[index - 1] = graph.add(sides[index - 1], larger)
    outs = [graph.conv(side, channels, gain=1) for side in sides]
    for index in (0, 1):
        smaller = graph.conv(outs[index], channels, stride=2, gain=1)
        outs[index + 1] = graph.add(outs[index + 1], smaller)
    return [outs[0], *(graph.conv(out, channels, gain=1) for out in outs[1:])]


def _tower(graph: Graph, x: Value, widths: Widths) -> Value:
    for _ in range(widths.stacked):
        if widths.separable:
            x = _separable(graph, x, widths.head)
        else:
            x = graph.relu(graph.conv(x, widths.head))
    return x


DET_10G = Widths(
    stem=(28, 28, 56),
    blocks=(3, 4, 2, 3),
    planes=(56, 88, 88, 224),
    neck=56,
    head=80,
    stacked=3,
    separable=False,
    outputs=(448, 471, 494),
    tuning=(Tuning(2.16, 8.96), Tuning(4.42, 5.83), Tuning(11.7, 0.94)),
)
DET_2_5G = Widths(
    stem=(12, 12, 24),
    blocks=(3, 5, 3, 2),
    planes=(24, 48, 48, 80),
    neck=24,
    head=64,
    stacked=2,
    separable=False,
    outputs=(446, 466, 486),
    tuning=(Tuning(1.13, 7.78), Tuning(3.38, 6.74), Tuning(2.27, 1.8)),
)
DET_500M = Widths(
    stem=(16, 16),
    blocks=(2, 3, 2, 6),
    planes=(40, 72, 152, 288),
    neck=16,
    head=64,
    stacked=2,
    separable=True,
    outputs=(443, 468, 493),
    tuning=(Tuning(0.202, 0.65), Tuning(0.262, 5.19), Tuning(0.392, 6.64)),
)
SMALL_10G = Widths(
    stem=(8, 8, 8),
    blocks=(1, 1, 1, 1),
    planes=(8, 8, 8, 16),
    neck=8,
    head=8,
    stacked=1,
    separable=False,
    outputs=(448, 471, 494),
    tuning=(Tuning(3.18, 3.65), Tuning(1.7, 8.18), Tuning(1.33, 2.34)),
)
SMALL_2_5G = replace(
    SMALL_10G,
    head=12,
    outputs=(446, 466, 486),
    tuning=(Tuning(0.515, 6.11), Tuning(0.702, 2.9), Tuning(0.8, 4.4)),
)
SMALL_500M = replace(
    SMALL_10G,
    stem=(8, 8),
    separable=True,
    outputs=(443, 468, 493),
    tuning=(Tuning(0.032, 10.75), Tuning(0.0348, 6.92), Tuning(0.0632, 1.49)),
)
