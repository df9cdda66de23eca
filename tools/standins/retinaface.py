"""RetinaFace (Deng et al. 2019) on a ResNet-50, as insightface published it for MXNet.

Three levels of a feature pyramid, each with the context module of SSH, then for two
square anchors a cell: background and face (softmax), the classic box regression and
five points, both relative to the anchor.  The coarsest level comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.standins import resnet
from tools.standins.anchors import Tuning, points
from tools.standins.graph import Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

STRIDES = (32, 16, 8)
LEVEL = 1 / 48
"""Pixels come as they are, 0 to 255: what the stem must divide by."""


@dataclass(frozen=True, slots=True)
class Widths:
    """The backbone, the width of the pyramid, and how its heads were tuned."""

    backbone: resnet.Widths
    pyramid: int
    tuning: tuple[Tuning, Tuning, Tuning]


def build(name: str, widths: Widths) -> Graph:
    """Return the network: `data` in, nine outputs."""
    graph = Graph(name)
    x = graph.input("data", (1, 3, 640, 640), "", "", "height", "width")
    levels = resnet.stages(graph, x, widths.backbone, level=LEVEL)[1:]
    pyramid = _pyramid(graph, levels, widths.pyramid)
    for stride, level, tuning in zip(
        STRIDES, reversed(pyramid), widths.tuning, strict=True
    ):
        for value in _heads(graph, _context(graph, level), tuning, stride):
            graph.output(value, "", "", f"height/{stride}", f"width/{stride}")
    return graph


def _pyramid(graph: Graph, levels: list[Value], channels: int) -> list[Value]:
    sides = [graph.relu(graph.conv(level, channels, 1)) for level in levels]
    for index in (1, 0):
        larger = graph.double(sides[index + 1], "nearest")
        sides[index] = graph.conv(graph.add(sides[index], larger), channels, gain=1)
        sides[index] = graph.relu(sides[index])
    return sides


def _context(graph: Graph, x: Value) -> Value:
    """Look 3, 5 and 7 pixels wide (Najibi et al. 2017)."""
    quarter = x.channels // 4
    near = graph.conv(x, 2 * quarter)
    middle = graph.relu(graph.conv(x, quarter))
    far = graph.relu(graph.conv(middle, quarter))
    sides = [near, graph.conv(middle, quarter), graph.conv(far, quarter)]
    return graph.relu(graph.concat(*sides))


def _heads(
    graph: Graph, x: Value, tuning: Tuning, stride: int
) -> tuple[Value, Value, Value]:
    unit = 1 / tuning.level
    end = f"stride{stride}"
    height, width = x.shape[2:]
    rare = np.repeat([0, -1.5 * tuning.rare], 2)
    score = graph.conv(x, 4, 1, gain=1.5 * unit, bias=rare, centred=True)
    pairs = graph.reshape(score, 0, 2, -1, 0, known=(1, 2, 2 * height, width))
    # Softmax of opset 11 flattens: what it compares must stand last.
    pairs = graph.transpose(pairs, 0, 2, 3, 1)
    pairs = graph.node("Softmax", [pairs], pairs.shape, axis=3)
    probability = graph.reshape(
        graph.transpose(pairs, 0, 3, 1, 2),
        *(0, 4, -1, 0),
        known=score.shape,
        name=f"face_rpn_cls_prob_reshape_{end}",
    )
    box = graph.conv(x, 8, 1, gain=0.05 * unit, name=f"face_rpn_bbox_pred_{end}")
    place = graph.conv(
        x,
        20,
        1,
        gain=0.02 * unit,
        bias=np.tile(points(0.5).ravel(), 2),
        name=f"face_rpn_landmark_pred_{end}",
    )
    return probability, box, place


RESNET_50 = Widths(
    resnet.R50, 256, (Tuning(5.12, 4.19), Tuning(10.4, 2.76), Tuning(7.12, 6.48))
)
SMALL = Widths(
    resnet.SMALL, 8, (Tuning(0.359, 4.17), Tuning(0.695, 6.51), Tuning(1.04, 10.15))
)
