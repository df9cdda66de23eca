"""The content gate: vision transformers (Dosovitskiy et al. 2021) with a few labels.

Marqo's is timm's vit_tiny_patch16_384, Freepik's an EVA-02 of base size at 448 pixels,
here with the layers of a plain ViT of that size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.standins import layers
from tools.standins.graph import Graph


@dataclass(frozen=True, slots=True)
class Widths:
    """One classifier: side and patch in pixels, widths, and which label is the usual.

    `labels` is how many there are, and `safe` which of them an ordinary picture gets.
    """

    side: int
    patch: int
    features: int
    heads: int
    blocks: int
    labels: int
    safe: int


def build(name: str, widths: Widths) -> Graph:
    """Return the classifier: an image in, a logit for each label out."""
    graph = Graph(name, opset=17, ir_version=8)
    x = graph.input("input", (1, 3, widths.side, widths.side))
    features = widths.features
    x = graph.conv(x, features, widths.patch, widths.patch, pad=0, gain=1)
    count = (widths.side // widths.patch) ** 2
    x = graph.transpose(graph.reshape(x, 1, features, count), 0, 2, 1)
    token = graph.weight("cls_token", (1, 1, features), 1)
    x = graph.node("Concat", [token, x], (1, count + 1, features), axis=1)
    places = graph.weight("pos_embed", x.shape, 0.3)
    x = graph.node("Add", [x, places], x.shape)
    for _ in range(widths.blocks):
        x = layers.block(graph, x, widths.heads, 4)
    x = layers.norm(graph, x)
    zero = graph.integers([0])
    token_out = graph.node(
        "Slice", [x, zero, graph.integers([1]), graph.integers([1])], (1, 1, features)
    )
    x = graph.reshape(token_out, 1, features)
    usual = np.where(np.arange(widths.labels) == widths.safe, 3.0, -1.0)
    graph.output(graph.gemm(x, widths.labels, gain=0.2, bias=usual, name="output"))
    return graph


MARQO = Widths(384, 16, 192, 3, 12, labels=2, safe=1)
FREEPIK = Widths(448, 14, 768, 12, 12, labels=4, safe=0)
SMALL_MARQO = Widths(384, 16, 8, 2, 1, labels=2, safe=1)
SMALL_FREEPIK = Widths(448, 14, 8, 2, 1, labels=4, safe=0)
