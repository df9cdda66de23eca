"""The inswapper contract: insightface's crop, from insightface's latent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from insightface.app.common import Face
from insightface.model_zoo.inswapper import INSwapper
from onnx import numpy_helper

from functions.swap.engine import align
from functions.swap.engine.arrays import Bytes, Floats, f32
from functions.swap.engine.embedding import Embedding
from functions.swap.engine.inswapper import Inswapper
from functions.swap.engine.placement import Unfit
from functions.swap.engine.runtime import Network
from tests.engine.neural.networks import (
    Session,
    faces,
    noise,
    opened,
    published,
    vector,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.swap.engine.swapper import Swapper
    from functions.swap.media import Image

# insightface calls a function that scikit-image is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated")

MODEL = published("inswapper_128")
IDENTITY = np.eye(512, dtype=np.float32)
BRIGHT = 0.7  # what the fake network adds to a picture, times the latent's first


def brightened(target: Floats, source: Floats) -> Floats:
    """Answer with the picture, brighter by the latent's first number."""
    return f32(target + BRIGHT * source[:, :1, np.newaxis, np.newaxis])


def fake(
    at_once: int = 1, answer: Callable[..., Floats] = brightened
) -> tuple[Inswapper, Session]:
    session = Session(answer)
    model = published("inswapper_128", at_once=at_once)
    return Inswapper(Network(model, session), IDENTITY), session


def latent(first: float) -> Floats:
    row = np.zeros((1, 512), np.float32)
    row[0, 0] = first
    return row


def of(standins: Path) -> tuple[Inswapper, INSwapper]:
    """Return the stand-in as ours and as insightface's, over one session."""
    path = standins / "inswapper_128.onnx"
    emap = numpy_helper.to_array(onnx.load(path).graph.initializer[-1])
    network = opened(MODEL, path)
    theirs = INSwapper(str(path), session=network.session)
    return Inswapper(network, f32(emap)), theirs


def furthest(one: Bytes, other: Bytes) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("picture", ["noise", "collins"])
def test_the_crop_is_insightfaces(
    picture: str, standins: Path, portrait: Callable[[str], Image]
) -> None:
    """From frame to swapped crop, every value is within a level of `INSwapper.get`."""
    ours, theirs = of(standins)
    pixels = noise(6, 480, 640, 3) if picture == "noise" else portrait(picture).pixels
    for seed, points in enumerate(faces(6)):
        raw = vector(seed)
        expected, matrix = theirs.get(
            pixels, Face(kps=points), Face(embedding=raw), paste_back=False
        )
        place = align.estimate(points, ours.side, ours.template)
        crop = align.crop(pixels, place, ours.side)
        swapped = ours(crop, ours.latent(Embedding(raw)))
        assert np.abs(place - matrix).max() < 1e-4
        assert furthest(swapped, expected) <= 1


def test_the_latent_is_insightfaces(standins: Path) -> None:
    """An embedding goes normed through the map, and is normed again."""
    ours, theirs = of(standins)
    for seed in range(5):
        raw = vector(seed)
        mapped = Face(embedding=raw).normed_embedding.reshape((1, -1)) @ theirs.emap
        mapped /= np.linalg.norm(mapped)
        found = ours.latent(Embedding(raw))
        assert found.shape == (1, 512)
        assert found.dtype == np.float32
        assert np.abs(found - mapped).max() < 1e-7


def test_the_latent_tells_the_identity(standins: Path) -> None:
    """Another source gives another crop, and the same one the same."""
    ours, _ = of(standins)
    crop = noise(7, 128, 128, 3)
    one, other = (ours.latent(Embedding(vector(seed))) for seed in (1, 2))
    assert np.array_equal(ours(crop, one), ours(crop, one))
    assert not np.array_equal(ours(crop, one), ours(crop, other))


def test_levels_come_back_as_they_went() -> None:
    """A picture that the network leaves alone is at most a level off, blue is blue."""
    ours, session = fake()
    crop = noise(8, 128, 128, 3)
    back = ours(crop, latent(0))
    assert furthest(back, crop) <= 1
    assert session.runs[0]["target"].min() == 0
    assert np.allclose(session.runs[0]["target"][0, 0], crop[..., 2] / np.float32(255))


@pytest.mark.parametrize(
    ("value", "level"),
    [(0.5, 127), (0.99999, 254), (1, 255), (1.5, 255), (0.9 / 255, 0), (-1, 0)],
)
def test_levels_are_cut_as_insightface_cuts(value: float, level: int) -> None:
    """255 x is cut to 0 to 255, and then to the whole number below."""
    ours, _ = fake(answer=lambda target, _: np.full_like(target, value))
    assert (ours(noise(9, 128, 128, 3), latent(0)) == level).all()


