"""Where a face must lie: five points to a matrix, against insightface's own.

Insightface asks scikit-image for a similarity, by singular values; ours is the same
matrix in closed form.  The points are those of faces all over a 4K frame.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from insightface.utils import face_align

from functions.swap.engine import align
from functions.swap.engine.arrays import f32
from functions.swap.engine.placement import cpu

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.swap.engine.arrays import Floats

SIDE, WARM_UP, FACES = 128, 200, 2000


def faces(count: int) -> list[Floats]:
    """Return five points each, (5, 2) float32, none of them quite regular."""
    random = np.random.default_rng(1)
    template = align.points_of("arcface_112", 112)
    scales = random.uniform(0.5, 8, count)
    return [
        f32(template * scale + random.normal(0, 4 * scale, (5, 2)) + (900, 600))
        for scale in scales
    ]


def took(work: Callable[[], object]) -> int:
    """Return how long one call takes, nanoseconds."""
    began = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began


def main() -> None:
    """Print the medians as one JSON line."""
    warnings.simplefilter("ignore", FutureWarning)  # of scikit-image, for insightface
    ours, peer = [], []
    for points in faces(WARM_UP + FACES):
        ours.append(took(partial(align.estimate, points, SIDE, "arcface_128")))
        peer.append(took(partial(face_align.estimate_norm, points, SIDE)))
    mine, other = (statistics.median(times[WARM_UP:]) / 1000 for times in (ours, peer))
    print(
        json.dumps(
            {
                "name": "align",
                "ours": round(mine, 2),
                "peer": round(other, 2),
                "ratio": round(other / mine, 1),
                "unit": "us/face",
                "device": f"{cpu().name}, 1 thread",
                "n": FACES,
            }
        )
    )


if __name__ == "__main__":
    main()
