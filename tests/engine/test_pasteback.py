"""Paste-back: as insightface, but in place, in the face's region, and never astray."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from insightface.model_zoo.inswapper import INSwapper

from functions.swap.engine import masks
from functions.swap.engine.arrays import Bytes, Floats, Matrix, f32, u8
from functions.swap.engine.pasteback import Paster

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.swap.media import Image

    Read = Callable[[str], Image]

# insightface calls a function that scikit-image is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:`estimate` is deprecated")

SIDE = 128
SHIFT = np.array([20, -25, 30])  # levels: what a crop's colours are off
# ArcFace's five points in a crop of 128 pixels.
TEMPLATE = f32(
    [
        (46.2946, 51.6963),
        (81.5318, 51.5014),
        (64.0252, 71.7366),
        (49.5493, 92.3655),
        (78.7299, 92.2041),
    ]
)
PASTER = Paster(SIDE)
MATRICES = [[[math.nan, 0, 0], [0, 1, 0]], [[1, 0, math.inf], [0, 1, 0]]]
FLAT = [[[0, 0, 0], [0, 0, 0]], [[1, 2, 0], [2, 4, 0]], [[1e200, 0, 0], [0, 1e200, 0]]]


@dataclass(frozen=True)
class Pose:
    """A face in a frame: its middle in parts of the frame, its mapped side."""

    width: int
    height: int
    x: float
    y: float
    face: float
    lean: float = 0.0

    @property
    def matrix(self) -> Matrix:
        """The affine from the frame to the crop."""
        scale = SIDE / self.face
        cos, sin = math.cos(self.lean) * scale, math.sin(self.lean) * scale
        turn = np.array([[cos, sin], [-sin, cos]])
        middle = np.array([self.x * self.width, self.y * self.height])
        return np.column_stack((turn, (SIDE - 1) / 2 - turn @ middle))

    def noise(self) -> Bytes:
        """Return a frame of noise."""
        random = np.random.default_rng(self.width)
        return random.integers(0, 256, (self.height, self.width, 3), np.uint8)


poses = st.builds(
    Pose,
    st.integers(40, 400),
    st.integers(40, 400),
    st.floats(-0.2, 1.2),
    st.floats(-0.2, 1.2),
    st.floats(20, 500),
    st.floats(-math.pi, math.pi),
)


class Session:
    """A session of ONNX Runtime that has always just made the same crop."""

    def __init__(self, crop: Bytes) -> None:
        self.crop = f32(crop[..., ::-1].transpose(2, 0, 1)[np.newaxis]) / 255

    def run(self, names: list[str], feed: dict[str, object]) -> list[Floats]:
        return [f32(self.crop)]


def insightface(
    frame: Bytes, matrix: Matrix, swapped: Callable[[Bytes], Bytes]
) -> tuple[Bytes, Bytes, Matrix]:
    """Return what insightface pastes, the crop it pasted and the matrix it found."""
    back = cv2.invertAffineTransform(matrix)
    points = f32(TEMPLATE @ back[:, :2].T + back[:, 2])
    target = SimpleNamespace(kps=points)
    source = SimpleNamespace(normed_embedding=np.ones(512, np.float32))
    swapper = INSwapper.__new__(INSwapper)
    swapper.input_mean, swapper.input_std = 0.0, 255.0
    swapper.input_size = (SIDE, SIDE)
    swapper.input_names, swapper.output_names = ["target", "source"], ["output"]
    swapper.emap = np.eye(512, dtype=np.float32)
    swapper.session = Session(np.zeros((SIDE, SIDE, 3), np.uint8))
    _, found = swapper.get(frame, target, source, paste_back=False)
    swapper.session = Session(swapped(u8(cv2.warpAffine(frame, found, (SIDE, SIDE)))))
    crop, _ = swapper.get(frame, target, source, paste_back=False)
    pasted = swapper.get(frame, target, source, paste_back=True)
    return u8(pasted), u8(np.ascontiguousarray(crop)), found


def noise(_: Bytes) -> Bytes:
    return np.random.default_rng(7).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def shifted(crop: Bytes) -> Bytes:
    """Return the crop in other colours, as a swapped face would be."""
    return u8(np.clip(crop + SHIFT, 0, 255))


def shows(pose: Pose) -> bool:
    """Return whether two pixels of the face are in the frame, as insightface needs."""
    white = np.full((SIDE, SIDE), 255, np.uint8)
    size = (pose.width, pose.height)
    back = cv2.warpAffine(white, pose.matrix, size, flags=cv2.WARP_INVERSE_MAP)
    return bool((back > 20).any())


def photograph(pixels: Bytes, pose: Pose) -> Bytes:
    """Return a frame that shows a portrait."""
    size = (pose.width, pose.height)
    return u8(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def psnr(one: Bytes, other: Bytes, pose: Pose) -> float:
    """Return the likeness in decibels within the bounds of the mapped face."""
    back = cv2.invertAffineTransform(pose.matrix)
    ends = np.array([(x, y) for x in (0, SIDE - 1) for y in (0, SIDE - 1)])
    corners = ends @ back[:, :2].T + back[:, 2]
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    x1, y1 = np.ceil(corners.max(axis=0)).astype(int) + 1
    apart = one[y0:y1, x0:x1].astype(float) - other[y0:y1, x0:x1]
    return float(10 * np.log10(255**2 / np.square(apart).mean()))


@settings(deadline=None)
@given(poses)
def test_parity_is_insightfaces(pose: Pose) -> None:
    """Wherever the face is, over the edge too, `parity` is within 2 levels of it."""
    assume(shows(pose))
    frame = pose.noise()
    theirs, crop, matrix = insightface(frame, pose.matrix, noise)
    PASTER.parity(frame, crop, matrix)
    assert np.abs(frame.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("name", ["collins", "hopper"])
@pytest.mark.parametrize(
    ("face", "lean", "least"),
    [
        *((face, lean, 38) for face in (110, 300, 600) for lean in (0, -8, 15)),
        *((face, lean, 33) for face in (110, 300, 600) for lean in (45, -160)),
    ],
)
def test_fast_is_near_insightface(
    name: str, face: int, lean: int, least: float, portrait: Read
) -> None:
    """On photographs `fast` is within the decibels that its docstring states."""
    side = round(face * 1.6)
    pose = Pose(side, side, 0.5, 0.5, face, math.radians(lean))
    frame = photograph(portrait(name).pixels, pose)
    theirs, crop, matrix = insightface(frame, pose.matrix, shifted)
    before = frame.copy()
    PASTER.fast(frame, crop, matrix)
    assert psnr(frame, theirs, pose) >= least
    assert psnr(before, theirs, pose) < least - 6


@settings(deadline=None)
@given(poses, st.booleans())
def test_where_alpha_is_zero_not_a_bit_changes(pose: Pose, masked: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Beside the face, or what a mask shows of it, the frame is bit-identical."""
    low, high, mask = np.array([0, 0]), np.array([SIDE, SIDE]) - 1, None
    if masked:
        low, high, mask = np.array([30, 40]), np.array([59, 79]), masks.box(SIDE) * 0
        mask[40:80, 30:60] = 1
    black, white, frame = pose.noise(), pose.noise(), pose.noise()
    PASTER.fast(black, np.zeros((SIDE, SIDE, 3), np.uint8), pose.matrix, mask)
    PASTER.fast(white, np.full((SIDE, SIDE, 3), 255, np.uint8), pose.matrix, mask)
    ys, xs = np.indices(frame.shape[:2])
    place = np.stack((xs, ys, np.ones_like(xs)), axis=-1) @ pose.matrix.T
    reach = 1.5 * max(1, SIDE / pose.face)  # of a pixel, reduced and interpolated
    outside = ((place < low - reach) | (place > high + reach)).any(axis=-1)
    assert np.array_equal(black[outside], frame[outside])
    assert np.array_equal(white[outside], frame[outside])


