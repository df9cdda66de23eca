"""Finding faces: where they are, whatever their size and turn, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from functions.swap.engine import boxes
from functions.swap.engine.face import Face, uncertain
from functions.swap.media import Image
from tests.engine.composites import (
    PORTRAITS,
    Spot,
    draw,
    score,
    spots,
    texture,
    worsen,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from functions.swap.engine import MeshEngine


def faces_in(engine: MeshEngine, pixels: NDArray[np.uint8]) -> list[Face]:
    return engine.detect(Image(pixels, "png"))


def agree(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    others = np.array([other], np.float32)
    return float(boxes.overlap(np.array(one, np.float32), others)[0])


@pytest.mark.parametrize("name", PORTRAITS)
def test_a_portrait_shows_one_face(
    name: str, engine: MeshEngine, portrait: Callable[[str], Image]
) -> None:
    """Each sample shows one face, where it is, with its eyes left and right."""
    (face,) = engine.detect(portrait(name))
    assert agree(face.box, PORTRAITS[name]) > 0.75
    assert face.score > 0.9
    assert face.index == 0
    (left, level), (right, other) = face.landmarks[:2]
    assert right - left > 0.3 * face.size
    assert abs(level - other) < 0.1 * face.size


def test_faces_are_counted_from_the_largest(engine: MeshEngine) -> None:
    """Indices follow size, whatever the place."""
    picture = texture(np.random.default_rng(1), 900, 600, 2)
    for number, size in enumerate((60, 180, 110)):
        draw(picture, Spot("hopper", size, 0, 150 + 280 * number, 300))
    faces = faces_in(engine, picture)
    assert [round(face.size / 10) for face in faces] == pytest.approx(
        [18, 11, 6], abs=1
    )
    assert [face.index for face in faces] == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "recall_min"), [(24, 0.9), (32, 0.95), (48, 0.98), (150, 0.98)]
)
def test_recall_by_size(size: int, recall_min: float, engine: MeshEngine) -> None:
    """Recall stays what docs/detection.md states, over blur, noise, JPEG and dark."""
    random, hits, count = np.random.default_rng(size), 0, 0
    for number, how in enumerate(("clean", "blur", "noise", "jpeg40", "dark")):
        picture = texture(random, 1280, 960, number)
        wanted = spots(random, size, (0, 20, -45, 45, 30)[number])
        for spot in wanted:
            draw(picture, spot)
        hits += score(engine, worsen(random, picture, how), wanted)[0]
        count += len(wanted)
    assert hits / count >= recall_min


def test_texture_holds_no_faces(engine: MeshEngine) -> None:
    """Face-free texture gives at most one false box in ten megapixels."""
    random = np.random.default_rng(7)
    pictures = [texture(random, 1600, 1200, kind % 2) for kind in range(10)]
    found = sum(len(faces_in(engine, picture)) for picture in pictures)
    assert found <= 2  # of 19 megapixels


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_turned_picture_shows_the_same_face(
    quarter: int, engine: MeshEngine, portrait: Callable[[str], Image]
) -> None:
    """A photograph on its side or its head still has its face, and which way is up."""
    image = portrait("collins")
    turned = np.ascontiguousarray(np.rot90(image.pixels, quarter))
    (face,) = faces_in(engine, turned)
    x0, y0, x1, y1 = PORTRAITS["collins"]
    side = image.width
    expected = {
        1: (y0, side - x1, y1, side - x0),
        2: (side - x1, side - y1, side - x0, side - y0),
        3: (side - y1, x0, side - y0, x1),
    }[quarter]
    assert agree(face.box, expected) > 0.5


def test_a_face_that_fills_the_picture_is_found(
    engine: MeshEngine, portrait: Callable[[str], Image]
) -> None:
    """A close-up without a margin is a face too."""
    x0, y0, x1, y1 = PORTRAITS["hopper"]
    assert len(faces_in(engine, portrait("hopper").pixels[y0:y1, x0:x1].copy())) == 1


def test_a_film_leaves_small_faces_out(engine: MeshEngine) -> None:
    """Without `small`, only what is large beside the picture is looked for."""
    picture = texture(np.random.default_rng(3), 1280, 720, 2)
    draw(picture, Spot("hopper", 300, 0, 300, 360))
    draw(picture, Spot("collins", 32, 0, 1000, 360))
    image = Image(picture, "png")
    assert len(engine.detect(image)) == 2
    assert len(engine.detect(image, small=False)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (700, 3), (16, 16)])
def test_a_picture_of_any_shape_is_looked_at(
    shape: tuple[int, int], engine: MeshEngine
) -> None:
    """No shape is too small or too thin; there is just nobody in it."""
    assert faces_in(engine, np.full((*shape, 3), 90, np.uint8)) == []


def test_a_large_photograph_is_searched_in_tiles(
    engine: MeshEngine, portrait: Callable[[str], Image]
) -> None:
    """A face of 30 pixels in twelve megapixels is found."""
    picture = np.full((3000, 4000, 3), 100, np.uint8)
    small = cv2.resize(portrait("hopper").pixels, (77, 90), interpolation=3)
    picture[2000:2090, 3100:3177] = small
    (face,) = faces_in(engine, picture)
    assert 24 < face.size < 36
    assert 3100 < face.box[0] < 3177


def test_doubt_grows_as_the_score_falls() -> None:
    """A sure face is not padded for doubt, an unsure one fully."""
    assert [uncertain(score) for score in (0.4, 0.5, 0.7, 0.9, 1)] == pytest.approx(
        [1, 1, 0.5, 0, 0]
    )
