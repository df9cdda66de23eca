"""The flat layout of a face: its constants, and the way there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.atlas import (
    HALF,
    affines,
    at,
    atlas,
    facing,
    scale,
    unwrap,
    visible,
)
from functions.swap.engine.swap import _place
from functions.swap.engine.topology import OVAL, POINTS, ringed, topology


def flat_face(side: float, x: float = 0, y: float = 0, turn: float = 0) -> Floats:
    """Return a mesh that is the layout itself, `side` pixels wide, turned about."""
    centred = (topology().layout[:POINTS] - 0.5) * side
    cos, sin = np.cos(turn), np.sin(turn)
    placed = centred @ f32([[cos, sin], [-sin, cos]]) + f32((x, y))
    return f32(np.column_stack((placed, np.zeros(POINTS))))


def test_the_layout_is_a_triangulation() -> None:
    """Every point is used, no triangle is used twice, and they cover a disc."""
    triangles = topology().triangles
    assert set(triangles.ravel().tolist()) == set(range(POINTS + len(OVAL)))
    assert len({tuple(sorted(three)) for three in triangles.tolist()}) == len(triangles)
    edges = len(OVAL)  # Euler: a disc of v points and b on its edge
    assert len(triangles) == 2 * (POINTS + edges) - 2 - edges


def test_the_layout_is_symmetric() -> None:
    """Each point's mirror image is where the mirror says, and back again."""
    layout, mirror = topology().layout[:POINTS], topology().mirror
    assert np.array_equal(mirror[mirror], np.arange(POINTS))
    assert np.allclose(layout[mirror], layout * (-1, 1) + (1, 0), atol=1e-6)


def test_the_regions_are_where_they_should_be() -> None:
    """Skin is not where eyes, brows and mouth are; what is kept is within the hull."""
    flat = atlas()
    assert flat.hull.max() == 1
    assert flat.hull[0].max() == 0
    assert ((flat.keep > 0.5) <= (flat.hull > 0.5)).all()
    small = flat.keep[::2, ::2]
    assert flat.skin[small > 0.5].max() == 0
    assert (flat.core <= (flat.skin > 0.5)).all()


@given(
    st.floats(40, 900),
    st.floats(-300, 300),
    st.floats(-300, 300),
    st.floats(-3, 3),
)
def test_the_map_follows_the_mesh(side: float, x: float, y: float, turn: float) -> None:
    """A point of the mesh lies at its own texel, however large, placed and turned."""
    points = flat_face(side, x, y, turn)
    assert scale(points) == pytest.approx(side, rel=1e-3)
    place = unwrap(points, HALF)
    for number in (1, 33, 263, 152, 50):
        texel = topology().layout[number] * HALF
        column, row = (int(value) for value in texel)
        reached = place[row, column] + 0.5
        assert np.abs(reached - points[number, :2]).max() < 1.5 * side / HALF


@pytest.mark.parametrize("side", [40, 150, 700])
def test_there_and_back_is_where_one_was(side: int) -> None:
    """From a pixel to the atlas and back to the picture is the same pixel."""
    points = flat_face(side, 400, 350, 0.3)
    x, y, place = _place(np.zeros((700, 800, 3), np.uint8), points)
    back = at(unwrap(points, 256), place)
    rows, columns = np.indices(place.shape[:2])
    apart = np.abs(back - np.stack((columns + x, rows + y), axis=-1)).max(axis=-1)
    inside = at(atlas().hull, place) > 0.9
    assert inside.any()
    assert np.percentile(apart[inside], 95) < 1.0


def test_a_frontal_face_is_seen_and_a_back_is_not() -> None:
    """All triangles of the layout face us; mirrored, all face away."""
    points = flat_face(200)
    assert facing(points).min() > 0.9
    assert visible(points)[HALF // 2, HALF // 2] > 0.9


def test_the_far_side_of_a_turned_face_is_not_trusted() -> None:
    """Where the mesh is pressed together, a texel is not well seen."""
    points = flat_face(200)
    points[points[:, 0] > 40, 0] = 40 + (points[points[:, 0] > 40, 0] - 40) * 0.05
    seen = visible(points)
    assert seen[HALF // 2, HALF * 3 // 10] > 0.9
    assert seen[HALF // 2, HALF * 8 // 10] < 0.3


def test_a_folded_triangle_leads_nowhere() -> None:
    """A triangle without an area maps far outside instead of dividing by zero."""
    line = f32([[0, 0], [1, 1], [2, 2]])
    table = affines(line, ringed(flat_face(10))[:3], np.array([[0, 1, 2]], np.int32))
    assert table.shape == (2, 6)
    assert (table[:, 4:] < -1000).all()
