"""The neural engine after a swap, and without one: restored, enlarged, covered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from functions.problems import NoFace
from functions.swap.engine import anonymize
from functions.swap.engine.arrays import Bytes, f32
from functions.swap.engine.detections import Detections
from functions.swap.engine.neural import NeuralEngine
from functions.swap.job import Options
from functions.swap.media import Image
from tests.engine.neural.networks import noise
from tests.engine.neural.people import face_of, lying, someone

if TYPE_CHECKING:
    from pathlib import Path


# --- what comes after --------------------------------------------------------


def test_a_quality_pack_restores_unless_told_not_to(neural: NeuralEngine) -> None:
    """In the faces it is given, and nowhere else."""
    pixels = noise(14, 300, 300, 3)
    face = lying(150, 150, 60)
    results = {
        restore: neural.finish(
            Image(pixels.copy(), "png"), [face], Options(restore=restore)
        ).pixels
        for restore in (None, True, False)
    }
    assert np.array_equal(results[False], pixels)
    assert np.array_equal(results[None], results[True])
    changed = (results[True] != pixels).any(axis=2)
    assert changed[120:180, 120:180].mean() > 0.9
    # The eyes are 35 of 112 apart in the face, and 126 of 512 in the restorer's square.
    square = 60 * (35 / 112) * (512 / 126)
    assert np.abs(np.argwhere(changed) - 150).max() < square * 0.75


def test_a_plain_pack_restores_nothing(plain: Path) -> None:
    """What it gives is the very picture it was given."""
    engine = NeuralEngine.load(plain, device="cpu", threads=1)
    image = Image(noise(15, 100, 100, 3), "png")
    before = image.pixels.copy()
    assert engine.finish(image, [lying(50, 50, 40)], Options()) is image
    assert np.array_equal(image.pixels, before)


def test_the_whole_picture_grows(neural: NeuralEngine) -> None:
    """With what it was, and its transparency."""
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 30:] = 255
    image = Image(noise(16, 40, 60, 3), "webp", alpha, b"profile")
    done = neural.finish(image, [], Options(upscale=2))
    assert done.pixels.shape == (80, 120, 3)
    assert (done.format, done.icc) == ("webp", b"profile")
    assert done.alpha is not None
    assert done.alpha.shape == (80, 120)
    assert (done.alpha[:, :50] == 0).all()
    assert (done.alpha[:, 70:] == 255).all()
    assert done.alpha.dtype == done.pixels.dtype == np.uint8


def test_faces_are_restored_before_the_picture_grows(neural: NeuralEngine) -> None:
    """Their landmarks are in the target's pixels."""
    pixels, face = noise(17, 120, 120, 3), lying(60, 60, 40)
    both = neural.finish(Image(pixels.copy(), "png"), [face], Options(upscale=2))
    first = neural.finish(Image(pixels.copy(), "png"), [face], Options())
    then = neural.finish(first, [], Options(upscale=2))
    assert np.array_equal(both.pixels, then.pixels)


def test_what_a_picture_shows_is_judged(neural: NeuralEngine, plain: Path) -> None:
    """By the labels that are offered; without a classifier, not at all."""
    image = Image(noise(18, 50, 70, 3), "png")
    verdict = neural.judge(image)
    assert verdict is not None
    assert tuple(verdict) == neural.offers.labels == ("nsfw", "sfw")
    assert sum(verdict.values()) == pytest.approx(1)
    engine = NeuralEngine.load(plain, device="cpu", threads=1)
    assert engine.judge(image) is None


def test_attack_what_the_alpha_shows_is_judged(neural: NeuralEngine) -> None:
    """As it is laid on white for a JPEG, as it shows on black, and without it."""
    pixels, alpha = noise(19, 50, 70, 3), noise(20, 50, 70)
    grounds = [
        alpha[..., None] / 255 * pixels + (1 - alpha[..., None] / 255) * level
        for level in (255, 0)
    ]
    each = [
        neural.judge(Image(seen, "png"))
        for seen in (pixels, *(np.rint(one).astype(np.uint8) for one in grounds))
    ]
    verdict = neural.judge(Image(pixels, "png", alpha))
    assert verdict is not None
    for label in ("nsfw", "sfw"):
        worst = max(one[label] for one in each if one is not None)
        assert verdict[label] == pytest.approx(worst)