@settings(deadline=None)
@given(poses)
def test_the_middle_of_a_face_is_the_crops(pose: Pose) -> None:
    """Inside its rim a crop replaces the frame, as one warp of it would."""
    assume(pose.face > SIDE / 2)
    frame, crop = pose.noise(), noise(pose.noise())
    PASTER.fast(frame, crop, pose.matrix)
    size, flags = (pose.width, pose.height), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    whole = cv2.warpAffine(crop, pose.matrix, size, flags=flags)
    inner = np.zeros((SIDE, SIDE), np.uint8)
    inner[16:-16, 16:-16] = 255
    solid = cv2.warpAffine(inner, pose.matrix, size, flags=flags) == 255
    assert np.abs(frame[solid].astype(int) - whole[solid]).max(initial=0) <= 1


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_crop_like_its_frame_is_not_seen(level: int) -> None:
    """Pasting what is there already changes nothing by more than a level."""
    pose = Pose(300, 300, 0.4, 0.6, 200, 0.3)
    frame = np.full((300, 300, 3), level, np.uint8)
    PASTER.fast(frame, np.full((SIDE, SIDE, 3), level, np.uint8), pose.matrix)
    assert np.abs(frame.astype(int) - level).max() <= 1


def test_a_face_has_no_hard_edge() -> None:
    """Across the rim of a white face on black, neighbours are near one another."""
    pose = Pose(600, 600, 0.5, 0.5, 480, 0.4)
    frame = np.zeros((600, 600, 3), np.uint8)
    PASTER.fast(frame, np.full((SIDE, SIDE, 3), 255, np.uint8), pose.matrix)
    grey = frame[..., 0].astype(int)
    steps = max(int(np.abs(np.diff(grey, axis=axis)).max()) for axis in (0, 1))
    assert frame.max() == 255
    assert steps <= 14  # a deviation of 0.016 of 480 pixels: 255 / (7.7 sqrt(2 pi))


