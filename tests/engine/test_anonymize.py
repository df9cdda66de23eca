"""Covering a face: all of it, for good, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.swap.engine import anonymize
from functions.swap.engine.anonymize import Method
from functions.swap.engine.boxes import overlap
from functions.swap.engine.face import Face
from functions.swap.media import Image, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from functions.swap.engine import MeshEngine

    Read = Callable[[str], Image]
    Attack = Callable[[NDArray[np.uint8]], NDArray[np.generic]]

METHODS: tuple[Method, ...] = get_args(Method)
ATTACKS: dict[str, Attack] = {
    "nothing": lambda p: p,
    "sharpened": lambda p: cv2.addWeighted(p, 3, cv2.GaussianBlur(p, (0, 0), 8), -2, 0),
    "reduced": lambda p: cv2.resize(p, None, fx=0.25, fy=0.25, interpolation=3),
    "enlarged": lambda p: cv2.resize(p, None, fx=2, fy=2, interpolation=2),
    "equalised": lambda p: cv2.merge([cv2.equalizeHist(c) for c in cv2.split(p)]),
}


def face_at(x: float, y: float, size: float, score: float = 1.0) -> Face:
    """Return a level face with its middle at x, y."""
    half = size / 2
    eyes = ((x - size / 5, y - size / 6), (x + size / 5, y - size / 6))
    return Face(
        (x - half, y - half, x + half, y + half), score, (*eyes, *eyes, *eyes), 0
    )


def noise(seed: int = 0, side: int = 300) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def covered(image: Image, face: Face) -> tuple[slice, slice]:
    x0, y0, x1, y1 = (max(0, round(value)) for value in face.box)
    return slice(y0, y1), slice(x0, x1)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_the_re_detection_attack_finds_nothing(
    name: str, method: Method, attack: str, engine: MeshEngine, portrait: Read
) -> None:
    """Sharpened, reduced, enlarged or equalised, no face is found where one was."""
    image = portrait(name)
    face = engine.detect(image)[0]
    engine.cover(image, face, method)
    attacked = np.asarray(np.clip(ATTACKS[attack](image.pixels), 0, 255), np.uint8)
    scale = attacked.shape[1] / image.width
    for seen in engine.detect(Image(np.ascontiguousarray(attacked), "png")):
        assert overlap(face.corners * np.float32(scale), seen.corners[np.newaxis]) < 0.2


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 1000), shift=st.integers(0, 3))
def test_different_faces_of_the_same_cells_are_covered_the_same(
    method: Method, seed: int, shift: int
) -> None:
    """What is drawn depends on a few averages alone: the detail is gone, not small.

    Two pictures whose cells have equal averages come out the same inside, but for
    one step of rounding, so nothing of the pattern they differ by is left.
    """
    face = face_at(150, 150, 120)
    x0, y0, x1, y1 = (round(value) for value in anonymize.region(face))
    flat = np.full((300, 300, 3), 128, np.uint8)
    dots = np.random.default_rng(seed).integers(0, 2, (150, 150, 3)) * 80
    chequer = np.kron(dots, np.array([[1, -1], [-1, 1]])[..., np.newaxis])
    busy = (flat + np.roll(chequer, shift, axis=0)).astype(np.uint8)
    outside = np.ones((300, 300), bool)
    outside[y0 - 20 : y1 + 20, x0 - 20 : x1 + 20] = False
    busy[outside] = 128
    results = [flat.copy(), busy.copy()]
    for pixels in results:
        anonymize.cover(pixels, face, method)
    inside = covered(Image(flat, "png"), face)
    apart = np.abs(results[0][inside].astype(int) - results[1][inside])
    assert apart.max() <= 16  # one step of the rounding, where an average lies between


@pytest.mark.parametrize("method", METHODS)
def test_averaging_over_frames_learns_nothing(method: Method) -> None:
    """A hundred noisy frames averaged are no closer to the face than one."""
    original, face = noise(3), face_at(150, 150, 120)
    soft = np.asarray(cv2.GaussianBlur(original, (0, 0), 3), np.uint8)
    random = np.random.default_rng(4)
    frames = []
    for _ in range(100):
        frame = np.clip(soft + random.normal(0, 6, soft.shape), 0, 255).astype(np.uint8)
        anonymize.cover(frame, face, method)
        frames.append(frame)
    place = covered(Image(soft, "png"), face)
    truth = soft[place].astype(float)
    detail = truth - cv2.GaussianBlur(truth, (0, 0), 15)

    def learnt(picture: NDArray[np.generic]) -> float:
        shown = np.asarray(picture[place], float)
        shown = shown - cv2.GaussianBlur(shown, (0, 0), 15)
        if shown.std() < 1e-9:
            return 0.0
        return float(abs(np.corrcoef(detail.ravel(), shown.ravel())[0, 1]))

    assert learnt(np.mean(frames, axis=0)) < 0.12


@pytest.mark.parametrize("method", METHODS)
def test_likeness_does_not_survive(
    method: Method, engine: MeshEngine, portrait: Read
) -> None:
    """Told where the face was, its likeness to the covered picture is chance."""
    for name in ("collins", "hopper"):
        image = portrait(name)
        face = engine.detect(image)[0]
        before = engine.identity(image, face)
        engine.cover(image, face, method)
        assert not engine.alike(engine.similarity(before, engine.identity(image, face)))


@pytest.mark.parametrize("method", METHODS)
def test_all_of_the_face_is_covered_and_little_else(method: Method) -> None:
    """The box and a margin are changed; far away not a bit is."""
    pixels, before = noise(), noise()
    face = face_at(150, 150, 80)
    anonymize.cover(pixels, face, method)
    changed = (pixels != before).any(axis=-1)
    assert changed[covered(Image(pixels, "png"), face)].mean() > 0.98
    assert not changed[:80].any()
    assert not changed[:, 220:].any()


def test_doubt_makes_the_cover_larger() -> None:
    """An unsure detection is padded more than a sure one."""
    sure, unsure = (anonymize.region(face_at(0, 0, 100, s)) for s in (0.95, 0.5))
    assert unsure[2] - sure[2] == pytest.approx(25)


def test_a_leaning_head_gets_a_larger_box() -> None:
    """The upright box around a head that leans by 45 degrees is 1.4 times wider."""
    face = face_at(0, 0, 100)
    leaning = replace(face, landmarks=((-10.0, -10.0), (10.0, 10.0)) * 3)
    level, wide = anonymize.region(face)[2], anonymize.region(leaning)[2]
    assert wide - level == pytest.approx(50 * (2**0.5 - 1), rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", [(0, 0), (299, 150), (150, 310), (-200, -200)])
def test_a_face_at_the_edge_is_covered_as_far_as_it_is_there(
    method: Method, place: tuple[int, int]
) -> None:
    """A box beyond the picture is clipped, and one wholly outside is nothing."""
    pixels, before = noise(), noise()
    anonymize.cover(pixels, face_at(*place, 60), method)
    assert np.array_equal(pixels, before) is (place == (-200, -200))


@pytest.mark.parametrize("method", METHODS)
def test_a_tiny_face_is_covered_too(method: Method) -> None:
    """Sixteen pixels are one average or a few, as anything else."""
    pixels, before = noise(), noise()
    anonymize.cover(pixels, face_at(150, 150, 16), method)
    assert (pixels[144:156, 144:156] != before[144:156, 144:156]).mean() > 0.9


def test_the_box_is_made_from_nothing_in_the_picture() -> None:
    """Over all that must be covered, two pictures come out the same to the bit."""
    face, results = face_at(150, 150, 80), [noise(1), noise(2)]
    for pixels in results:
        anonymize.cover(pixels, face, "box")
    x0, y0, x1, y1 = (round(value) for value in anonymize.region(face))
    assert np.array_equal(results[0][y0:y1, x0:x1], results[1][y0:y1, x0:x1])


def test_the_mosaic_is_tiles_and_the_blur_is_smooth() -> None:
    """Neighbours are mostly equal in the mosaic, and never far apart in the blur."""
    steps = {}
    for method in METHODS[:2]:
        pixels, face = noise(), face_at(150, 150, 200)
        anonymize.cover(pixels, face, method)
        inside = pixels[covered(Image(pixels, "png"), face)].astype(int)
        steps[method] = np.abs(np.diff(inside, axis=1))
    assert (steps["mosaic"] == 0).mean() > 0.9
    assert steps["blur"].max() < 12


@pytest.mark.parametrize("name", ["collins", "hopper"])
@pytest.mark.parametrize("method", ["blur", "mosaic"])
def test_a_cover_is_of_the_kind_asked_for(
    name: str, method: Method, engine: MeshEngine, portrait: Read
) -> None:
    """The box is the last resort, for pictures in which a face is still found."""
    image, box = portrait(name), portrait(name)
    face = engine.detect(image)[0]
    engine.cover(image, face, method)
    anonymize.cover(box.pixels, face, "box")
    inside = covered(image, face)
    assert np.abs(image.pixels[inside].astype(int) - box.pixels[inside]).mean() > 20


def test_covers_survive_encoding(engine: MeshEngine, portrait: Read) -> None:
    """After JPEG the cover still hides the face."""
    image = portrait("hopper")
    face = engine.detect(image)[0]
    engine.cover(image, face, "blur")
    again = decode(encode(image, "jpeg", 60))
    assert not [seen for seen in engine.detect(again) if seen.size > face.size / 2]
