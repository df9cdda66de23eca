"""Detections as values: what is kept of them, and which is which."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.detections import (
    Detections,
    cells,
    rows,
    sane,
    suppress,
)
from functions.swap.engine.placement import Unfit

SIZE = (640, 640)
BOX = (10.0, 20.0, 110.0, 140.0)


def found(*placed: tuple[float, ...]) -> Detections:
    """Return detections given as x0, y0, x1, y1, score; points at the first corner."""
    table = f32(placed).reshape(-1, 5)
    points = np.repeat(table[:, np.newaxis, :2], 5, axis=1)
    return Detections(table[:, :4], points, table[:, 4])


def naive(boxes: Floats, scores: Floats, overlap_max: float) -> list[int]:
    """Return which boxes greedy suppression keeps, one pair at a time."""

    def overlap(a: int, b: int) -> np.float32:
        one, other = boxes[a], boxes[b]
        shared = np.minimum(one, other)[2:] - np.maximum(one, other)[:2] + 1
        both = np.float32(max(shared[0], 0)) * np.float32(max(shared[1], 0))
        return np.float32(both / (area(one) + area(other) - both))

    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(overlap(better, index) <= np.float32(overlap_max) for better in kept):
            kept.append(index)
    return kept


def area(box: Floats) -> np.float32:
    return np.float32((box[2] - box[0] + 1) * (box[3] - box[1] + 1))


placed = arrays(np.float32, (4,), elements=st.floats(0, 60, width=16)).map(
    lambda v: (*v[:2], *(v[:2] + v[2:] + 1))
)
scored = st.tuples(placed, st.sampled_from((0.5, 0.6, 0.7, 0.8, 0.9)))


@given(st.lists(scored, max_size=40), st.sampled_from((0.3, 0.4, 0.9)))
def test_suppression_is_greedy(
    rows_given: list[tuple[tuple[float, ...], float]], overlap_max: float
) -> None:
    """What is kept, and in which order, is what comparing pair by pair keeps."""
    some = found(*((*box, score) for box, score in rows_given))
    kept = naive(some.boxes, some.scores, overlap_max)
    left = suppress(some, overlap_max)
    assert np.array_equal(left.boxes, some.boxes[kept])
    assert np.array_equal(left.scores, some.scores[kept])


def test_a_side_counts_both_ends() -> None:
    """Boxes of 10 x 10 pixels, 0 to 9, that share 40 of 100 + 60 are not the same."""
    both = found((0, 0, 9, 9, 0.9), (0, 0, 3, 9, 0.8))
    assert len(suppress(both, 0.4)) == 2
    assert len(suppress(both, 0.399)) == 1


def test_of_equal_scores_the_first_wins() -> None:
    """A pass that comes first keeps its box where another is as sure."""
    left = suppress(found((0, 0, 50, 50, 0.8), (1, 1, 51, 51, 0.8)), 0.4)
    assert left.boxes.tolist() == [[0, 0, 50, 50]]


def test_points_go_with_their_box() -> None:
    """Sorting moves boxes, points and scores together."""
    left = suppress(found((0, 0, 50, 50, 0.6), (70, 80, 99, 99, 0.9)), 0.4)
    assert left.scores.tolist() == [f32(0.9), f32(0.6)]
    assert left.points[:, 0].tolist() == [[70, 80], [0, 0]]


def test_there_is_an_end_to_faces() -> None:
    """Of more faces than anybody asks for, the best 1024 are kept."""
    many = np.arange(1500)
    boxes = np.stack((many * 9, many * 0, many * 9 + 5, many * 0 + 5), axis=1)
    points = np.zeros((1500, 5, 2), np.float32)
    scores = f32(1 - many / 1e4)
    left = suppress(Detections(f32(boxes), points, scores), 0.4)
    assert np.array_equal(left.scores, scores[:1024])


def test_nothing_stays_nothing() -> None:
    """No detection is no fault, at any step."""
    none = Detections.none()
    assert len(sane(suppress(Detections.join([none, none]), 0.4), SIZE)) == 0
    assert none.faces() == []


@pytest.mark.parametrize("shape", [(6, 4), (1, 6, 4)])
def test_rows_are_read_where_they_lie(shape: tuple[int, ...]) -> None:
    """An output of rank 2, or of rank 3 for a batch of one, is not copied."""
    output = np.zeros(shape, np.float32)
    assert rows("n", output, 6, 4).shape == (6, 4)
    assert np.shares_memory(rows("n", output, 6, 4), output)


@pytest.mark.parametrize(
    "shape", [(5, 4), (6, 3), (4, 6), (24,), (2, 3, 4), (2, 6, 4), (1, 1, 6, 4), (0, 4)]
)
def test_an_output_of_another_shape_is_unfit(shape: tuple[int, ...]) -> None:
    """As many numbers in another order are not the contract's."""
    with pytest.raises(Unfit, match="n: an output is"):
        rows("n", np.zeros(shape, np.float32), 6, 4)


def test_cells_are_counted_row_by_row() -> None:
    """The seventh cell of rows of three is the first of the third."""
    assert cells(np.array([0, 2, 6]), 3).tolist() == [[0, 0], [2, 0], [0, 2]]


@pytest.mark.parametrize(
    "wild",
    [
        (np.nan, 20, 110, 140, 0.9),
        (10, -np.inf, 110, 140, 0.9),
        (10, 20, 10, 140, 0.9),  # no width
        (10, 140, 110, 20, 0.9),  # inside out
        (10, 20, 1e30, 140, 0.9),
        (-2561, 20, 110, 140, 0.9),
        (*BOX, 1.5),
        (*BOX, np.inf),
        (*BOX, np.nan),
    ],
)
def test_no_wild_box_is_a_face(wild: tuple[float, ...]) -> None:
    """What is no number, no probability or no place is left out, and only that."""
    left = sane(found((*BOX, 0.8), wild, (*BOX, 0.7)), SIZE)
    assert left.scores.tolist() == [f32(0.8), f32(0.7)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -2561, 2561])
def test_no_wild_point_is_a_landmark(value: float) -> None:
    """One coordinate of one point that is nowhere is enough."""
    some = found((*BOX, 0.8))
    points = some.points.copy()
    points[0, 3, 1] = value
    assert len(sane(Detections(some.boxes, points, some.scores), SIZE)) == 0


def test_a_face_over_the_edge_is_one() -> None:
    """Boxes are not clipped: a face that leaves the picture keeps its size."""
    over = found((-300, -200, 700, 800, 1.0))
    assert np.array_equal(sane(over, SIZE).boxes, over.boxes)


def test_faces_are_the_largest_first() -> None:
    """A face carries its box, its five points and its place by size."""
    small, large = found((0, 0, 9, 9, 0.9), (0, 0, 50, 50, 0.6)).faces()[::-1]
    assert (large.index, small.index) == (0, 1)
    assert list(large.box) == [0, 0, 50, 50]
    assert small.score == f32(0.9)
    assert len(large.landmarks) == 5
