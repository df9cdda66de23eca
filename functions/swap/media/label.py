"""A few words in a corner of a picture, for people to see, and over no face."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import cv2

from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functions.swap.media.image import Image

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEIGHT_SHARE = 0.025  # of the shorter side: to be read, not to be in the way
_HEIGHT_MIN = 8  # pixels; smaller letters run together
_HEIGHT_UNIT = 22  # pixels of a capital of this font at scale 1
_PLATE = 0.45  # how much of the picture shows through behind the words
_STEPS = 12


def write_on(
    image: Image, text: str, *, avoid: Sequence[Sequence[float]] = ()
) -> tuple[int, int, int, int]:
    """Write `text`, in ASCII, into the picture; return where: x0, y0, x1, y1.

    The bottom corners come first, then the top ones, then anywhere along an edge.
    `avoid` are boxes (x0, y0, x1, y1), in pixels, that are not touched.

    Raises:
        InvalidRequest: there is no room for it outside the boxes.

    """
    height = max(_HEIGHT_MIN, round(min(image.width, image.height) * _HEIGHT_SHARE))
    scale, weight = height / _HEIGHT_UNIT, max(1, height // 10)
    (wide, high), below = cv2.getTextSize(text, _FONT, scale, weight)
    margin = high // 2
    size = (wide + 2 * margin, high + below + 2 * margin)
    for x, y in _places(image, size):
        box = (x, y, x + size[0], y + size[1])
        if not any(_touch(box, each) for each in avoid):
            _draw(image, box, text, (x + margin, y + margin + high), scale, weight)
            return box
    raise InvalidRequest("The picture has no room for a visible label off its faces.")


def _places(image: Image, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    right, bottom = image.width - size[0], image.height - size[1]
    if right < 0 or bottom < 0:
        return
    yield from ((x, y) for y, x in product((bottom, 0), (right, 0)))
    steps = [step / _STEPS for step in range(1, _STEPS)]
    for y in (bottom, 0):
        yield from ((round(right * step), y) for step in steps)
    for x in (right, 0):
        yield from ((x, round(bottom * step)) for step in steps)


def _touch(one: Sequence[float], other: Sequence[float]) -> bool:
    return (
        one[0] < other[2]
        and other[0] < one[2]
        and one[1] < other[3]
        and other[1] < one[3]
    )


def _draw(
    image: Image,
    box: tuple[int, int, int, int],
    text: str,
    at: tuple[int, int],
    scale: float,
    weight: int,
) -> None:
    """Darken the plate, and write in white on it; readable on any picture."""
    plate = image.pixels[box[1] : box[3], box[0] : box[2]]
    plate[:] = (plate * _PLATE).astype(plate.dtype)
    white = (255, 255, 255)
    cv2.putText(image.pixels, text, at, _FONT, scale, white, weight, cv2.LINE_AA)
    if image.alpha is not None:
        image.alpha[box[1] : box[3], box[0] : box[2]] = 255
