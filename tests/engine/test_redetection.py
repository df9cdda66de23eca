"""The re-detection attack: bring a covered face back, and look with two detectors.

What an attacker can do with the output alone: sharpen it, deconvolve it (Wiener;
Richardson and Lucy), enlarge it, or average many frames of a film.  Then our own
engine looks, and an LBP cascade that knows nothing of how covers are made.  The
covers are those that the engine makes; the pictures, the portraits' heads at many
sizes on a texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import cv2
import numpy as np
import pytest
from skimage import data, feature, restoration

from functions.swap.engine.anonymize import Method
from functions.swap.engine.boxes import overlap
from functions.swap.media import Image
from tests.engine.composites import PORTRAITS, Spot, draw, portrait, texture

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from functions.swap.engine import MeshEngine
    from functions.swap.engine.face import Face

    Pixels = NDArray[np.uint8]
    Attack = Callable[[Pixels, float], Pixels]

DATA: Any = data  # no types are published for these
RESTORATION: Any = restoration
METHODS: tuple[Method, ...] = get_args(Method)
SIZES, QUALITIES = (40, 64, 100, 150, 250, 400), (92, 60)
HIT = 0.1  # intersection over union; to have found a face one asks for 0.5
SEEN = 240  # pixels of a face beyond which an attack is tried on a smaller copy
FRAMES, DRIFT, GRAIN = 30, 2.0, 6.0  # frames; pixels and levels between them


@dataclass(frozen=True)
class Scene:
    """A head on a texture, and where the engine finds its face."""

    pixels: Pixels
    face: Face


def cover(engine: MeshEngine, scene: Scene, method: Method, quality: int) -> Pixels:
    """Return the scene as it would be delivered: covered, as a JPEG."""
    image = Image(scene.pixels.copy(), "jpeg")
    engine.cover(image, scene.face, method)
    return as_jpeg(image.pixels, quality)


def as_jpeg(pixels: Pixels, quality: int) -> Pixels:
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


@cache
def scene_of(engine: MeshEngine, name: str, size: int, turn: float = 0) -> Scene:
    side = round(size * 2.6)
    pixels = texture(np.random.default_rng(size), side, side, size)
    draw(pixels, Spot(name, size, turn, side / 2, side / 2))
    [face, *_] = engine.detect(Image(pixels, "png"))
    return Scene(pixels, face)


def bytes_of(values: Any) -> Pixels:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def sharpened(pixels: Pixels, sigma: float) -> Pixels:
    """Take three times the detail: an unsharp mask."""
    soft = cv2.GaussianBlur(pixels, (0, 0), sigma).astype(np.float32)
    return bytes_of(pixels + 2 * (pixels - soft))


def spread(sigma: float) -> NDArray[np.float64]:
    """Return a Gaussian point spread function, as whoever deblurs would guess it."""
    line = cv2.getGaussianKernel(2 * max(1, round(3 * sigma)) + 1, sigma)
    return np.asarray(line @ line.T, np.float64)


def restored(pixels: Pixels, by: Callable[[NDArray[np.float64]], Any]) -> Pixels:
    """Return a grey restoration; both detectors look at brightness."""
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.float64) / 255
    found = bytes_of(np.asarray(by(grey)) * 255)
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_GRAY2BGR), np.uint8)


def deconvolved(pixels: Pixels, sigma: float) -> Pixels:
    return restored(
        pixels, lambda g: RESTORATION.wiener(g, spread(sigma), 0.1, clip=False)
    )


def iterated(pixels: Pixels, sigma: float) -> Pixels:
    return restored(pixels, lambda g: RESTORATION.richardson_lucy(g, spread(sigma), 10))


def enlarged(pixels: Pixels, factor: int) -> Pixels:
    method = cv2.INTER_CUBIC
    return bytes_of(
        cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=method)
    )


# Sigma is a twelfth of the face: half a cell of the cover, where detail would be.
ATTACKS: dict[str, Attack] = {
    "nothing": lambda pixels, _: pixels,
    "sharpened": sharpened,
    "sharpened twice as far": lambda pixels, sigma: sharpened(pixels, 2 * sigma),
    "Wiener": deconvolved,
    "Wiener, half as far": lambda pixels, sigma: deconvolved(pixels, sigma / 2),
    "Richardson and Lucy": iterated,
    "twice as large": lambda pixels, _: enlarged(pixels, 2),
    "four times as large": lambda pixels, _: enlarged(pixels, 4),
}


@cache
def cascade() -> feature.Cascade:
    return feature.Cascade(DATA.lbp_frontal_face_cascade_filename())


def seen_by_cascade(pixels: Pixels, size: float) -> NDArray[np.float32]:
    """Return what the cascade takes for faces of half to twice `size`, (n, 4)."""
    smallest, largest = max(24, round(size / 2)), round(size * 2)
    found = cascade().detect_multi_scale(
        img=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB),
        scale_factor=1.1,
        step_ratio=1,
        min_size=(smallest, smallest),
        max_size=(largest, largest),
    )
    boxes = [(f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"]) for f in found]
    return np.array(boxes, np.float32).reshape(-1, 4)


def hits(
    engine: MeshEngine, pixels: Pixels, face: Face, scale: float
) -> dict[str, float]:
    """Return how well each detector finds the face, as intersection over union."""
    place = face.corners * np.float32(scale)
    ours = [
        one.box for one in engine.detect(Image(np.ascontiguousarray(pixels), "png"))
    ]
    seen = {
        "engine": np.array(ours, np.float32).reshape(-1, 4),
        "cascade": seen_by_cascade(pixels, face.size * scale),
    }
    return {name: float(overlap(place, s).max(initial=0)) for name, s in seen.items()}


def attacked(
    engine: MeshEngine, pixels: Pixels, face: Face, attack: str
) -> dict[str, float]:
    """Attack a picture, and return `hits`; a large face is reduced to `SEEN` first."""
    reduced = min(1.0, SEEN / face.size)
    if reduced < 1:
        area = cv2.INTER_AREA
        small = cv2.resize(pixels, None, fx=reduced, fy=reduced, interpolation=area)
        pixels = np.asarray(small, np.uint8)
    result = ATTACKS[attack](pixels, face.size * reduced / 12)
    return hits(engine, result, face, reduced * result.shape[1] / pixels.shape[1])


@pytest.mark.parametrize("name", PORTRAITS)
def test_both_detectors_find_what_is_not_covered(name: str, engine: MeshEngine) -> None:
    """The portraits, and every head of these tests: else they could not fail."""
    pixels = portrait(name)
    [face, *_] = engine.detect(Image(pixels, "png"))
    assert min(hits(engine, pixels, face, 1).values()) > 0.5
    for size in SIZES:
        scene = scene_of(engine, name, size)
        found = hits(engine, as_jpeg(scene.pixels, 60), scene.face, 1)
        assert min(found.values()) > 0.4, size


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("method", METHODS)
def test_the_re_detection_attack(
    method: Method, attack: str, engine: MeshEngine
) -> None:
    """No attack lets our detectors or the cascade find what was covered."""
    for name in PORTRAITS:
        for size in SIZES[:-2] if attack == "four times as large" else SIZES:
            for quality in QUALITIES:
                scene = scene_of(engine, name, size)
                pixels = cover(engine, scene, method, quality)
                found = attacked(engine, pixels, scene.face, attack)
                assert max(found.values()) <= HIT, (name, size, quality, found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turn", [-15, 10, 20])
def test_the_attack_on_heads_that_lean(
    turn: int, method: Method, engine: MeshEngine
) -> None:
    """Where a head leans, deconvolution finds it no more than where it is level."""
    for name in PORTRAITS:
        for size in (48, 80, 124):  # a texture of each kind
            scene = scene_of(engine, name, size, turn)
            pixels = cover(engine, scene, method, 75)
            found = attacked(engine, pixels, scene.face, "Wiener")
            assert max(found.values()) <= HIT, (name, size, found)


def moved(pixels: Pixels, x: float, y: float) -> Pixels:
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    side = (pixels.shape[1], pixels.shape[0])
    return bytes_of(
        cv2.warpAffine(pixels, shift, side, borderMode=cv2.BORDER_REPLICATE)
    )


def averaged(engine: MeshEngine, scene: Scene, method: Method) -> Pixels:
    """Return many frames of a film, each covered on its own, laid over one another."""
    random, total = np.random.default_rng(7), np.zeros(scene.pixels.shape, np.float64)
    for _ in range(FRAMES):
        x, y = random.uniform(-DRIFT, DRIFT, 2).tolist()
        frame = moved(scene.pixels, x, y)
        frame = bytes_of(frame + random.normal(0, GRAIN, frame.shape))
        [face, *_] = engine.detect(Image(frame, "png"))
        total += moved(cover(engine, Scene(frame, face), method, 92), -x, -y)
    return bytes_of(total / FRAMES)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PORTRAITS)
def test_the_attack_by_averaging_frames(
    name: str, method: Method, engine: MeshEngine
) -> None:
    """Thirty shifted and noisy frames, as they are, sharpened or deconvolved."""
    scene = scene_of(engine, name, 64)
    pixels = averaged(engine, scene, method)
    for attack in ("nothing", "sharpened", "Wiener", "Richardson and Lucy"):
        found = attacked(engine, pixels, scene.face, attack)
        assert max(found.values()) <= HIT, (attack, found)


def likeness(engine: MeshEngine, one: Scene, pixels: Pixels, other: Scene) -> float:
    """Return how alike what stands in `pixels` at the face is to the other's face."""
    theirs = engine.identity(Image(other.pixels, "png"), other.face)
    shown = engine.identity(Image(np.ascontiguousarray(pixels), "png"), one.face)
    return engine.similarity(theirs, shown)


