"""Turned squares: where they look, and the way back."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from functions.swap.engine.arrays import f32
from functions.swap.engine.window import Pyramid, Window, apply, inverse

sides = st.floats(8, 2000)
places = st.floats(-500, 500)
windows = st.builds(Window, places, places, sides, st.floats(-math.pi, math.pi))


@given(windows, st.integers(16, 256))
def test_there_and_back_is_where_one_was(window: Window, size: int) -> None:
    """The inverse of a window's matrix undoes it."""
    matrix = window.matrix(size)
    corners = f32([[0, 0], [size, 0], [size, size], [0, size]])
    assert np.allclose(
        apply(matrix, apply(inverse(matrix), corners)), corners, atol=0.05
    )


@given(windows, st.integers(16, 256))
def test_the_middle_stays_the_middle(window: Window, size: int) -> None:
    """A window's centre is the centre of its square."""
    middle = apply(window.matrix(size), f32([[window.x, window.y]]))
    assert np.allclose(middle, size / 2, atol=0.01)


def ramp() -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Return a picture whose blue tells x and green y, in fourths of a pixel."""
    y, x = np.mgrid[0:400, 0:400] // 2
    return np.dstack((x, y, np.zeros_like(x))).astype(np.uint8)


def test_a_reduced_cut_shows_the_same_place() -> None:
    """However much is reduced, a pixel is where it was, to a pixel."""
    for size in (400, 200, 100, 50):
        square = Window(200, 200, 400).cut(ramp(), size)
        quarter = square[size // 4, size * 3 // 4]
        assert abs(int(quarter[0]) - 150) <= 3
        assert abs(int(quarter[1]) - 50) <= 3


def test_a_pyramid_cuts_as_a_window_does() -> None:
    """Cutting from halves made once is cutting from the picture."""
    window = Window(150, 220, 260, 0.3)
    alone, shared = window.cut(ramp(), 64), Pyramid(ramp(), 3).cut(window, 64)
    assert np.abs(alone.astype(int) - shared).max() <= 4


def test_outside_the_picture_is_black() -> None:
    """A window beyond the edge sees nothing there."""
    square = Window(0, 0, 100).cut(np.full((50, 50, 3), 200, np.uint8), 64)
    assert square[:30].max() == 0
    assert square[40:, 40:].min() == 200


def test_a_tilted_head_is_shown_level() -> None:
    """The window turns with the eyes: what was slanted comes out level."""
    window = Window(0, 0, 100, math.atan2(30, 40))
    level = apply(window.matrix(100), f32([[-20, -15], [20, 15]]))
    assert np.allclose(level, [[25, 50], [75, 50]], atol=0.01)


def test_windows_are_near_when_one_look_is_enough() -> None:
    """A little shift is near; another place, size or turn is not."""
    here = Window(100, 100, 100, 0)
    assert here.near(Window(102, 99, 105, 0.05))
    for other in (
        Window(110, 100, 100, 0),
        Window(100, 100, 130, 0),
        Window(100, 100, 100, 0.3),
    ):
        assert not here.near(other)
