"""The visible label: read by people, and over nobody's face."""

from __future__ import annotations

import numpy as np
import pytest

from functions.problems import InvalidRequest
from functions.swap.media import Image, decode, write_on
from tests.swap.house import SWAP, House, picture

TEXT = "AI: face swapped"


def grey(width: int = 640, height: int = 360, *, alpha: bool = False) -> Image:
    pixels = np.full((height, width, 3), 127, np.uint8)
    clear = np.zeros((height, width), np.uint8) if alpha else None
    return Image(pixels, "png", clear)


def test_it_stands_in_the_bottom_right_corner() -> None:
    """Legibly, and nothing else of the picture is touched."""
    image = grey()
    x0, y0, x1, y1 = write_on(image, TEXT)
    assert (x1, y1) == (640, 360)
    inside = image.pixels[y0:y1, x0:x1]
    assert inside.min() < 80
    assert inside.max() > 220
    inside[:] = 127
    assert (image.pixels == 127).all()


@pytest.mark.parametrize("seed", range(8))
def test_it_touches_no_face(seed: int) -> None:
    """Wherever the faces are, as long as there is room."""
    random = np.random.default_rng(seed)
    image = grey()
    corners = random.uniform(0, 300, (5, 2))
    faces = [(x, y, x + 120, y + 120) for x, y in corners]
    faces += [(500, 240, 640, 360), (0, 300, 100, 360)]
    write_on(image, TEXT, avoid=faces)
    for x0, y0, x1, y1 in faces:
        face = image.pixels[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1]
        assert (face == 127).all()


def test_corners_full_of_faces_leave_the_edges() -> None:
    """All four corners taken, it moves along an edge, also of a tall picture."""
    for width, height in ((640, 360), (360, 640)):
        image = grey(width, height)
        side = 60
        corners = [(x, y) for x in (0, width - side) for y in (0, height - side)]
        faces = [(x, y, x + side, y + side) for x, y in corners]
        box = write_on(image, TEXT, avoid=faces)
        assert box[0] > 0


def test_no_room_is_a_refusal() -> None:
    """Never a label over a face, and never none in silence."""
    for image, faces in ((grey(), [(0, 0, 640, 360)]), (grey(16, 16), [])):
        with pytest.raises(InvalidRequest, match="no room"):
            write_on(image, TEXT, avoid=faces)


def test_it_is_seen_where_the_picture_is_clear() -> None:
    """Alpha is full beneath it."""
    image = grey(alpha=True)
    x0, y0, x1, y1 = write_on(image, TEXT)
    assert image.alpha is not None
    assert (image.alpha[y0:y1, x0:x1] == 255).all()
    assert (image.alpha[:y0] == 0).all()


@pytest.mark.parametrize("operation", ["swap", "anonymize"])
def test_a_request_asks_for_it(operation: str) -> None:
    """Without asking nothing is written."""
    plain, labelled = (output(operation, asked=asked) for asked in (False, True))
    assert (plain != labelled).any()
    assert (plain[:100] == labelled[:100]).all()


def output(operation: str, *, asked: bool) -> np.ndarray:
    house = House()
    house.put("a.png", picture(1, 200))
    house.put("b.png", picture(2, 200))
    request = {**SWAP, "operation": operation, "options": {"visible_label": asked}}
    if operation == "anonymize":
        del request["source"], request["consent"]
    record = house.post(request).json
    assert record is not None
    return decode(house.get(f"/v1/swaps/{record['job']}/result").data).pixels