def test_a_mask_is_multiplied_into_the_alpha() -> None:
    """Half a mask shows half the crop; none shows none, and NaN counts as none."""
    pose = Pose(300, 300, 0.5, 0.5, 200)
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for value, level in ((1.0, 255), (0.5, 128), (0.0, 0), (math.nan, 0)):
        frame = np.zeros((300, 300, 3), np.uint8)
        mask = np.full((SIDE, SIDE), value, np.float32)
        PASTER.fast(frame, white, pose.matrix, mask)
        assert abs(int(frame[150, 150, 0]) - level) <= 1


def test_a_full_mask_is_no_mask() -> None:
    """With a mask all the face goes through the mixing, with the same result."""
    pose = Pose(300, 400, 0.5, 0.4, 290, -0.2)
    plain, masked, crop = pose.noise(), pose.noise(), noise(pose.noise())
    PASTER.fast(plain, crop, pose.matrix)
    PASTER.fast(masked, crop, pose.matrix, np.ones((SIDE, SIDE), np.float32))
    assert np.array_equal(plain, masked)
    assert not np.array_equal(plain, pose.noise())


def test_a_reduced_crop_does_not_alias() -> None:
    """A chessboard of single pixels on a small face is grey and no moiré."""
    pose = Pose(60, 60, 0.5, 0.5, 23.7, 0.2)
    board = u8(np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 255)
    frame = np.full((60, 60, 3), 128, np.uint8)
    PASTER.fast(frame, np.dstack((board, board, board)), pose.matrix)
    assert np.abs(frame.astype(int) - 128).max() <= 3


def test_a_reduced_crop_lies_where_the_face_is() -> None:
    """However much is reduced, the middle of the crop is the middle of the face."""
    for face in (16, 30, 60, 120):
        frame = np.zeros((200, 200, 3), np.uint8)
        white = np.full((SIDE, SIDE, 3), 255, np.uint8)
        PASTER.fast(frame, white, Pose(200, 200, 0.3, 0.6, face).matrix)
        ys, xs = np.indices((200, 200))
        weight = frame[..., 0] / frame[..., 0].sum()
        assert abs(float((xs * weight).sum()) - 60) < 0.05
        assert abs(float((ys * weight).sum()) - 120) < 0.05


@pytest.mark.parametrize("method", [PASTER.fast, PASTER.parity])
@pytest.mark.parametrize(
    "pose",
    [
        Pose(200, 100, -3, 0.5, 100),
        Pose(200, 100, 0.5, 9, 100, 1.0),
        Pose(200, 100, 1e6, 1e6, 100),
    ],
)
def test_a_face_beyond_the_frame_draws_nothing(
    method: Callable[[Bytes, Bytes, Matrix], None], pose: Pose
) -> None:
    """A face that is wholly outside leaves the frame as it is."""
    frame = pose.noise()
    method(frame, noise(frame), pose.matrix)
    assert np.array_equal(frame, pose.noise())


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e10, 1e10), min_size=6, max_size=6),
    st.sampled_from([(1, 1), (1, 90), (64, 48), (0, 5)]),
)
def test_any_matrix_draws_or_is_refused(
    entries: list[float], size: tuple[int, int]
) -> None:
    """Whatever the matrix, it is drawn or refused by name; OpenCV raises nothing."""
    frame = np.zeros((*size, 3), np.uint8)
    matrix = np.array(entries).reshape(2, 3)
    for method in (PASTER.fast, PASTER.parity):
        try:
            method(frame, noise(frame), matrix)
        except ValueError as error:
            assert str(error).startswith("the matrix of a crop")  # noqa: PT017 - either is right