def test_the_crop_is_new_and_whole() -> None:
    """What goes in is not written to, and what comes out can be pasted as it lies."""
    answers: list[Floats] = []

    def kept(target: Floats, source: Floats) -> Floats:
        answers.append(brightened(target, source))
        return answers[-1]

    ours, _ = fake(answer=kept)
    crop = noise(10, 128, 128, 3)
    before = crop.copy()
    swapped = ours(crop, latent(1))
    assert np.array_equal(crop, before)
    assert answers[0].max() <= 1 + BRIGHT  # the network's own memory is left alone
    assert swapped.shape == (128, 128, 3)
    assert swapped.dtype == np.uint8
    assert swapped.flags.c_contiguous
    assert swapped.flags.writeable


def test_a_network_that_answers_nonsense_is_refused() -> None:
    """What is no number is an error, not a black face."""

    def nonsense(target: Floats, _: Floats) -> Floats:
        target[0, 1, 5, 5] = math.nan
        return target

    ours, _ = fake(answer=nonsense)
    with pytest.raises(FloatingPointError, match="inswapper_128"):
        ours(noise(11, 128, 128, 3), latent(0))


@pytest.mark.parametrize(
    ("at_once", "runs"), [(0, [8, 8, 1]), (1, [1] * 17), (6, [6, 6, 5])]
)
def test_many_faces_are_each_itself(at_once: int, runs: list[int]) -> None:
    """In as few runs as the network's first axis allows, each has its own latent."""
    ours, session = fake(at_once)
    crops = [noise(seed, 128, 128, 3) for seed in range(17)]
    latents = [latent(seed / 17) for seed in range(17)]
    painted = ours.several(crops, latents)
    assert [len(run["target"]) for run in session.runs] == runs
    for crop, own, result in zip(crops, latents, painted, strict=True):
        assert np.array_equal(result, ours(crop, own))


def test_no_face_is_no_run() -> None:
    """Of no crops there are none, and the network is left alone."""
    ours, session = fake(0)
    assert ours.several([], []) == []
    assert session.runs == []


def test_a_latent_belongs_to_each_face() -> None:
    """Faces without a latent of their own are a mistake, not painted with another's."""
    ours, _ = fake(0)
    with pytest.raises(ValueError, match="1 latents for 2"):
        ours.several([noise(1, 128, 128, 3)] * 2, [latent(0)])


def test_it_is_a_swapper() -> None:
    """The engine asks it for its side and for how a face must lie."""
    ours: Swapper = fake()[0]
    assert (ours.side, ours.template) == (128, "arcface_128")


@pytest.mark.parametrize("shape", [(512,), (1, 512), (256, 512)])
def test_a_map_of_another_shape_is_unfit(shape: tuple[int, ...]) -> None:
    """Only a map of 512 by 512 is an inswapper's."""
    with pytest.raises(Unfit, match="emap"):
        Inswapper(Network(MODEL, Session(brightened)), np.ones(shape, np.float32))


def test_a_map_that_is_no_number_is_unfit() -> None:
    """A broken map is found when it is loaded, not in a face."""
    with pytest.raises(Unfit, match="emap"):
        Inswapper(Network(MODEL, Session(brightened)), IDENTITY * np.nan)


@pytest.mark.parametrize(
    "lacks", [{"template": None}, {"vectors": ()}, {"input": "any size"}]
)
def test_a_manifest_that_is_no_swappers_is_unfit(lacks: dict[str, object]) -> None:
    """A template, one latent and a size are said by the manifest, never guessed."""
    if "input" in lacks:
        lacks = {"input": msgspec.structs.replace(MODEL.input, shape=(1, 3, 0, 0))}
    model = msgspec.structs.replace(MODEL, **lacks)
    with pytest.raises(Unfit, match="inswapper_128"):
        Inswapper(Network(model, Session(brightened)), IDENTITY)


def test_colours_follow_the_manifest() -> None:
    """A network that takes blue first gives blue first."""
    blue = msgspec.structs.replace(MODEL.input, order="bgr")
    model = msgspec.structs.replace(MODEL, input=blue)
    session = Session(brightened)
    crop = noise(12, 128, 128, 3)
    back = Inswapper(Network(model, session), IDENTITY)(crop, latent(0))
    assert np.allclose(session.runs[0]["target"][0, 0], crop[..., 0] / np.float32(255))
    assert furthest(back, crop) <= 1
