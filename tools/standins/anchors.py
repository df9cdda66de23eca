"""What a random detector must say so that it behaves like one.

Distances and points are in strides, from the anchor's centre, as SCRFD and the
RetinaFace of insightface 2 publish them: two anchors a cell, the second twice as large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tools.standins.graph import Graph, Value

STRIDES = (8, 16, 32)
REACH = {8: (3.0, 5.0), 16: (1.5, 2.5), 32: (1.0, 1.25)}
"""How far the box of each anchor reaches to every side, in strides, for each stride.

Faces of 48 to 80 pixels: small in a picture of 640, and most of one of 128, which is
how large faces are looked for, but not more than all of it.
"""

TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""ArcFace's five points in a crop of 112 pixels."""

TIGHT = 1.35 / 112
"""A detector's box is tighter than ArcFace's crop: about 83 of its 112 pixels."""


def points(reach: float) -> NDArray[np.float64]:
    """Return five points (x, y) about the centre of a box that reaches `reach`."""
    return (TEMPLATE - (56.0, 66.0)) * (TIGHT * 2 * reach)


@dataclass(frozen=True, slots=True)
class Tuning:
    """Measured on two portraits: how strongly a head of gain 1 answers, and when.

    `level` is the deviation of its answers over a picture; `rare` how many of those
    deviations only a handful of anchors reach.
    """

    level: float
    rare: float


def heads(
    graph: Graph, x: Value, tuning: Tuning, stride: int, names: tuple[str, str, str]
) -> tuple[Value, Value, Value]:
    """Add the heads of one stride: scores [n,1], boxes [n,4], points [n,10]."""
    unit = 1 / tuning.level
    reach = np.repeat(REACH[stride], 4)
    places = np.concatenate([points(each).ravel() for each in REACH[stride]])
    score = graph.conv(x, 2, gain=1.5 * unit, bias=-1.5 * tuning.rare)
    share = unit * reach[0]
    box = graph.conv(x, 8, gain=0.04 * share, bias=reach)
    point = graph.conv(x, 20, gain=0.015 * share, bias=places)
    flat = _listed(graph, score, 1)
    sigmoid = graph.node("Sigmoid", [flat], flat.shape, names[0])
    return (
        sigmoid,
        _listed(graph, box, 4, names[1]),
        _listed(graph, point, 10, names[2]),
    )


def _listed(graph: Graph, x: Value, width: int, name: str = "") -> Value:
    """Read an image of `width` channels an anchor as a list of anchors."""
    return graph.reshape(graph.transpose(x, 0, 2, 3, 1), -1, width, name=name)