def crops(engine: MeshEngine, scene: Scene, count: int = 12) -> list[float]:
    """Return how alike texture is, told to be a face, to the true face: chance."""
    random, side = np.random.default_rng(11), scene.pixels.shape[1]
    pictures = [texture(random, side, side, kind) for kind in range(count)]
    return [likeness(engine, scene, each, scene) for each in pictures]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PORTRAITS)
def test_an_attacked_cover_is_no_more_alike_than_chance(
    name: str, method: Method, engine: MeshEngine
) -> None:
    """Landmarks and texture, told where to look, are as unlike as any other's.

    Chance is what the other portrait, and texture without a face, come to.
    """
    scene = scene_of(engine, name, 150)
    [stranger] = [scene_of(engine, each, 150) for each in PORTRAITS if each != name]
    assert likeness(engine, scene, as_jpeg(scene.pixels, 60), scene) > 0.6
    by_chance = [likeness(engine, stranger, stranger.pixels, scene)]
    chance = max(by_chance + crops(engine, scene)) + 0.1
    for attack in ("nothing", "sharpened", "Wiener", "Richardson and Lucy"):
        covered = cover(engine, scene, method, 92)
        pixels = ATTACKS[attack](covered, scene.face.size / 12)
        assert likeness(engine, scene, pixels, scene) <= chance, attack
