"""YuNet (Wu et al. 2023), as OpenCV publishes it: 2023mar, in pictures of 640x640.

Layers are those of libfacedetection.train's `configs/yunet_s.py`, which is what gives
the size of the published file: pointwise and depthwise convolutions only, one anchor a
cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.standins.anchors import STRIDES, Tuning, points
from tools.standins.graph import RELU, Graph

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from tools.standins.graph import Value

LEVEL = 1 / 48
"""Pixels come as they are, 0 to 255: what the stem must divide by."""

SIDES = {8: 8.0, 16: 4.5, 32: 2.5}
"""How large a box is, in strides, for each stride."""


@dataclass(frozen=True, slots=True)
class Widths:
    """The first and second width, that of all others, and how the heads were tuned."""

    stem: int
    second: int
    planes: int
    tuning: tuple[Tuning, Tuning, Tuning]


def build(name: str, widths: Widths) -> Graph:
    """Return the detector: BGR pixels in, twelve outputs."""
    graph = Graph(name)
    x = graph.input("input", (1, 3, 640, 640))
    levels = _neck(graph, _backbone(graph, x, widths))
    rows = [
        _heads(graph, level, tuning, stride)
        for level, tuning, stride in zip(levels, widths.tuning, STRIDES, strict=True)
    ]
    for kind in zip(*rows, strict=True):
        for value in kind:
            graph.output(value)
    return graph


def _backbone(graph: Graph, x: Value, widths: Widths) -> list[Value]:
    x = graph.conv(x, widths.stem, stride=2, gain=4 * LEVEL, centred=True)
    x = graph.max_pool(_unit(graph, graph.relu(x), widths.stem), 2, 2)
    x = _pair(graph, x, widths.second)
    x = graph.max_pool(_pair(graph, x, widths.planes), 2, 2)
    levels = [_pair(graph, x, widths.planes)]
    for _ in STRIDES[1:]:
        x = graph.max_pool(levels[-1], 2, 2)
        levels.append(_pair(graph, x, widths.planes))
    return levels


def _pair(graph: Graph, x: Value, channels: int) -> Value:
    return _unit(graph, _unit(graph, x, x.channels), channels)


def _unit(graph: Graph, x: Value, channels: int) -> Value:
    x = graph.conv(x, channels, 1, gain=1)
    return graph.relu(graph.conv(x, channels, groups=channels))


def _neck(graph: Graph, levels: list[Value]) -> list[Value]:
    sides = list(levels)
    for index in (2, 1):
        sides[index] = _unit(graph, sides[index], sides[index].channels)
        larger = graph.double(sides[index], "nearest")
        sides[index - 1] = graph.add(sides[index - 1], larger)
    sides[0] = _unit(graph, sides[0], sides[0].channels)
    return sides


def _heads(graph: Graph, x: Value, tuning: Tuning, stride: int) -> list[Value]:
    """Add a pointwise and a depthwise layer for each output.

    A face is `cls` where it is sure of; `obj` agrees everywhere.  A centre is in
    strides from the cell, a side in logarithms of strides, points as the centre.
    """
    unit = 1 / tuning.level
    side = SIDES[stride]
    box = [0.5, 0.5, np.log(side), np.log(side)]
    rows: tuple[tuple[str, int, float, ArrayLike], ...] = (
        ("cls", 1, 1.5 * unit, -1.5 * tuning.rare),
        ("obj", 1, 0.1 * unit, 4.0),
        ("bbox", 4, 0.02 * unit, box),
        ("kps", 10, 0.05 * unit, (points(side / 2) + 0.5).ravel()),
    )
    return [
        _head(graph, x, f"{kind}_{stride}", width, gain, bias)
        for kind, width, gain, bias in rows
    ]


def _head(
    graph: Graph, x: Value, name: str, width: int, gain: float, bias: ArrayLike
) -> Value:
    x = graph.conv(x, width, 1, gain=RELU)
    x = graph.conv(x, width, groups=width, gain=gain, bias=bias)
    x = graph.transpose(x, 0, 2, 3, 1)
    if name.startswith(("cls", "obj")):
        x = graph.reshape(x, 1, -1, width)
        return graph.node("Sigmoid", [x], x.shape, name)
    return graph.reshape(x, 1, -1, width, name=name)


YUNET_S = Widths(
    16, 32, 64, (Tuning(1.15, 2.5), Tuning(2.47, 6.13), Tuning(0.886, 2.9))
)
SMALL = Widths(8, 8, 8, (Tuning(0.229, 12.22), Tuning(0.171, 9.7), Tuning(0.0431, 2.8)))
