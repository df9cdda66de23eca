"""What is kept of a source face, several sources as one, and likeness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from functions.swap.engine.arrays import f32
from functions.swap.engine.atlas import HALF
from functions.swap.engine.identity import Identity, _mirrored
from functions.swap.engine.likeness import ALIKE_MIN
from functions.swap.media import Image, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from functions.swap.engine import MeshEngine

    Read = Callable[[str], Image]

VARIANTS = ("small", "blurred", "dark", "jpeg", "turned", "mirrored")


def varied(image: Image, how: str) -> Image:
    pixels = image.pixels
    turn = cv2.getRotationMatrix2D((256, 256), 20, 1)
    ways: dict[str, Callable[[], NDArray[np.generic]]] = {
        "small": lambda: cv2.resize(pixels, None, fx=0.4, fy=0.4, interpolation=3),
        "blurred": lambda: cv2.GaussianBlur(pixels, (0, 0), 2),
        "dark": lambda: pixels * 0.4,
        "jpeg": lambda: decode(encode(image, "jpeg", 30)).pixels,
        "turned": lambda: cv2.warpAffine(pixels, turn, (512, 600)),
        "mirrored": lambda: pixels[:, ::-1],
    }
    return Image(np.ascontiguousarray(ways[how](), np.uint8), "png")


def who(engine: MeshEngine, image: Image) -> Identity:
    return engine.identity(image, engine.detect(image)[0])


def plain(level: int, trust: float, scale: float) -> Identity:
    """Return an identity of one colour."""
    texture = np.full((HALF, HALF, 3), level, np.uint8)
    none = np.zeros((256, 256), np.float32)
    area = np.full((HALF, HALF), trust, np.float32)
    shape = np.random.default_rng(0).normal(size=(468, 3))
    return Identity((texture,), area, none, scale, f32(shape))


def test_one_source_merged_is_itself(engine: MeshEngine) -> None:
    """Merging one picture gives that picture."""
    one = plain(100, 1, 200)
    assert engine.merge([one]) is one


def test_a_merge_believes_whom_it_can_trust(engine: MeshEngine) -> None:
    """Where one source is hidden, the other counts; a larger one counts more."""
    seen = engine.merge([plain(200, 1, 200), plain(0, 0, 200)])
    assert seen.flat.mean() > 195
    larger = engine.merge([plain(200, 1, 300), plain(100, 1, 100)])
    assert 185 < larger.flat.mean() < 195
    assert larger.scale == 300


def test_a_merge_of_one_person_is_that_person(
    engine: MeshEngine, portrait: Read
) -> None:
    """Two pictures of one face merged are still alike to each."""
    one, other = (
        who(engine, varied(portrait("hopper"), how)) for how in ("jpeg", "dark")
    )
    merged = engine.merge([one, other])
    assert engine.alike(engine.similarity(merged, one))
    assert engine.alike(engine.similarity(merged, other))


@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_a_face_is_alike_to_itself_and_not_to_another(
    name: str, engine: MeshEngine, portrait: Read
) -> None:
    """Small, blurred, dark, turned or mirrored: the same face is alike, others not."""
    other = who(engine, portrait({"collins": "hopper", "hopper": "collins"}[name]))
    same = who(engine, portrait(name))
    for how in VARIANTS:
        seen = who(engine, varied(portrait(name), how))
        assert engine.similarity(same, seen) > ALIKE_MIN, how
        assert engine.similarity(other, seen) < ALIKE_MIN, how


def test_faces_that_show_nothing_in_common_are_not_alike(engine: MeshEngine) -> None:
    """Without enough that both show there is no likeness to state."""
    assert engine.similarity(plain(100, 0.001, 200), plain(100, 1, 200)) == 0


def test_the_side_turned_away_is_filled_from_the_other() -> None:
    """What is not seen takes its mirror image, and the trust in it."""
    texture = np.zeros((HALF, HALF, 3), np.uint8)
    texture[:, : HALF // 2] = 200
    seen = np.zeros((HALF, HALF), np.float32)
    seen[:, : HALF // 2] = 1
    filled, trust = _mirrored(texture, seen.copy(), seen)
    assert filled[:, HALF // 2 :].min() >= 199
    assert trust.min() == 1


def test_a_frontal_face_is_left_as_it_is() -> None:
    """Where both sides are seen nothing is filled in."""
    texture = np.random.default_rng(0).integers(0, 256, (HALF, HALF, 3), np.uint8)
    seen = np.ones((HALF, HALF), np.float32)
    assert _mirrored(texture, seen, seen)[0] is texture


def test_glasses_that_are_a_smear_are_left_away(
    engine: MeshEngine, portrait: Read
) -> None:
    """A source too small for its frames to be told apart comes without them."""
    tiny = cv2.resize(portrait("hopper").pixels, None, fx=0.2, fy=0.2, interpolation=3)
    source = who(engine, Image(np.asarray(tiny, np.uint8), "png"))
    assert source.frames.max() == 0
    assert source.trust[HALF // 2 - 12, HALF // 2 - 20] < 0.2
