"""Parsing a face: the class with the highest score, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from msgspec import structs

from functions.swap.engine.arrays import Bytes, Floats, f32
from functions.swap.engine.parser import Parser, face_mask
from functions.swap.engine.placement import Unfit
from functions.swap.engine.runtime import Network
from tests.engine.neural.networks import Session, noise, published, standin

if TYPE_CHECKING:
    from pathlib import Path


NAMES = ("bisenet_resnet_18", "bisenet_resnet_34")


def brightness(image: Floats) -> Floats:
    """Answer with a class for each pixel: the darker, the lower, 0 to 18."""
    red = image[0, 0] * 58.395 + 123.675
    wanted = np.rint(red / 10)[np.newaxis]
    classes = np.arange(19)[:, np.newaxis, np.newaxis]
    return f32(-np.abs(classes - wanted))[np.newaxis]


def striped(side: int) -> Bytes:
    """Return a crop of 16 columns whose levels name the classes 0 to 15."""
    levels = np.arange(side) * 16 // side * 10
    crop = np.zeros((side, side, 3), np.uint8)
    crop[..., 2] = levels
    return crop


@pytest.mark.parametrize("name", NAMES)
def test_each_pixel_gets_the_class_that_scores_highest(name: str) -> None:
    """As a number from 0 to 18, in the place of the pixel."""
    labels = Parser(Network(published(name), Session(brightness)))(striped(512))
    assert labels.dtype == np.uint8
    assert labels.shape == (512, 512)
    assert (labels == np.arange(512) * 16 // 512).all()


@pytest.mark.parametrize("side", [128, 256, 1024])
def test_a_crop_of_another_side_is_parsed_at_the_network_s_own(side: int) -> None:
    """Small crops of a swapper are enlarged; each class stays in its place."""
    session = Session(brightness)
    labels = Parser(Network(published(NAMES[0]), session))(striped(side))
    assert labels.shape == (512, 512)
    middles = np.arange(16, 512, 32)
    assert (labels[256, middles] == np.arange(16)).all()


def test_the_network_sees_the_mean_and_deviation_of_imagenet() -> None:
    """As it was trained: the mean's own colour is all but 0."""
    session = Session(brightness)
    crop = np.empty((512, 512, 3), np.uint8)
    crop[:] = (104, 116, 124)  # BGR
    Parser(Network(published(NAMES[0]), session))(crop)
    (seen,) = session.runs[0].values()
    assert np.abs(seen).max() < 0.01
    crop[..., 2] = 255
    Parser(Network(published(NAMES[0]), session))(crop)
    (seen,) = session.runs[1].values()
    assert np.allclose(seen[0, 0], (1 - 0.485) / 0.229, atol=1e-4)


def test_a_face_is_its_skin_brows_eyes_nose_and_mouth() -> None:
    """By the manifest's names; glasses, hair, ears, neck and all else are not."""
    names = np.array(published(NAMES[0]).labels)
    mask = face_mask(np.arange(19, dtype=np.uint8)[np.newaxis])
    assert mask.dtype == np.float32
    assert set(names[mask[0] == 1]) == {
        "skin",
        "brow_left",
        "brow_right",
        "eye_left",
        "eye_right",
        "nose",
        "mouth",
        "lip_upper",
        "lip_lower",
    }
    assert set(mask.ravel()) == {0, 1}


@pytest.mark.parametrize("labels", [(), ("face", "hand")])
def test_a_network_of_other_classes_does_not_load(labels: tuple[str, ...]) -> None:
    """Their numbers would mean something else."""
    model = structs.replace(published(NAMES[0]), labels=labels)
    with pytest.raises(Unfit, match="19 labels"):
        Parser(Network(model, Session(brightness)))


def test_parsing_leaves_the_crop_as_it_is() -> None:
    """It is only looked at."""
    crop = noise(3, 128, 128, 3)
    before = crop.copy()
    Parser(Network(published(NAMES[0]), Session(brightness)))(crop)
    assert np.array_equal(crop, before)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_architecture_parses_a_crop(standins: Path, name: str) -> None:
    """By the catalogue's entry, names and shapes included."""
    labels = Parser(standin(published(name), standins))(noise(1, 512, 512, 3))
    assert labels.shape == (512, 512)
    assert 0 <= labels.min() <= labels.max() < len(published(name).labels)
