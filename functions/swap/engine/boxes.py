"""Boxes: overlap and suppression, over arrays of (x0, y0, x1, y1) in pixels."""

from __future__ import annotations

import numpy as np

from functions.swap.engine.arrays import Floats, f32


def area(boxes: Floats) -> Floats:
    """Return the area of each box; (n, 4) gives (n,)."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return f32(sides[..., 0] * sides[..., 1])


def shared(some: Floats, others: Floats) -> Floats:
    """Return the area that each of `some` (n, 4) shares with each other, (n, m)."""
    low = np.maximum(some[:, np.newaxis, :2], others[np.newaxis, :, :2])
    high = np.minimum(some[:, np.newaxis, 2:], others[np.newaxis, :, 2:])
    sides = np.maximum(high - low, 0)
    return f32(sides[..., 0] * sides[..., 1])


def overlap(box: Floats, others: Floats) -> Floats:
    """Return intersection over union of a box (4,) with each of `others`, (m,)."""
    return f32(_overlaps(box[np.newaxis], others)[0])


def overlaps(some: Floats) -> Floats:
    """Return intersection over union of each box with each, (n, n)."""
    return _overlaps(some, some)


def nesting(some: Floats) -> Floats:
    """Return intersection over the smaller area, which is 1 for a box in a box."""
    smaller = np.minimum.outer(area(some), area(some))
    return f32(shared(some, some) / np.maximum(smaller, np.float32(1e-9)))


def _overlaps(some: Floats, others: Floats) -> Floats:
    both = shared(some, others)
    union = np.add.outer(area(some), area(others)) - both
    return f32(both / np.maximum(union, np.float32(1e-9)))
