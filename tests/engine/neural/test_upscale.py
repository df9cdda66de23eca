"""Enlarging in tiles: no seams, one shape, bounded memory, at any size."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from msgspec import structs

from functions.swap.engine.arrays import Bytes, Floats, f32, u8
from functions.swap.engine.placement import Unfit
from functions.swap.engine.runtime import Network
from functions.swap.engine.upscale import FEATHER, MARGIN, TILE, Upscaler, cut
from tests.engine.neural.networks import Session, noise, published, standin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.manifest import Model

NAMES = {"real_esrgan_x2": 2, "real_esrgan_x4": 4, "swin2_sr_x4": 4}
STEP = TILE - 2 * MARGIN
SIZES = [
    (1, 1),
    (1, 300),
    (5, 7),
    (16, 15),
    (STEP, STEP),
    (STEP + 1, STEP - 1),
    (TILE, TILE + 1),
    (2 * STEP, 2 * STEP + FEATHER - 1),
    (3 * STEP + 1, 100),
]


def tiled(side: int, name: str = "real_esrgan_x2") -> Model:
    """Return the entry of a network that takes tiles of one side alone."""
    model = published(name)
    image = structs.replace(model.input, shape=(1, 3, side, side))
    return structs.replace(model, input=image)


def repeated(times: int) -> Callable[[Floats], Floats]:
    return lambda image: image.repeat(times, axis=2).repeat(times, axis=3)


def smoothed(image: Floats) -> Floats:
    """Double the image, then average over 7.5 pixels of the input to each side.

    Beyond a tile it sees black, as convolutions do.
    """
    large, size = repeated(2)(image)[0], (31, 31)
    planes = [cv2.blur(plane, size, borderType=cv2.BORDER_CONSTANT) for plane in large]
    return f32(planes)[np.newaxis]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_tiles_of_what_only_repeats_pixels_add_up_to_the_picture(
    name: str, size: tuple[int, int]
) -> None:
    """Bit for bit what one pass would give, at any size, smaller than a tile too."""
    times = NAMES[name]
    pixels = noise(sum(size), *size, 3)
    large = Upscaler(Network(published(name), Session(repeated(times))))(pixels)
    assert large.dtype == np.uint8
    assert np.array_equal(large, pixels.repeat(times, axis=0).repeat(times, axis=1))


def test_tiles_of_what_looks_around_add_up_to_one_pass() -> None:
    """What a network sees of a pixel's surroundings is the same in any tile."""
    pixels = u8(cv2.GaussianBlur(noise(1, 500, 610, 3), (0, 0), 3))
    whole = Upscaler(Network(tiled(704), Session(smoothed)))(pixels)
    parts = Upscaler(Network(published("real_esrgan_x2"), Session(smoothed)))(pixels)
    assert np.abs(whole.astype(int) - parts).max() <= 1


@pytest.mark.parametrize("name", ["real_esrgan_x2", "real_esrgan_x4"])
def test_tiles_that_disagree_fade_into_one_another(name: str) -> None:
    """A network that makes every other tile brighter by 32 levels leaves no edge."""
    times, turn = NAMES[name], itertools.count()

    def uneven(image: Floats) -> Floats:
        brighter = next(turn) % 2 * 32 / 255
        return f32(repeated(times)(image) + brighter)

    pixels = np.full((3 * STEP, 5 * STEP, 3), 100, np.uint8)
    large = Upscaler(Network(published(name), Session(uneven)))(pixels).astype(int)
    steps = [np.abs(np.diff(large, axis=axis)).max() for axis in (0, 1)]
    assert {large.min(), large.max()} == {100, 132}
    assert max(steps) <= 32 / (16 * times) + 1
    shares = (np.arange(16 * times) + 0.5) / (16 * times)
    border = large[0, (STEP - 8) * times : (STEP + 8) * times, 0]
    assert np.abs(border - (100 + 32 * shares)).max() <= 0.5


