"""A picture in a detector's input: where it lies, and one pass or two over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine.arrays import Bytes, Floats, f32
from functions.swap.engine.detections import Detections, suppress
from functions.swap.engine.placement import Unfit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functions.swap.engine.runtime import Network

    Size = tuple[int, int]
    Reader = Callable[[Sequence[Floats], Size], Detections]
    """Outputs, and (height, width) of the input, to detections in the input's pixels.

    Their order is that of the outputs: `look` sorts.
    """

_SIDE, _STEP = 640, 32  # insightface's default; the coarsest cell that all share


@dataclass(frozen=True, slots=True)
class Passes:
    """How large a detector sees the picture: its longer side in pixels.

    `side` is for a network that takes any size, 0 for 640.  `coarse` is a second
    look, for a face so large that the first sees but a part of it; 0 leaves it out.
    With `parity` boxes go back to the picture as insightface 2.1 has it; see
    `Letterbox.fit`.
    """

    side: int = 0
    coarse: int = 0
    parity: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Letterbox:
    """A picture at the top left of a black canvas, the ratio of its sides kept.

    `canvas` is (height, width, 3) uint8 BGR; `scale` (2,) float32 is how many pixels
    of it a pixel of the picture takes, in x and in y.
    """

    canvas: Bytes
    scale: Floats

    @staticmethod
    def fit(pixels: Bytes, size: Size, side: int, *, parity: bool = False) -> Letterbox:
        """Fit a BGR picture (h, w, 3) into the first `side` pixels of a canvas.

        The shorter side is cut to whole pixels, as insightface 2.1 cuts it, so that
        the network sees the same; where insightface fails for want of a pixel there
        is one.  The two scales then differ a little.  Insightface takes that of the
        height for both, which shifts a face at the right edge of 6000 x 4000 by nine
        pixels; with `parity` so does this.
        """
        height, width = pixels.shape[:2]
        tall, wide = min(size[0], side), min(size[1], side)
        ratio = height / width
        if ratio > tall / wide:
            fitted = max(1, int(tall / ratio)), tall
        else:
            fitted = wide, max(1, int(wide * ratio))
        canvas = np.zeros((*size, 3), np.uint8)
        cv2.resize(pixels, fitted, dst=canvas[: fitted[1], : fitted[0]])
        x, y = fitted[0] / width, fitted[1] / height
        return Letterbox(canvas, f32((y if parity else x, y)))

    def back(self, found: Detections) -> Detections:
        """Return detections in the canvas as detections in the picture."""
        corners = found.boxes.reshape(-1, 2, 2) / self.scale
        boxes = f32(corners).reshape(-1, 4)
        return Detections(boxes, f32(found.points / self.scale), found.scores)


def size_of(network: Network, side: int) -> Size:
    """Return (height, width) of the input: the network's own, or else `side` square.

    Raises:
        Unfit: it is not one image of three channels made of whole cells.

    """
    expected, side = network.model.input, side or _SIDE
    match expected.shape:
        case (0 | 1, 3, own_height, own_width) if expected.layout == "nchw":
            height, width = own_height or side, own_width or side
        case _:
            raise Unfit(f"{network.model.name}: a detector takes (1, 3, h, w)")
    if height % _STEP or width % _STEP:
        raise Unfit(
            f"{network.model.name}: {height} x {width} is no multiple of {_STEP}"
        )
    return height, width


def look(
    network: Network, pixels: Bytes, read: Reader, passes: Passes, overlap_max: float
) -> Detections:
    """Return the faces in a picture (h, w, 3) BGR, in its pixels, best first.

    The candidates of both passes are suppressed together: a face that both see is
    the one whose score is better.  The coarse pass comes first, and of two equal
    scores the first wins; all of it as insightface 2.1 does.  A network of one size,
    to which insightface shows one pass only, sees the coarse one on the same canvas.

    Raises:
        Unfit: what the network gives is not what its contract says.

    """
    full = size_of(network, passes.side)
    views = [(full, max(full))]
    if 0 < passes.coarse < max(full):
        views.insert(0, (size_of(network, passes.coarse), passes.coarse))
    parts = []
    for size, side in views:
        box = Letterbox.fit(pixels, size, side, parity=passes.parity)
        outputs = network(network.image(box.canvas))
        parts.append(box.back(read(tuple(outputs.values()), size)))
    return suppress(Detections.join(parts), overlap_max)
