"""Identity: insightface's embedding, of one face or of many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from insightface.app.common import Face
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from msgspec.structs import replace

from functions.swap.engine import align
from functions.swap.engine.arcface import ArcFace
from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.embedding import Embedding, similarity
from functions.swap.engine.placement import Unfit
from functions.swap.engine.runtime import Network
from tests.engine.neural.networks import (
    Session,
    faces,
    noise,
    opened,
    published,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.swap.media import Image

# insightface calls a function that scikit-image is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated")

MODEL = published("w600k_r50")


def told(image: Floats) -> Floats:
    """Answer with an embedding that tells the mean of each picture."""
    rows = np.ones((len(image), 512), np.float32)
    rows[:, 0] = image.mean(axis=(1, 2, 3))
    return rows


@pytest.mark.parametrize("name", ["w600k_r50", "w600k_mbf"])
def test_the_embedding_is_insightfaces(
    name: str, standins: Path, portrait: Callable[[str], Image]
) -> None:
    """On noise and on a portrait, the cosine to ArcFaceONNX's is above 0.99999."""
    path = standins / f"{name}.onnx"
    network = opened(published(name), path)
    theirs = ArcFaceONNX(str(path), session=network.session)
    for pixels in (noise(3, 480, 640, 3), portrait("collins").pixels):
        for points in faces(4):
            ours = ArcFace(network).embed(pixels, points)
            raw = theirs.get(pixels, Face(kps=points))
            assert similarity(ours, Embedding(raw)) > 0.99999
            assert ours.length == pytest.approx(float(np.linalg.norm(raw)), rel=1e-3)


def test_many_faces_are_each_itself(standins: Path) -> None:
    """Faces embedded in one run are what each is alone."""
    embedder = ArcFace(opened(MODEL, standins / "w600k_r50.onnx"))
    pixels, several = noise(4, 480, 640, 3), faces(5)
    for points, embedding in zip(
        several, embedder.embed_all(pixels, several), strict=True
    ):
        assert similarity(embedding, embedder.embed(pixels, points)) > 0.99999


def test_the_network_sees_levels_from_minus_1_to_1() -> None:
    """A pixel p comes in as (p - 127.5) / 127.5, red first, aligned."""
    session = Session(told)
    pixels = np.full((112, 112, 3), (0, 51, 255), np.uint8)
    points = align.points_of("arcface_112", 112)
    ArcFace(Network(MODEL, session)).embed(pixels, points)
    (given,) = session.runs[0].values()
    assert given.shape == (1, 3, 112, 112)
    assert np.allclose(given[0, :, 70, 56], (1, -0.6, -1), atol=1e-6)


@pytest.mark.parametrize(
    ("at_once", "runs"), [(0, [16, 4]), (1, [1] * 20), (6, [6, 6, 6, 2])]
)
def test_a_run_holds_what_the_network_takes(at_once: int, runs: list[int]) -> None:
    """A network that takes any number is given sixteen, one that takes one, one."""
    session = Session(told)
    embedder = ArcFace(Network(published("w600k_r50", at_once=at_once), session))
    pixels, several = noise(5, 480, 640, 3), faces(20)
    found = embedder.embed_all(pixels, several)
    assert [len(*run.values()) for run in session.runs] == runs
    alone = [embedder.embed(pixels, points).raw[0] for points in several]
    assert np.allclose([each.raw[0] for each in found], alone, atol=1e-6)


def test_no_face_is_no_run() -> None:
    """Of no faces there are no embeddings, and the network is left alone."""
    session = Session(told)
    assert ArcFace(Network(MODEL, session)).embed_all(noise(1, 9, 9, 3), []) == []
    assert session.runs == []


def test_no_face_in_five_points() -> None:
    """Points that are no face are refused before the network sees anything."""
    session = Session(told)
    with pytest.raises(align.Degenerate):
        ArcFace(Network(MODEL, session)).embed(noise(1, 9, 9, 3), f32(np.ones((5, 2))))
    assert session.runs == []


def test_a_network_that_answers_nonsense_is_refused() -> None:
    """An embedding that is no number never reaches a swapper."""
    session = Session(lambda image: told(image) * np.float32(np.nan))
    with pytest.raises(ValueError, match="direction"):
        ArcFace(Network(MODEL, session)).embed(noise(1, 99, 99, 3), faces(1)[0])


def test_a_manifest_without_a_template_is_unfit() -> None:
    """How a face lies is said by the manifest, never guessed."""
    with pytest.raises(Unfit, match="template"):
        ArcFace(Network(replace(MODEL, template=None), Session(told)))
