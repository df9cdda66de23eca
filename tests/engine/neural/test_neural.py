"""The neural engine as the pipeline sees it, over a prepared pack of stand-ins.

The stand-ins have learned nothing: they find faces where none are and paint what
nobody wears.  How the parts are put together does not depend on that.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from functions.problems import NoFace
from functions.swap.engine import align, anonymize, embedding
from functions.swap.engine.arrays import Bytes, f32, u8
from functions.swap.engine.detections import Detections
from functions.swap.engine.face import Face
from functions.swap.engine.neural import NeuralEngine, Worn
from functions.swap.engine.parser import Parser
from functions.swap.job import Options
from functions.swap.media import Image
from tests.engine.neural.networks import noise, vector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from functions.swap.engine.embedding import Embedding

    Portrait = Callable[[str], Image]

PLAIN = Options(restore=False)


def blank(width: int, height: int, level: int = 0) -> Image:
    return Image(np.full((height, width, 3), level, np.uint8), "png")


def lying(x: float, y: float, size: float, lean: float = 0) -> Face:
    """Return a face whose box is `size` wide, around x and y, leaning by radians."""
    template = align.points_of("arcface_112", 112).astype(np.float64) - 56
    turn = np.array(((np.cos(lean), np.sin(lean)), (-np.sin(lean), np.cos(lean))))
    points = template @ turn * (size / 112) + (x, y)
    half = size / 2
    return face_of((x - half, y - half, x + half, y + half), points.tolist())


def face_of(
    box: tuple[float, float, float, float], points: list[tuple[float, float]]
) -> Face:
    return Face(box, 0.9, tuple((x, y) for x, y in points), 0)


def someone(seed: int = 3) -> Embedding:
    return embedding.Embedding(vector(seed))


def beyond(worn: Worn, pixels: Bytes) -> NDArray[np.bool_]:
    """Return which pixels lie outside the square that a crop was cut from.

    A crop that is larger than its square is reduced: its rim is then a pixel wide.
    """
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    where = np.stack((x, y, np.ones_like(x)), axis=-1) @ worn.matrix.T
    rim = max(1, np.hypot(*worn.matrix[0, :2]))
    side = worn.crop.shape[0]
    outside: NDArray[np.bool_] = (where <= -rim) | (where >= side - 1 + rim)
    return np.logical_or(outside[..., 0], outside[..., 1])


def swapped(
    engine: NeuralEngine, image: Image, face: Face, options: Options = PLAIN
) -> Worn:
    worn = engine.swap(image, face, someone(), options)
    engine.blend(image, worn)
    return worn


# --- what is found -----------------------------------------------------------


@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_faces_come_largest_first(
    neural: NeuralEngine, portrait: Portrait, name: str
) -> None:
    """And are counted in that order, with five landmarks each."""
    found = neural.detect(portrait(name))
    sizes = [face.size for face in found]
    assert len(found) > 2
    assert sizes == sorted(sizes, reverse=True)
    assert [face.index for face in found] == [*range(len(found))]
    assert {len(face.landmarks) for face in found} == {5}


def test_a_source_is_looked_at_alike(neural: NeuralEngine, portrait: Portrait) -> None:
    """There is one search: whether small faces are wanted changes nothing."""
    image = portrait("hopper")
    assert neural.detect(image, small=False) == neural.detect(image)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3000, 1), (1, 3000), (640, 640)])
def test_nothing_is_found_in_the_dark(
    neural: NeuralEngine, size: tuple[int, int]
) -> None:
    """A black picture of any shape shows nobody, and nothing fails."""
    assert neural.detect(blank(*size)) == []


# --- who it is ---------------------------------------------------------------


def test_an_identity_is_its_own(neural: NeuralEngine, portrait: Portrait) -> None:
    """The same face in the same picture is the same; another one is less alike."""
    image = portrait("hopper")
    first, second = (neural.identity(image, face) for face in neural.detect(image)[4:6])
    again = neural.identity(portrait("hopper"), neural.detect(image)[4])
    assert neural.similarity(first, again) == pytest.approx(1)
    assert neural.similarity(first, second) < 0.9999


def test_alike_is_a_cosine(neural: NeuralEngine) -> None:
    """From 0.4 on, and there already."""
    assert neural.alike(0.4)
    assert not neural.alike(0.399999)


def test_several_sources_are_averaged(neural: NeuralEngine) -> None:
    """Their mean lies between them, and of one it is that one."""
    one, other = someone(1), someone(2)
    both = neural.merge([one, other])
    apart = neural.similarity(one, other)
    assert neural.similarity(both, one) == pytest.approx(((1 + apart) / 2) ** 0.5)
    assert neural.similarity(both, one) == pytest.approx(neural.similarity(both, other))
    assert neural.merge([one]) is one


def test_opposite_sources_have_no_mean(neural: NeuralEngine) -> None:
    """That is said of the pictures, and is no failure of ours."""
    one = someone()
    with pytest.raises(NoFace, match="no mean"):
        neural.merge([one, embedding.Embedding(-one.raw)])


# --- the swap ----------------------------------------------------------------


@pytest.mark.parametrize("mask", ["box", "hull", "occlusion"])
@pytest.mark.parametrize("where", ["inside", "over the edge", "leaning", "tiny"])
def test_only_the_faces_region_is_drawn_into(
    neural: NeuralEngine, mask: str, where: str
) -> None:
    """Every pixel outside the square that the crop was cut from is what it was."""
    places = {
        "inside": lying(150, 120, 90),
        "over the edge": lying(10, 5, 120),
        "leaning": lying(160, 130, 100, lean=0.7),
        "tiny": lying(100, 100, 6),
    }
    image = Image(noise(4, 260, 320, 3), "png")
    before = image.pixels.copy()
    options = Options(mask=mask, restore=False)  # type: ignore[arg-type]  # one of them
    worn = swapped(neural, image, places[where], options)
    outside = beyond(worn, before)
    assert 0 < outside.sum() < outside.size
    assert np.array_equal(image.pixels[outside], before[outside])
    # What a stand-in sees may hide the whole of a face.
    assert mask == "occlusion" or not np.array_equal(image.pixels, before)


def test_swapping_draws_nothing(neural: NeuralEngine) -> None:
    """Only blending does: every face is swapped from what the target showed."""
    image = Image(noise(5, 200, 200, 3), "png")
    before = image.pixels.copy()
    neural.swap(image, lying(100, 100, 80), someone(), PLAIN)
    assert np.array_equal(image.pixels, before)


def test_another_identity_is_another_face(neural: NeuralEngine) -> None:
    """And the same one, the same."""
    image, face = Image(noise(6, 200, 200, 3), "png"), lying(100, 100, 80)
    first, again, other = (
        neural.swap(image, face, someone(seed), PLAIN).crop for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_weight_is_how_much_is_the_sources(neural: NeuralEngine) -> None:
    """1 is the source's, as if unsaid; 0 the face's own; between lies the mean."""
    image, face = Image(noise(7, 200, 200, 3), "png"), lying(100, 100, 80)
    own = neural.identity(image, face)

    def crop(who: Embedding, weight: float | None = None) -> Bytes:
        return neural.swap(image, face, who, Options(weight=weight)).crop

    source = someone()
    assert np.array_equal(crop(source, 1), crop(source))
    assert np.abs(crop(source, 0).astype(int) - crop(own)).max() <= 1
    half = crop(embedding.weighted(source, own, 0.5))
    assert np.array_equal(crop(source, 0.5), half)
    assert not np.array_equal(half, crop(source))
    assert not np.array_equal(half, crop(own))


def test_an_opposite_face_has_no_mean_with_the_source(neural: NeuralEngine) -> None:
    """Weighed against each other they leave no direction, which is said."""
    image, face = Image(noise(8, 200, 200, 3), "png"), lying(100, 100, 80)
    opposite = embedding.Embedding(-neural.identity(image, face).raw)
    with pytest.raises(NoFace, match="no mean"):
        neural.swap(image, face, opposite, Options(weight=0.5))


def test_a_box_is_the_whole_crop(neural: NeuralEngine) -> None:
    """Without a word about it, nothing but the feathered rim hides the crop."""
    image = Image(noise(9, 200, 200, 3), "png")
    assert neural.swap(image, lying(100, 100, 80), someone(), Options()).mask is None


def test_a_hull_follows_the_face(neural: NeuralEngine) -> None:
    """Drawn in the crop, where the landmarks are, however the face lies."""
    image = Image(noise(10, 300, 300, 3), "png")
    for lean in (0, 0.5, -1.2):
        worn = neural.swap(
            image, lying(150, 150, 120, lean), someone(), Options(mask="hull")
        )
        assert worn.mask is not None
        for x, y in align.points_of("arcface_128", 128):
            assert worn.mask[round(float(y)), round(float(x))] > 0.9
        assert worn.mask[0, 0] < 0.01


def test_what_a_mask_hides_is_not_drawn(neural: NeuralEngine) -> None:
    """Where the hull ends, inside the crop's square, the picture is what it was."""
    face = lying(150, 150, 120)
    image = Image(noise(24, 300, 300, 3), "png")
    before = image.pixels.copy()
    worn = swapped(neural, image, face, Options(mask="hull", restore=False))
    assert worn.mask is not None
    there = cv2.warpAffine(
        worn.mask,
        worn.matrix,
        (300, 300),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    hidden = (there < 0.001) & ~beyond(worn, before)
    assert hidden.sum() > 1000
    assert np.array_equal(image.pixels[hidden], before[hidden])


class Bright(Parser):
    """Parses what is bright as skin, and the rest as hair."""

    def __init__(self) -> None:
        self.side = 512

    def __call__(self, crop: Bytes) -> Bytes:
        return u8(np.where(crop[..., 0] > 127, 1, 17))


@pytest.mark.parametrize("lean", [0, 0.4, -0.8])
def test_an_occlusion_lies_where_the_parser_saw_it(
    neural: NeuralEngine, lean: float
) -> None:
    """What is before the face hides the crop there and nowhere else."""
    engine = replace(neural, _parser=Bright())
    image = blank(300, 300)
    image.pixels[:, 150:] = 255
    worn = engine.swap(
        image, lying(150, 150, 120, lean), someone(), Options(mask="occlusion")
    )
    assert worn.mask is not None
    seen = align.crop(image.pixels, worn.matrix, 128)[..., 0]
    inside = cv2.erode(seen, np.ones((25, 25), np.uint8)) == 255
    hidden = seen == 0
    assert inside.sum() > 1000
    assert hidden.sum() > 1000
    assert worn.mask[inside].min() > 0.9
    assert worn.mask[hidden].max() < 0.1


def test_where_nothing_parses_a_face_is_worn_whole(plain: Path) -> None:
    """The pipeline refuses such an option first; see `Offers`."""
    engine = NeuralEngine.load(plain, device="cpu", threads=1)
    image = Image(noise(11, 200, 200, 3), "png")
    options = Options(mask="occlusion")
    assert engine.swap(image, lying(100, 100, 80), someone(), options).mask is None


GREY = noise(12, 200, 200, 1).repeat(3, axis=2)


@pytest.mark.parametrize("pixels", [GREY, GREY[:9, :9], noise(13, 1, 1, 3)])
def test_any_picture_can_be_worked_on(neural: NeuralEngine, pixels: Bytes) -> None:
    """Grey, smaller than a crop, or a single pixel."""
    image = Image(np.ascontiguousarray(pixels), "png")
    face = lying(image.width / 2, image.height / 2, image.width)
    swapped(neural, image, face)
    done = neural.finish(image, [face], Options(upscale=2))
    assert done.pixels.shape == (2 * image.height, 2 * image.width, 3)


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


# --- several at once ---------------------------------------------------------


def test_threads_do_not_disturb_one_another(
    neural: NeuralEngine, portrait: Portrait
) -> None:
    """Twelve jobs in four threads give the bytes that one by one they give."""
    options = Options(mask="hull", weight=0.7, upscale=2)

    def job(number: int) -> bytes:
        image = portrait("hopper" if number % 2 else "collins")
        face = neural.detect(image)[number % 5]
        neural.blend(image, neural.swap(image, face, someone(number % 3), options))
        done = neural.finish(image, [face], options)
        return u8(done.pixels).tobytes() + repr(neural.judge(done)).encode()

    alone = [job(number) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(job, range(12))) == alone
