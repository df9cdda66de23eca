"""Telling skin from what lies before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from functions.swap.engine import skin
from functions.swap.engine.atlas import HALF, SIDE, atlas, visible
from functions.swap.engine.facemesh import window_of
from functions.swap.engine.identity import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from functions.swap.engine import MeshEngine
    from functions.swap.media import Image


def read(engine: MeshEngine, image: Image, pixels: NDArray[np.uint8]) -> skin.Skin:
    """Read the skin of `image`'s face in `pixels` of the same size."""
    face = engine.detect(image)[0]
    window = window_of(face.corners, face.points)
    points = engine._detector.mesh(image.pixels, window).points
    return skin.read(flatten(pixels, points, SIDE), visible(points))


@pytest.mark.parametrize("light", [1.0, 0.5, 0.25])
@pytest.mark.parametrize(("name", "wears"), [("hopper", True), ("collins", False)])
def test_glasses_are_seen_on_who_wears_them(
    name: str,
    wears: bool,  # noqa: FBT001 - a parameter of the test
    light: float,
    engine: MeshEngine,
    portrait: Callable[[str], Image],
) -> None:
    """Glasses are told by what crosses the bridge of the nose, in any light."""
    image = portrait(name)
    darker = (image.pixels * light).astype(np.uint8)
    assert read(engine, image, darker).glasses is wears


def test_frames_too_small_to_resolve_cover_the_lenses(
    engine: MeshEngine, portrait: Callable[[str], Image]
) -> None:
    """When frames cannot be told apart, all that they may cover stays."""
    image = portrait("hopper")
    blurred = cv2.GaussianBlur(image.pixels, (0, 0), 5)
    found = read(engine, image, np.asarray(blurred, np.uint8))
    assert found.glasses
    assert not found.resolved
    assert np.array_equal(found.frames, atlas().lenses)


def test_a_fringe_is_not_forehead(
    engine: MeshEngine, portrait: Callable[[str], Image]
) -> None:
    """From the first hair upwards nothing is skin; between the brows it is."""
    image = portrait("collins")
    free = read(engine, image, image.pixels).open
    middle = HALF // 2
    assert free[atlas().brow, middle] > 0.8
    assert free[atlas().brow - 22, middle - 8 : middle + 8].max() < 0.5


def test_an_even_face_has_no_lips_and_nothing_else_in_front() -> None:
    """A plain texture is all skin, down to where lips should be."""
    plain = np.full((SIDE, SIDE, 3), (120, 150, 200), np.uint8)
    found = skin.read(plain, np.ones((HALF, HALF), np.float32))
    assert found.open[: atlas().nose].min() > 0.99
    assert found.open[atlas().nose + 16 :].max() == 0
    assert not found.glasses


def test_a_face_that_is_not_seen_is_no_fault() -> None:
    """With nothing visible there is nothing to measure, and nothing fails."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    found = skin.read(noise, np.zeros((HALF, HALF), np.float32))
    assert np.isfinite(found.difference).all()
