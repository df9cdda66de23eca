"""The picture in the detector's input, and the way back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.swap.engine.arrays import Bytes, f32
from functions.swap.engine.detections import Detections
from functions.swap.engine.letterbox import Letterbox, Passes, look, size_of
from functions.swap.engine.placement import Unfit
from tests.engine.neural.answers import Session, network, picture

SQUARE = (640, 640)


def corner(x: float, y: float, score: float = 0.9) -> Detections:
    """Return a detection from the corner of its input to (x, y)."""
    points = np.full((1, 5, 2), (x, y), np.float32)
    return Detections(f32([[0, 0, x, y]]), points, f32([score]))


def watching(*, side: int = 0, height: int = 0) -> Session:
    """Return a session of the given size, 0 for any, whose answer nobody reads."""
    return Session(lambda image: [image], 1, (1, 3, height or side, side))


def seen(session: Session, pixels: Bytes, passes: Passes) -> list[tuple[int, ...]]:
    """Return the sizes of the inputs that the passes over a picture make."""
    look(network(session, "scrfd"), pixels, lambda *_: Detections.none(), passes, 0.4)
    return [image.shape[2:] for image in session.seen]


@pytest.mark.parametrize(
    ("width", "height", "fitted"),
    [
        (1920, 1080, (640, 360)),
        (1080, 1920, (360, 640)),
        (600, 400, (640, 426)),  # cut, not rounded
        (1, 1, (640, 640)),
        (3000, 1, (640, 1)),  # insightface has no pixel left here
        (1, 3000, (1, 640)),
    ],
)
def test_a_picture_lies_at_the_top_left(
    width: int, height: int, fitted: tuple[int, int]
) -> None:
    """It is resized as OpenCV does by default, and the rest of the canvas is black."""
    pixels = np.maximum(picture(width, height), 1)
    canvas = Letterbox.fit(pixels, SQUARE, 640).canvas
    across, down = fitted
    assert np.array_equal(canvas[:down, :across], cv2.resize(pixels, fitted))
    assert not canvas[down:].any()
    assert not canvas[:, across:].any()


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_there_and_back_is_where_one_was(width: int, height: int) -> None:
    """The far corner of what is drawn is the far corner of the picture."""
    pixels = np.full((1, 1, 3), 255, np.uint8)
    pixels = np.broadcast_to(pixels, (height, width, 3))
    box = Letterbox.fit(pixels, (128, 128), 128)
    drawn = box.canvas[..., 0] > 0
    down, across = drawn[:, 0].sum(), drawn[0].sum()
    back = box.back(corner(across, down))
    assert np.allclose(back.boxes[0], (0, 0, width, height), rtol=1e-5)
    assert np.allclose(back.points[0], (width, height), rtol=1e-5)


def test_insightface_shifts_what_is_at_the_right() -> None:
    """In `parity` the height's scale is taken for the width's: 9 pixels of 6000."""
    pixels = picture(6000, 4000)
    exact = Letterbox.fit(pixels, SQUARE, 640).back(corner(640, 426))
    theirs = Letterbox.fit(pixels, SQUARE, 640, parity=True).back(corner(640, 426))
    assert exact.boxes[0, 2] == pytest.approx(6000, abs=0.01)
    assert theirs.boxes[0, 2] == pytest.approx(6009.4, abs=0.1)
    assert theirs.boxes[0, 3] == exact.boxes[0, 3]


@pytest.mark.parametrize(
    ("session", "passes", "expected"),
    [
        (watching(), Passes(), [(640, 640)]),
        (watching(), Passes(side=320), [(320, 320)]),
        (watching(), Passes(coarse=128), [(128, 128), (640, 640)]),
        (watching(), Passes(side=128, coarse=128), [(128, 128)]),
        (watching(side=320), Passes(side=640), [(320, 320)]),
        (watching(side=320), Passes(coarse=128), [(320, 320), (320, 320)]),
        (watching(side=640, height=480), Passes(), [(480, 640)]),
    ],
)
def test_a_pass_is_as_large_as_it_is_told(
    session: Session, passes: Passes, expected: list[tuple[int, ...]]
) -> None:
    """The coarse pass comes first; a network of one size sees all in that size."""
    assert seen(session, picture(90, 60), passes) == expected


def test_a_network_of_one_size_sees_the_coarse_picture() -> None:
    """Its second pass is the picture at 128 pixels, on a canvas of its own size."""
    session, pixels = watching(side=320), picture(200, 100)
    seen(session, pixels, Passes(coarse=128))
    small = session.seen[0][0]
    drawn = f32(cv2.resize(pixels, (128, 64))[..., ::-1]).transpose(2, 0, 1)
    assert np.allclose(small[:, :64, :128], (drawn - 127.5) / 128)
    assert np.allclose(small[:, 64:], -127.5 / 128)
    assert np.allclose(small[:, :, 128:], -127.5 / 128)


def test_of_both_passes_the_surer_box_stays() -> None:
    """A face seen twice is one, in the picture's pixels, from the surer pass."""

    def read(outputs: object, size: tuple[int, int]) -> Detections:
        return corner(size[1] / 2, size[0] / 2, 0.9 if size[0] == 128 else 0.8)

    net, pixels = network(watching(), "scrfd"), picture(200, 200)
    found = look(net, pixels, read, Passes(coarse=128), 0.4)
    assert found.scores.tolist() == [f32(0.9)]
    assert np.allclose(found.boxes, (0, 0, 100, 100))


@pytest.mark.parametrize(
    "shape", [(1, 3, 100, 64), (1, 3, 64, 100), (1, 1, 0, 0), (1, 3), (2, 3, 0, 0), ()]
)
def test_what_takes_no_image_is_unfit(shape: tuple[int, ...]) -> None:
    """A detector's input has three channels and sides of whole cells."""
    with pytest.raises(Unfit):
        size_of(network(watching(), "scrfd", shape=shape), 0)


def test_a_side_of_no_whole_cells_is_unfit() -> None:
    """A pass is a multiple of 32 pixels, also where the network would take any."""
    with pytest.raises(Unfit, match="32"):
        size_of(network(watching(), "scrfd"), 100)


def test_channels_come_first() -> None:
    """An image with its channels last is another contract's."""
    with pytest.raises(Unfit, match="takes"):
        size_of(network(watching(), "scrfd", layout="nhwc"), 0)
