"""Masks in a crop's own square: the rim, the outline, and what is in front."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.swap.engine import masks
from functions.swap.engine.arrays import Floats, f32

SIDE = 128
FIVE = f32([(46, 52), (82, 52), (64, 72), (50, 92), (79, 92)])


def ring(count: int, radius: float = 40.0) -> Floats:
    """Return points around the middle of the crop."""
    turn = np.linspace(0, math.tau, count, endpoint=False)
    return f32(
        np.column_stack((64 + radius * np.cos(turn), 64 + radius * np.sin(turn)))
    )


def is_mask(mask: Floats, side: int = SIDE) -> bool:
    """Return whether it is (side, side) float32 from 0 to 1."""
    right = mask.shape == (side, side) and mask.dtype == np.float32
    return bool(right and mask.min() >= 0 and mask.max() <= 1)


@pytest.mark.parametrize("side", [112, 128, 256, 512])
def test_the_box_is_full_inside_and_gone_at_the_edge(side: int) -> None:
    """A tenth inside the crop it is opaque, at the crop's edge as good as clear."""
    box = masks.box(side)
    inner = side // 10
    assert is_mask(box, side)
    assert box[inner:-inner, inner:-inner].min() > 0.99
    assert max(box[0].max(), box[-1].max(), box[:, 0].max(), box[:, -1].max()) < 0.01


def test_the_box_is_the_same_from_all_sides() -> None:
    """It does not change when the crop is turned or mirrored."""
    box = masks.box(SIDE)
    assert np.array_equal(box, box.T)
    assert np.array_equal(box, box[::-1])


def test_the_box_falls_from_the_middle() -> None:
    """Nowhere does it rise towards the edge."""
    row = masks.box(SIDE)[SIDE // 2, SIDE // 2 :]
    assert (np.diff(row) <= 0).all()


def test_five_points_become_a_face() -> None:
    """Cheeks, brows and chin are in; the corners of the crop are not."""
    hull = masks.hull(SIDE, FIVE)
    assert is_mask(hull)
    for x, y in (*FIVE.astype(int), (36, 75), (92, 75), (64, 30), (64, 112)):
        assert hull[y, x] > 0.8
    assert max(hull[5, 5], hull[5, 122], hull[122, 5], hull[122, 122]) < 0.01


@given(st.floats(-math.pi, math.pi), st.floats(0.4, 1.2))
def test_the_outline_follows_the_points(turn: float, scale: float) -> None:
    """Landmarks that lean or shrink take the outline along."""
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    moved = f32((FIVE - 64) @ np.array([[cos, sin], [-sin, cos]]) + 64)
    hull = masks.hull(SIDE, moved)
    xs, ys = moved.round().astype(int).T
    assert hull[ys, xs].min() > 0.6
    area = float(masks.hull(SIDE, FIVE).sum()) * scale**2
    assert float(hull.sum()) == pytest.approx(area, rel=0.1)


@pytest.mark.parametrize("count", [106, 468, 478])
def test_a_mesh_is_its_convex_hull(count: int) -> None:
    """What the mesh encloses is in, whatever lies far outside is not."""
    points = ring(count)
    points[::3] = 64 + (points[::3] - 64) / 2
    hull = masks.hull(SIDE, points)
    ys, xs = np.indices((SIDE, SIDE))
    far = np.hypot(xs - 64, ys - 64)
    assert is_mask(hull)
    assert hull[far < 28].min() > 0.95
    assert hull[far > 54].max() < 0.01


def test_a_mesh_may_have_depth() -> None:
    """A third coordinate is left aside."""
    flat = ring(468)
    deep = f32(np.column_stack((flat, np.arange(468))))
    assert np.array_equal(masks.hull(SIDE, deep), masks.hull(SIDE, flat))


def test_an_outline_over_the_crops_edge_stays_full_there() -> None:
    """What the crop cuts off does not soften what is left."""
    hull = masks.hull(SIDE, ring(106, 200.0))
    assert hull.min() == 1


@pytest.mark.parametrize(
    "points", [ring(5)[:4], ring(68), f32(np.zeros((0, 2))), f32(np.zeros(5))]
)
def test_another_number_of_points_is_refused(points: Floats) -> None:
    """Landmarks of a kind we do not know are no outline."""
    with pytest.raises(ValueError, match="landmarks are 5"):
        masks.hull(SIDE, points)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_landmark_that_is_no_number_is_refused(bad: float) -> None:
    """NaN and infinity are no place."""
    points = FIVE.copy()
    points[2, 1] = bad
    with pytest.raises(ValueError, match="not a number"):
        masks.hull(SIDE, points)


@pytest.mark.parametrize("far", [0.0, 1e30])
def test_hopeless_points_are_no_error(far: float) -> None:
    """Landmarks all in one place, or nowhere near, still give a mask."""
    assert is_mask(masks.hull(SIDE, np.full((5, 2), far, np.float32)))


def test_a_parsers_classes_are_told_apart() -> None:
    """Skin and lips are the face; background, glasses and hair are not."""
    labels = np.array([[0, 1, 6], [12, 17, 255]], np.uint8)
    assert masks.visible(labels).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert masks.visible(labels, (17,)).tolist() == [[0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (512, 512), (90, 300)])
def test_what_is_in_front_is_not_painted_over(size: tuple[int, int]) -> None:
    """Over the hand the mask is near 0, away from it 1, and it has no hard edge."""
    seen = np.ones(size, np.float32)
    seen[:, : size[1] // 2] = 0
    mask = masks.occlusion(SIDE, seen)
    assert is_mask(mask)
    assert mask[:, :64].max() < 0.06
    assert mask[:, 80:].min() > 0.99
    assert np.abs(np.diff(mask, axis=1)).max() < 0.25


def test_a_face_with_nothing_in_front_is_whole() -> None:
    """Where the parser sees the face everywhere, the crop shows up to its edge."""
    assert masks.occlusion(SIDE, np.ones((512, 512), bool)).min() > 0.999


def test_what_a_parser_does_not_know_is_not_painted() -> None:
    """NaN is no face."""
    assert masks.occlusion(SIDE, np.full((64, 64), math.nan, np.float32)).max() == 0
