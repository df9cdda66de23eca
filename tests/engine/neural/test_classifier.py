"""Classifying a picture: probabilities by name, of all of the picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from msgspec import structs

from functions.swap import gate
from functions.swap.engine.arrays import f32, u8
from functions.swap.engine.classifier import Classifier
from functions.swap.engine.placement import Unfit
from functions.swap.engine.runtime import Network
from tests.engine.neural.networks import Session, noise, published, standin

if TYPE_CHECKING:
    from pathlib import Path


NAMES = {"nsfw_marqo": 384, "nsfw_freepik": 448}


def says(*numbers: float) -> Session:
    return Session(lambda _: f32([numbers]))


def test_probabilities_are_the_softmax_of_the_numbers_by_label() -> None:
    """e^x over the sum of all e^x, in the manifest's order."""
    told = Classifier(Network(published("nsfw_freepik"), says(0, 1, 2, 3)))(
        noise(1, 40, 30, 3)
    )
    assert list(told) == ["neutral", "low", "medium", "high"]
    total = sum(math.exp(n) for n in range(4))
    expected = [math.exp(n) / total for n in range(4)]
    assert np.allclose(list(told.values()), expected, rtol=1e-12)


def test_large_numbers_do_not_overflow() -> None:
    """Only how they differ counts."""
    told = Classifier(Network(published("nsfw_marqo"), says(10_000, 9_999)))(
        noise(1, 8, 8, 3)
    )
    assert math.isclose(told["nsfw"], 1 / (1 + math.exp(-1)), rel_tol=1e-9)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_attack_a_network_that_overflows_lets_nothing_pass(broken: float) -> None:
    """What is no number stays none, and the gate refuses it."""
    told = Classifier(Network(published("nsfw_marqo"), says(broken, 0)))(
        noise(1, 8, 8, 3)
    )
    assert math.isnan(told["nsfw"])
    assert gate.judge("output", told, {"nsfw": 1.0}).over


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(3, 5), (384, 384), (900, 70), (1, 2000)])
def test_all_of_a_picture_is_squeezed_into_the_square(
    name: str, size: tuple[int, int]
) -> None:
    """Whatever its proportions; the side is the manifest's."""
    session = Session(lambda _: f32([[0.0] * len(published(name).labels)]))
    Classifier(Network(published(name), session))(noise(2, *size, 3))
    (seen,) = session.runs[0].values()
    assert seen.shape == (1, 3, NAMES[name], NAMES[name])


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
def test_attack_what_stands_at_the_edge_of_a_long_picture_is_seen(edge: str) -> None:
    """Cutting out the middle would not judge it."""
    wide = np.zeros((200, 1200, 3), np.uint8)
    wide[:, :200] = 255
    picture = {
        "left": wide,
        "right": wide[:, ::-1],
        "top": wide.transpose(1, 0, 2),
        "bottom": wide.transpose(1, 0, 2)[::-1],
    }[edge]
    session = says(0, 0)
    Classifier(Network(published("nsfw_marqo"), session))(np.ascontiguousarray(picture))
    (seen,) = session.runs[0].values()
    assert math.isclose(float((seen > 0).mean()), 1 / 6, rel_tol=0.02)


def test_fine_detail_is_averaged_not_skipped() -> None:
    """Every pixel counts, or a pattern could hide between those that do."""
    checks = u8(np.indices((1536, 1536)).sum(axis=0) % 2 * 255)
    session = says(0, 0)
    Classifier(Network(published("nsfw_marqo"), session))(np.dstack([checks] * 3))
    (seen,) = session.runs[0].values()
    assert np.abs(seen).max() < 0.01


@pytest.mark.parametrize("turned", [False, True])
def test_attack_a_strip_shows_nothing_that_is_passed_over(*, turned: bool) -> None:
    """Every pixel counts, too, where one side grows and the other shrinks."""
    strip = u8(np.indices((300, 3840)).sum(axis=0) % 10 * 28)
    picture = np.dstack([strip.T if turned else strip] * 3)
    session = says(0, 0)
    Classifier(Network(published("nsfw_marqo"), session))(picture)
    (seen,) = session.runs[0].values()
    assert np.abs(seen - (126 / 127.5 - 1)).max() < 0.01


def test_the_network_sees_rgb_in_the_manifest_s_numbers() -> None:
    """Level 255 of red is 1 in the first channel, where mean and deviation are 0.5."""
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 2] = 255
    session = says(0, 0)
    Classifier(Network(published("nsfw_marqo"), session))(red)
    (seen,) = session.runs[0].values()
    assert np.allclose(seen[0].mean(axis=(1, 2)), (1, -1, -1), atol=1e-6)


@pytest.mark.parametrize(
    "labels", [(), ("nsfw",), ("nsfw", "sfw", "other"), ("nsfw", "NSFW")]
)
def test_a_network_whose_labels_do_not_fit_does_not_load(
    labels: tuple[str, ...],
) -> None:
    """One label a number, and none twice."""
    model = structs.replace(published("nsfw_marqo"), labels=labels)
    with pytest.raises(Unfit, match="label"):
        Classifier(Network(model, says(0, 0)))


def test_a_network_that_gives_other_numbers_than_it_said_is_unfit() -> None:
    """Where the manifest leaves it open, the answer must fit the labels."""
    model = published("nsfw_marqo")
    (output,) = model.outputs
    model = structs.replace(model, outputs=(structs.replace(output, shape=(1, 0)),))
    with pytest.raises(Unfit, match="3 numbers"):
        Classifier(Network(model, says(0, 0, 0)))(noise(1, 8, 8, 3))


def test_a_classifier_has_the_name_and_the_labels_of_its_manifest() -> None:
    """They stand in the verdict."""
    classifier = Classifier(Network(published("nsfw_marqo"), says(0, 0)))
    assert (classifier.name, classifier.labels) == ("nsfw_marqo", ("nsfw", "sfw"))


def test_several_classifiers_judge_one_picture_together() -> None:
    """Each label by the network that knows it; a limit on any of them counts."""
    marqo = Network(published("nsfw_marqo"), says(0, 0))
    freepik = Network(published("nsfw_freepik"), says(0, 0, 0, 0))
    classifier = Classifier(marqo, freepik)
    told = classifier(noise(1, 8, 8, 3))
    assert classifier.name == "nsfw_marqo+nsfw_freepik"
    assert tuple(told) == classifier.labels
    assert told == {
        **dict.fromkeys(("nsfw", "sfw"), 0.5),
        **dict.fromkeys(("neutral", "low", "medium", "high"), 0.25),
    }


def test_two_classifiers_of_one_label_do_not_load() -> None:
    """Which of them a limit speaks of, nobody could say."""
    with pytest.raises(Unfit, match="a label twice"):
        Classifier(
            Network(published("nsfw_marqo"), says(0, 0)),
            Network(published("nsfw_marqo"), says(0, 0)),
        )


def test_no_classifier_is_no_gate() -> None:
    """It would judge every picture by nothing."""
    with pytest.raises(Unfit, match="no classifier"):
        Classifier()


@pytest.mark.parametrize("name", NAMES)
def test_the_published_architecture_judges_a_picture(standins: Path, name: str) -> None:
    """By the catalogue's entry, names and shapes included; the sum is 1."""
    told = Classifier(standin(published(name), standins))(noise(1, 90, 160, 3))
    assert tuple(told) == published(name).labels
    assert all(0 < probability < 1 for probability in told.values())
    assert math.isclose(sum(told.values()), 1, rel_tol=1e-9)