@pytest.mark.parametrize("face", [0.01, 0.7, 3, 1e5, 1e7])
def test_a_tiny_or_huge_face_is_drawn(face: float) -> None:
    """A face of less than a pixel, and one larger than its frame, are no error."""
    frame = np.zeros((48, 64, 3), np.uint8)
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    PASTER.fast(frame, white, Pose(64, 48, 0.5, 0.5, face).matrix)
    assert bool(frame.min() == 255) is (face > 100)


@pytest.mark.parametrize("matrix", [*MATRICES, *FLAT, [[1, 0], [0, 1]]])
@pytest.mark.parametrize("method", [PASTER.fast, PASTER.parity])
def test_a_matrix_that_is_no_place_is_refused(
    method: Callable[[Bytes, Bytes, Matrix], None], matrix: list[list[float]]
) -> None:
    """Not finite, without an inverse or of another shape: a ValueError says so."""
    frame = np.zeros((50, 50, 3), np.uint8)
    with pytest.raises(ValueError, match="matrix of a crop"):
        method(frame, noise(frame), np.array(matrix, np.float64))
    assert not frame.any()


@pytest.mark.parametrize(
    ("frame", "crop", "mask"),
    [
        (np.zeros((50, 50), np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8), None),
        (np.zeros((50, 50, 4), np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8), None),
        (np.zeros((50, 50, 3)), np.zeros((SIDE, SIDE, 3), np.uint8), None),
        (
            np.zeros((50, 50, 3), np.uint8)[:, ::-1],
            np.zeros((SIDE, SIDE, 3), np.uint8),
            None,
        ),
        (np.zeros((50, 50, 3), np.uint8), np.zeros((64, 64, 3), np.uint8), None),
        (np.zeros((50, 50, 3), np.uint8), np.zeros((SIDE, SIDE, 3)), None),
        (
            np.zeros((50, 50, 3), np.uint8),
            np.zeros((SIDE, SIDE, 3), np.uint8),
            np.zeros((64, 64), np.float32),
        ),
    ],
)
def test_another_kind_of_array_is_refused(
    frame: Bytes, crop: Bytes, mask: Floats | None
) -> None:
    """A frame, crop or mask of another shape or type is a ValueError, not OpenCV's."""
    with pytest.raises(ValueError, match=r"a (frame|crop|mask) is"):
        PASTER.fast(frame, crop, Pose(50, 50, 0.5, 0.5, 20).matrix, mask)


def test_a_frame_that_cannot_be_drawn_into_is_refused() -> None:
    """A read-only frame is a ValueError."""
    frame = np.zeros((50, 50, 3), np.uint8)
    frame.flags.writeable = False
    with pytest.raises(ValueError, match="can be drawn into"):
        PASTER.fast(frame, noise(frame), Pose(50, 50, 0.5, 0.5, 20).matrix)


@pytest.mark.parametrize("side", [2, 3, 5, 112, 256])
def test_any_size_of_crop_is_pasted(side: int) -> None:
    """The smallest crops, and those of other families, are drawn at their place."""
    frame = np.zeros((200, 200, 3), np.uint8)
    scale = side / 100
    matrix = np.array([[scale, 0, -50 * scale], [0, scale, -50 * scale]])
    Paster(side).fast(frame, np.full((side, side, 3), 255, np.uint8), matrix)
    ys, xs = np.nonzero(frame[..., 0])
    assert frame.max() > 100
    assert (abs(xs - 100).max() <= 100, abs(ys - 100).max() <= 100) == (True, True)
    assert not frame[:40, :40].any() or side <= 5


def test_threads_do_not_share_buffers() -> None:
    """One paster pastes in many threads at once as in one alone."""
    jobs = [Pose(400, 300, 0.5, 0.5, 60 + 11 * n, n / 5) for n in range(24)]
    paster = Paster(SIDE)

    def paste(pose: Pose) -> Bytes:
        frame = pose.noise()
        random = np.random.default_rng(round(pose.face))
        crop = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        paster.fast(frame, crop, pose.matrix)
        return frame

    alone = [paste(pose) for pose in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(paste, jobs * 8))
    for index, frame in enumerate(together):
        assert np.array_equal(frame, alone[index % len(jobs)])


def test_the_crop_and_the_mask_are_left_alone() -> None:
    """What is handed in is read only."""
    pose, crop = Pose(300, 300, 0.5, 0.5, 40), noise(np.zeros((1, 1, 3), np.uint8))
    mask = masks.box(SIDE)
    before = crop.copy(), mask.copy()
    PASTER.fast(pose.noise(), crop, pose.matrix, mask)
    PASTER.parity(pose.noise(), crop, pose.matrix)
    assert np.array_equal(crop, before[0])
    assert np.array_equal(mask, before[1])
