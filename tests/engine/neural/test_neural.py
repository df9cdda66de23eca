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
from functions.swap.engine import align, embedding
from functions.swap.engine.arrays import Bytes, u8
from functions.swap.engine.neural import NeuralEngine, Worn
from functions.swap.engine.parser import Parser
from functions.swap.job import Options
from functions.swap.media import Image
from tests.engine.neural.networks import noise
from tests.engine.neural.people import blank, lying, someone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from functions.swap.engine.embedding import Embedding
    from functions.swap.engine.face import Face

    Portrait = Callable[[str], Image]

PLAIN = Options(restore=False)


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