@pytest.mark.parametrize("size", SIZES)
def test_every_run_is_one_tile_of_one_shape(size: tuple[int, int]) -> None:
    """A device sees one shape, and no run more than it needs."""
    session = Session(repeated(2))
    Upscaler(Network(published("real_esrgan_x2"), session))(noise(1, *size, 3))
    shapes = {image.shape for run in session.runs for image in run.values()}
    assert shapes == {(1, 3, TILE, TILE)}
    assert len(session.runs) == -(-size[0] // STEP) * -(-size[1] // STEP)


def test_the_network_sees_rgb_from_zero_to_one() -> None:
    """As it was trained."""
    session = Session(repeated(2))
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 2] = 255
    Upscaler(Network(published("real_esrgan_x2"), session))(red)
    (seen,) = session.runs[0].values()
    assert np.array_equal(seen[0].max(axis=(1, 2)), f32((1, 0, 0)))
    assert np.array_equal(seen[0].min(axis=(1, 2)), f32((1, 0, 0)))


def test_memory_is_that_of_the_result_and_two_rows_of_tiles() -> None:
    """However tall the picture is."""
    pixels, flat = noise(1, 20 * STEP, STEP, 3), f32(np.full((1, 3, 512, 512), 0.5))

    def forgotten(_: Floats) -> Floats:
        session.runs.clear()
        return flat

    session = Session(forgotten)
    upscaler = Upscaler(Network(published("real_esrgan_x2"), session))
    tracemalloc.start()
    try:
        large = upscaler(pixels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    tile = 4 * 3 * (2 * TILE) ** 2  # bytes, of a tile as float32
    assert peak - large.nbytes < 4 * tile


def test_a_network_of_one_size_is_given_tiles_of_it() -> None:
    """Where the manifest fixes the side."""
    session = Session(repeated(2))
    pixels = noise(4, 100, 70, 3)
    large = Upscaler(Network(tiled(64), session))(pixels)
    assert np.array_equal(large, pixels.repeat(2, axis=0).repeat(2, axis=1))
    assert session.runs[0]["input"].shape == (1, 3, 64, 64)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 3, 256, 128), (1, 3, 256, 0)])
def test_a_network_that_takes_no_tile_does_not_load(shape: tuple[int, ...]) -> None:
    """Too small for its margins, or no square."""
    model = published("real_esrgan_x2")
    model = structs.replace(model, input=structs.replace(model.input, shape=shape))
    with pytest.raises(Unfit, match="no square tile"):
        Upscaler(Network(model, Session(repeated(2))))


def test_a_network_that_does_not_enlarge_does_not_load() -> None:
    """A factor of 1 is one that nobody wrote down."""
    with pytest.raises(Unfit, match="no factor"):
        Upscaler(
            Network(
                structs.replace(published("real_esrgan_x2"), scale=1),
                Session(repeated(1)),
            )
        )


def test_a_network_that_enlarges_otherwise_than_it_said_is_unfit() -> None:
    """Its tiles would not fit."""
    with pytest.raises(Unfit, match="not 2 times"):
        Upscaler(Network(published("real_esrgan_x2"), Session(repeated(4))))(
            noise(1, 9, 9, 3)
        )


def test_what_is_no_number_is_no_black_tile() -> None:
    """A network that overflowed ends the job instead."""
    broken = Session(lambda image: np.full_like(repeated(2)(image), np.nan))
    with pytest.raises(FloatingPointError, match="real_esrgan_x2"):
        Upscaler(Network(published("real_esrgan_x2"), broken))(noise(1, 9, 9, 3))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (40, 90)])
def test_beyond_its_edges_a_picture_goes_on_mirrored(size: tuple[int, int]) -> None:
    """As OpenCV's BORDER_REFLECT_101 has it; not black, which would bleed in."""
    pixels: Bytes = noise(5, *size, 3)
    wide = cv2.copyMakeBorder(pixels, 16, 240, 16, 240, cv2.BORDER_REFLECT_101)
    assert np.array_equal(cut(pixels, -16, -16, TILE), wide[:TILE, :TILE])


@pytest.mark.parametrize(("name", "times"), NAMES.items())
def test_the_published_architecture_enlarges_a_picture(
    standins: Path, name: str, times: int
) -> None:
    """By the catalogue's entry, names and shapes included."""
    upscaler = Upscaler(standin(published(name), standins))
    large = upscaler(noise(1, 30, 300, 3))
    assert large.shape == (30 * times, 300 * times, 3)
    assert large.std() > 1
