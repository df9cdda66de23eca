"""The arithmetic of boxes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from functions.swap.engine import boxes
from functions.swap.engine.arrays import Floats, f32
from functions.swap.engine.blazeface import Found
from functions.swap.engine.detect import suppress

corners = arrays(np.float32, (4,), elements=st.floats(-100, 100, width=32))


def ordered(corner: Floats) -> Floats:
    low, high = np.minimum(corner[:2], corner[2:]), np.maximum(corner[:2], corner[2:])
    return f32(np.concatenate((low, high + 1)))


def found(*placed: tuple[float, float, float, float, float]) -> Found:
    """Return detections given as x0, y0, x1, y1, score."""
    table = f32(placed).reshape(-1, 5)
    marks = np.repeat(table[:, np.newaxis, :2], 6, axis=1)
    return Found(table[:, :4], marks, table[:, 4])


@given(corners, corners)
def test_overlap_is_symmetric_and_a_share(a: Floats, b: Floats) -> None:
    """Intersection over union is the same both ways, and from 0 to 1."""
    a, b = ordered(a), ordered(b)
    one, other = boxes.overlap(a, b[np.newaxis])[0], boxes.overlap(b, a[np.newaxis])[0]
    assert one == other
    assert 0 <= one <= 1


@given(corners)
def test_a_box_overlaps_itself(a: Floats) -> None:
    """A box is wholly itself, and wholly in itself."""
    both = np.stack([ordered(a)] * 2)
    assert np.allclose(boxes.overlaps(both), 1)
    assert np.allclose(boxes.nesting(both), 1)


def test_a_box_in_a_box_is_nested() -> None:
    """A small box in a large one overlaps little and is nested wholly."""
    pair = f32([[0, 0, 100, 100], [40, 40, 50, 50]])
    assert boxes.overlaps(pair)[0, 1] < 0.02
    assert boxes.nesting(pair)[0, 1] == 1


def test_nothing_to_suppress() -> None:
    """No detection stays none, one stays itself."""
    assert len(suppress(Found.none())) == 0
    assert suppress(found((0, 0, 9, 9, 0.8))).scores.tolist() == [f32(0.8)]


def test_one_face_seen_many_times_is_one() -> None:
    """Agreeing boxes are averaged by score, and the best score stays."""
    seen = suppress(
        found((0, 0, 10, 10, 0.9), (2, 0, 12, 10, 0.3), (50, 50, 60, 60, 0.5))
    )
    assert len(seen) == 2
    assert np.allclose(seen.boxes[0], (0.5, 0, 10.5, 10))
    assert np.allclose(seen.scores, (0.9, 0.5))


def test_a_face_within_a_face_is_one() -> None:
    """A nose taken for a face does not survive beside its face."""
    assert len(suppress(found((0, 0, 100, 100, 0.9), (40, 40, 60, 60, 0.8)))) == 1
