"""Boxes: overlap and suppression, over arrays of (x0, y0, x1, y1) in pixels."""

from __future__ import annotations

import numpy as np

from functions.swap.engine.arrays import Floats, f32


def area(boxes: Floats) -> Floats:
    """Return the area of each box; (n, 4) gives (n,)."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return f32(sides[..., 0] * sides[..., 1])


def shared(box: Floats, others: Floats) -> Floats:
    """Return the area that `box` (4,) shares with each of `others` (n, 4)."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    return area(np.concatenate((low, np.maximum(low, high)), axis=1))


def overlap(box: Floats, others: Floats) -> Floats:
    """Return intersection over union of `box` with each of `others`."""
    both = shared(box, others)
    return f32(both / np.maximum(area(box) + area(others) - both, np.float32(1e-9)))


def inside(box: Floats, others: Floats) -> Floats:
    """Return intersection over the smaller area, which is 1 for a box in a box."""
    smaller = np.minimum(area(box), area(others))
    return f32(shared(box, others) / np.maximum(smaller, np.float32(1e-9)))
