"""Restoration: pixels to the network's numbers and back, nothing between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from msgspec import structs

from functions.swap.engine.arrays import Bytes, Floats, f32
from functions.swap.engine.placement import Unfit
from functions.swap.engine.restore import Restorer
from functions.swap.engine.runtime import Network
from tests.engine.neural.networks import Session, noise, published, standin

if TYPE_CHECKING:
    from pathlib import Path


RESTORERS = ("gfpgan_1_4", "restoreformer_plus_plus")


def same(image: Floats) -> Floats:
    return image


def every_level() -> Bytes:
    """Return a crop with each level in each channel, and no two channels alike."""
    ramp = np.arange(512 * 512 * 3, dtype=np.int64).reshape(512, 512, 3)
    return np.asarray(ramp * 7 // 3 % 256, np.uint8)


@pytest.mark.parametrize("name", RESTORERS)
def test_a_network_that_changes_nothing_gives_the_crop_back(name: str) -> None:
    """Every level of every channel survives the way there and back."""
    crop = every_level()
    assert np.array_equal(Restorer(Network(published(name), Session(same)))(crop), crop)


def test_the_network_sees_rgb_from_minus_one_to_one() -> None:
    """As it was trained."""
    crop = np.zeros((512, 512, 3), np.uint8)
    crop[..., 2] = 255  # red, in BGR
    session = Session(same)
    Restorer(Network(published("gfpgan_1_4"), session))(crop)
    (seen,) = session.runs[0].values()
    assert seen.shape == (1, 3, 512, 512)
    means = seen[0].mean(axis=(1, 2))
    assert np.allclose(means, (1, -1, -1), atol=1e-6)


@pytest.mark.parametrize(
    ("number", "level"),
    [(-9, 0), (-1, 0), (0.0, 128), (0.0035, 128), (1, 255), (9, 255)],
)
def test_numbers_are_rounded_to_levels_and_cut_off(number: float, level: int) -> None:
    """127.5 + 127.5 x, to the nearest whole level from 0 to 255."""
    session = Session(lambda image: np.full_like(image, number))
    restored = Restorer(Network(published("gfpgan_1_4"), session))(
        noise(1, 512, 512, 3)
    )
    assert restored.dtype == np.uint8
    assert restored.flags.c_contiguous
    assert (restored == level).all()


def test_what_is_no_number_is_no_black_face() -> None:
    """A network that overflowed ends the job instead."""

    def broken(image: Floats) -> Floats:
        out = image.copy()
        out[0, 1, 7, 7] = np.nan
        return f32(out)

    restorer = Restorer(Network(published("gfpgan_1_4"), Session(broken)))
    with pytest.raises(FloatingPointError, match="gfpgan_1_4"):
        restorer(noise(1, 512, 512, 3))


def test_a_network_for_blue_first_is_taken_at_its_word() -> None:
    """The order of colours is the manifest's."""
    model = published("gfpgan_1_4")
    model = structs.replace(model, input=structs.replace(model.input, order="bgr"))
    crop = every_level()
    assert np.array_equal(Restorer(Network(model, Session(same)))(crop), crop)


@pytest.mark.parametrize("template", [None, "arcface_112"])
def test_a_restorer_of_other_crops_does_not_load(template: str | None) -> None:
    """A face that lies otherwise would come out as somebody else."""
    model = structs.replace(published("gfpgan_1_4"), template=template)
    with pytest.raises(Unfit, match="ffhq_512"):
        Restorer(Network(model, Session(same)))


def test_a_restorer_says_which_crop_it_takes() -> None:
    """So that the engine can cut it."""
    restorer = Restorer(Network(published("gfpgan_1_4"), Session(same)))
    assert (restorer.side, restorer.template) == (512, "ffhq_512")


@pytest.mark.parametrize("name", RESTORERS)
def test_the_published_architecture_restores_a_crop(standins: Path, name: str) -> None:
    """By the catalogue's entry, names and shapes included; the same each time."""
    restorer, crop = Restorer(standin(published(name), standins)), noise(1, 512, 512, 3)
    restored = restorer(crop)
    assert restored.shape == crop.shape
    assert restored.std() > 1
    assert np.array_equal(restorer(crop), restored)