def test_a_pack_offers_what_it_has_networks_for(
    neural: NeuralEngine, plain: Path
) -> None:
    """Rich or plain."""
    assert neural.offers.restores_all
    assert neural.offers.upscales == (2,)
    assert neural.offers.masks == ("box", "hull", "occlusion")
    offers = NeuralEngine.load(plain, device="cpu", threads=1).offers
    assert not offers.restores
    assert not offers.classifier
    assert offers.upscales == ()
    assert offers.masks == ("box", "hull")
    assert offers.weighs


# --- covering ----------------------------------------------------------------


class Sees:
    """A detector that sees a face of a size, until told otherwise, and keeps count.

    It stands in the middle of whatever part of the picture it is shown.
    """

    def __init__(self, size: float, times: int) -> None:
        self.size = size
        self.times = times

    def __call__(self, pixels: Bytes) -> Detections:
        self.times -= 1
        if self.times < 0:
            return Detections.none()
        middle = np.array(pixels.shape[1::-1]) / 2
        corners = np.concatenate((middle - self.size / 2, middle + self.size / 2))
        return Detections(
            f32(corners[np.newaxis]), f32(np.zeros((1, 5, 2))), f32([0.9])
        )


@pytest.mark.parametrize(
    ("times", "method", "cells"),
    [(0, "blur", 4), (1, "blur", 3), (2, "blur", 2), (3, "blur", 1), (4, "box", 4)],
)
def test_a_face_that_is_still_found_is_covered_anew(
    neural: NeuralEngine, times: int, method: anonymize.Method, cells: int
) -> None:
    """With fewer cells each time, and in the end with none of it."""
    face = lying(150, 150, 60)
    expected = noise(19, 300, 300, 3)
    for fewer in range(4, 4 - times, -1):
        anonymize.cover(expected, face, "blur", fewer)
    anonymize.cover(expected, face, method, cells)
    image = Image(noise(19, 300, 300, 3), "png")
    replace(neural, _detector=Sees(60, times)).cover(image, face, "blur")
    assert np.array_equal(image.pixels, expected)


def test_another_face_beside_it_is_none_of_its_business(neural: NeuralEngine) -> None:
    """What is found elsewhere does not make the cover coarser."""
    face = lying(150, 150, 60)
    expected = noise(20, 300, 300, 3)
    anonymize.cover(expected, face, "mosaic")
    image = Image(noise(20, 300, 300, 3), "png")
    replace(neural, _detector=Sees(9, 99)).cover(image, face, "mosaic")
    assert np.array_equal(image.pixels, expected)


@pytest.mark.parametrize("method", ["blur", "mosaic", "box"])
@pytest.mark.parametrize("place", [(150, 150), (2, 3), (-400, 150)])
def test_a_cover_ends(
    neural: NeuralEngine, method: anonymize.Method, place: tuple[int, int]
) -> None:
    """With the pack's own detector, in the picture, at its edge and beyond it."""
    image = Image(noise(21, 300, 300, 3), "png")
    before = image.pixels.copy()
    neural.cover(image, lying(*place, 60), method)
    assert np.array_equal(image.pixels, before) == (place[0] < 0)
    assert np.array_equal(image.pixels[250:, 250:], before[250:, 250:])


def test_a_cover_needs_no_landmarks(neural: NeuralEngine) -> None:
    """A face that cannot be aligned can still be covered."""
    image = Image(noise(22, 300, 300, 3), "png")
    before = image.pixels.copy()
    neural.cover(image, face_of((120, 120, 180, 180), [(150, 150)] * 5), "mosaic")
    assert not np.array_equal(image.pixels[130:170, 130:170], before[130:170, 130:170])


# --- what cannot be aligned --------------------------------------------------


@pytest.mark.parametrize(
    "points",
    [[(9, 9)] * 5, [(float("nan"), 9)] * 5, [(float("inf"), 9)] * 5, [(1e9, 9)] * 5],
)
def test_degenerate_landmarks_are_no_face(
    neural: NeuralEngine, points: list[tuple[float, float]]
) -> None:
    """Said as such wherever a face is aligned, and nothing is drawn."""
    face = face_of((0, 0, 50, 50), points)
    image = Image(noise(23, 100, 100, 3), "png")
    before = image.pixels.copy()
    with pytest.raises(NoFace):
        neural.identity(image, face)
    for options in (Options(), Options(mask="occlusion"), Options(weight=0.5)):
        with pytest.raises(NoFace):
            neural.swap(image, face, someone(), options)
    with pytest.raises(NoFace):
        neural.finish(image, [face], Options(restore=True))
    assert np.array_equal(image.pixels, before)
