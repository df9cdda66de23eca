"""The whole chain beside insightface 2.1: from a picture to the swapped picture.

Both begin with the same published files; ours have become a pack, and are opened as
a worker opens them.  Each goes on with what it has found itself.  One thing is given
to both: five points as float64, since insightface rounds float32 ones inside
scikit-image, by up to 2e-3 pixels of the crop (see `align.estimate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from insightface.app.common import Face as TheirFace
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from insightface.model_zoo.inswapper import INSwapper
from insightface.model_zoo.scrfd import SCRFD

from functions.swap.engine import align, runtime
from functions.swap.engine.detections import Detections
from functions.swap.engine.embedding import Embedding
from functions.swap.engine.letterbox import Passes
from functions.swap.engine.neural import NeuralEngine
from functions.swap.engine.pasteback import Paster
from functions.swap.engine.placement import Placement
from functions.swap.engine.scrfd import Scrfd
from functions.swap.job import Options
from functions.swap.media import Image
from tests.engine.neural.answers import WITHIN, opened, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from functions.swap.engine.arrays import Bytes, Matrix
    from functions.swap.engine.face import Face

    Portrait = Callable[[str], Image]

# insightface calls a function that scikit-image is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated")

PICTURES = ("collins", "hopper", "random 900x700", "random 333x512", "random 128x96")
FACES = 4


@dataclass(frozen=True)
class Peer:
    """insightface's three models over the published stand-ins."""

    detector: SCRFD
    embedder: ArcFaceONNX
    swapper: INSwapper


@pytest.fixture(scope="module")
def peer(plain: Path) -> Peer:
    weights = plain.parents[1] / "weights"
    paths = [
        weights / f"{name}.onnx" for name in ("det_10g", "w600k_r50", "inswapper_128")
    ]
    sessions = [opened(path) for path in paths]
    return Peer(
        SCRFD(str(paths[0]), session=sessions[0]),
        ArcFaceONNX(str(paths[1]), session=sessions[1]),
        INSwapper(str(paths[2]), session=sessions[2]),
    )


@pytest.fixture(scope="module")
def ours(plain: Path) -> NeuralEngine:
    return NeuralEngine.load(plain, device="cpu", threads=1)


@pytest.fixture(scope="module")
def detector(plain: Path) -> Scrfd:
    """Return the pack's detector, one pass, its boxes taken back as insightface does.

    As it is served it takes them back more exactly; see `Letterbox.fit`.
    """
    placement = Placement.of("cpu", threads=1)
    networks = runtime.load(plain, placement).networks
    [network] = [each for each in networks if each.model.contract == "scrfd"]
    return Scrfd(network, Passes(side=640, parity=True))


@pytest.fixture(params=PICTURES)
def image(request: pytest.FixtureRequest, portrait: Portrait) -> Image:
    kind, _, size = request.param.partition(" ")
    if kind != "random":
        return portrait(kind)
    width, height = map(int, size.split("x"))
    return Image(picture(width, height, seed=width), "png")


def doubles(face: Face) -> Matrix:
    """Return a face's points as float64, so that insightface rounds nothing."""
    return np.array(face.landmarks, np.float64)


def level_apart(one: Bytes, other: Bytes) -> int:
    return int(np.abs(one.astype(int) - other).max())


def found_by(detector: Scrfd, image: Image) -> list[Face]:
    faces = detector(image.pixels).faces()[:FACES]
    assert faces, "a picture that shows nobody tries nothing"
    return faces


def test_both_find_the_same(detector: Scrfd, peer: Peer, image: Image) -> None:
    """In one pass, in the same order: boxes and points to 1e-3 pixels.

    The scores differ in their last bits: preparing a network reorders its sums.
    """
    found = detector(image.pixels)
    table, points = peer.detector.detect(image.pixels, input_size=(640, 640))
    assert len(found) == len(table)
    assert np.abs(found.boxes - table[:, :4]).max() <= WITHIN
    assert np.abs(found.points - points).max() <= WITHIN
    assert np.abs(found.scores - table[:, 4]).max() < 1e-5


def test_as_it_is_served_a_square_picture_is_seen_alike(
    ours: NeuralEngine, peer: Peer, portrait: Portrait
) -> None:
    """Both passes of both, where the ratio of the sides leaves nothing to round."""
    image = portrait("collins")
    table, points = peer.detector.detect(image.pixels)
    expected = Detections(table[:, :4], points, table[:, 4]).faces()
    assert [face.box for face in ours.detect(image)] == [
        pytest.approx(face.box, abs=1e-3) for face in expected
    ]


def test_both_align_and_embed_the_same(
    ours: NeuralEngine, peer: Peer, detector: Scrfd, image: Image
) -> None:
    """The matrix to 1e-4, the embedding to a cosine above 0.99999."""
    for face in found_by(detector, image):
        points = doubles(face)
        _, matrix = swapped_by(peer, image.pixels, points, points, paste_back=False)
        assert np.abs(align.estimate(points, 128, "arcface_128") - matrix).max() < 1e-4
        raw = peer.embedder.get(image.pixels, TheirFace(kps=points))
        own = ours.identity(image, face)
        assert ours.similarity(own, Embedding(raw)) > 0.99999


def test_both_swap_the_same(
    ours: NeuralEngine, peer: Peer, detector: Scrfd, image: Image
) -> None:
    """Each with its own embedding: the crop within a level, pasted within two."""
    source, *_ = found_by(detector, image)
    who = ours.identity(image, source)
    for face in found_by(detector, image):
        worn = ours.swap(image, face, who, Options())
        points = doubles(source), doubles(face)
        expected, _ = swapped_by(peer, image.pixels, *points, paste_back=False)
        assert level_apart(worn.crop, expected) <= 1
        pasted = image.pixels.copy()
        Paster(128).parity(pasted, worn.crop, worn.matrix)
        whole = swapped_by(peer, image.pixels, *points, paste_back=True)
        assert level_apart(pasted, whole) <= 2
        assert level_apart(pasted, image.pixels) > 2  # something was swapped


def swapped_by(
    peer: Peer, pixels: Bytes, source: Matrix, target: Matrix, *, paste_back: bool
) -> Any:
    """Return what insightface makes of it: (crop, matrix), or the whole picture."""
    raw = peer.embedder.get(pixels, TheirFace(kps=source))
    return peer.swapper.get(
        pixels, TheirFace(kps=target), TheirFace(embedding=raw), paste_back=paste_back
    )
