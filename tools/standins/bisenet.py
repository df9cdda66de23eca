"""BiSeNet (Yu et al. 2018) for 19 parts of a face, on ResNet-18 and ResNet-34.

Layers are those of yakhyo's `face-parsing`: the spatial path is the ResNet's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tools.standins import resnet
from tools.standins.graph import Graph

if TYPE_CHECKING:
    from tools.standins.graph import Value

CLASSES = 19
SKIN = 1


@dataclass(frozen=True, slots=True)
class Widths:
    """The backbone, how wide context and fused features are, the last layer's gain."""

    backbone: resnet.Widths
    context: int
    fused: int
    gain: float


def build(name: str, widths: Widths) -> Graph:
    """Return the parser: an aligned face of 512 pixels in, 19 images of it out."""
    graph = Graph(name)
    x = graph.input("input", (1, 3, 512, 512))
    _, eighth, sixteenth, last = resnet.stages(graph, x, widths.backbone)
    context = _context(graph, sixteenth, last, widths.context)
    fused = _fuse(graph, eighth, context, widths.fused)
    x = graph.relu(graph.conv(fused, widths.fused))
    # Mostly skin, so that a mask made of it covers a face.
    bias = np.where(np.arange(CLASSES) == SKIN, 3.0, 0.0)
    x = graph.conv(x, CLASSES, 1, gain=widths.gain, bias=bias)
    graph.output(graph.resize(x, 8, "align_corners", name="output"))
    return graph


def _context(graph: Graph, sixteenth: Value, last: Value, channels: int) -> Value:
    overall = graph.relu(graph.conv(graph.global_pool(last), channels, 1))
    x = graph.add(_refined(graph, last, channels), overall)
    x = graph.relu(graph.conv(graph.double(x, "nearest"), channels))
    x = graph.add(_refined(graph, sixteenth, channels), x)
    return graph.relu(graph.conv(graph.double(x, "nearest"), channels))


def _refined(graph: Graph, x: Value, channels: int) -> Value:
    """Weigh each channel by what the whole image says of it."""
    x = graph.relu(graph.conv(x, channels))
    weight = graph.conv(graph.global_pool(x), channels, 1, gain=1)
    weight = graph.node("Sigmoid", [weight], weight.shape)
    return graph.node("Mul", [x, weight], x.shape)


def _fuse(graph: Graph, spatial: Value, context: Value, channels: int) -> Value:
    x = graph.relu(graph.conv(graph.concat(spatial, context), channels, 1))
    weight = graph.relu(graph.conv(graph.global_pool(x), channels // 4, 1))
    weight = graph.conv(weight, channels, 1, gain=1)
    weight = graph.node("Sigmoid", [weight], weight.shape)
    return graph.add(graph.node("Mul", [x, weight], x.shape), x)


RESNET_18 = Widths(resnet.R18, 128, 256, 0.2)
RESNET_34 = Widths(resnet.R34, 128, 256, 0.1)
SMALL = Widths(resnet.SMALL, 8, 8, 1)
