"""Milliseconds to paste one swapped crop back into its frame, beside insightface.

Three lines: a face that is 432 pixels wide in a frame of 1080p, and 864 and 1728 in
one of 4K, leaning by 5 degrees.  Ours is `Paster.fast`, which draws into the frame it
is given.  The peer is insightface's own `INSwapper.get`, its network replaced by one
that answers at once: what `get(paste_back=True)` takes, less what
`get(paste_back=False)` takes, so that alignment and normalisation are left aside and
the paste-back alone is counted.  Runs are interleaved; OpenCV has one thread.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import time
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from insightface.model_zoo.inswapper import INSwapper
from insightface.utils import face_align

from functions.swap.engine.pasteback import Paster

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RUNS, SIDE, LEAN = 15, 128, math.radians(5)
CASES = {
    "paste_back_1080p": (1920, 1080, 432),
    "paste_back_4k": (3840, 2160, 864),
    "paste_back_4k_large": (3840, 2160, 1728),
}


class Session:
    """What ONNX Runtime would be, if a network took no time."""

    def __init__(self, crop: NDArray[np.uint8]) -> None:
        planes = crop[..., ::-1].transpose(2, 0, 1)[np.newaxis]
        self.crop = np.ascontiguousarray(planes, np.float32) / np.float32(255)

    def run(self, *_: object) -> list[NDArray[np.float32]]:
        """Return the crop, whatever is asked."""
        return [self.crop]


def smooth(width: int, height: int) -> NDArray[np.uint8]:
    """Return coloured clouds, always the same."""
    random = np.random.default_rng(12)
    coarse = random.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    whole = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(whole, np.uint8)


def keypoints(width: int, height: int, face: int) -> NDArray[np.float32]:
    """Return ArcFace's five points of a face in the middle of a frame."""
    cos, sin = math.cos(LEAN), math.sin(LEAN)
    template = face_align.arcface_dst + np.array([8 - SIDE / 2, -SIDE / 2])
    turned = template @ np.array([[cos, sin], [-sin, cos]]) * face / SIDE
    return np.asarray(turned + np.array([width / 2, height / 2]), np.float32)


def swapper(crop: NDArray[np.uint8]) -> INSwapper:
    """Return insightface's swapper without its model."""
    made = INSwapper.__new__(INSwapper)
    made.input_mean, made.input_std, made.input_size = 0.0, 255.0, (SIDE, SIDE)
    made.input_names, made.output_names = ["target", "source"], ["output"]
    made.emap, made.session = np.eye(512, dtype=np.float32), Session(crop)
    return made


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long it took."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def measure(width: int, height: int, face: int) -> tuple[float, float]:
    """Return the medians of ours and the peer's."""
    crop, frame = smooth(SIDE, SIDE), smooth(width, height)
    peer, paster, drawn = swapper(crop), Paster(SIDE), frame.copy()
    source = SimpleNamespace(normed_embedding=np.ones(512, np.float32))
    target = SimpleNamespace(kps=keypoints(width, height, face))
    _, matrix = peer.get(frame, target, source, paste_back=False)
    taken = [
        (
            milliseconds(lambda: paster.fast(drawn, crop, matrix)),
            milliseconds(lambda: peer.get(frame, target, source, paste_back=True)),
            milliseconds(lambda: peer.get(frame, target, source, paste_back=False)),
        )
        for _ in range(RUNS + 1)
    ]
    ours, whole, before = (
        statistics.median(each[1:]) for each in zip(*taken, strict=True)
    )
    return ours, whole - before


def main() -> None:
    """Print three JSON lines."""
    # insightface calls a function that scikit-image is about to remove.
    warnings.filterwarnings("ignore", "`estimate` is deprecated", FutureWarning)
    cv2.setNumThreads(1)
    for name, (width, height, face) in CASES.items():
        ours, peer = measure(width, height, face)
        line = {
            "name": name,
            "ours": round(ours, 3),
            "peer": round(peer, 1),
            "ratio": round(peer / ours, 1),
            "unit": "ms",
            "device": f"{platform.machine()}, 1 thread",
            "n": RUNS,
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
