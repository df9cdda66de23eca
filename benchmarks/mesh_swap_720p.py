"""Frames a second of one face swapped at 720p, decode and encode aside.

A frame is everything between pixels and pixels: finding the face, its mesh, the
swap and the blend.  The frame is the sample portrait enlarged to fill 720 lines;
small faces are not looked for, as a film does not (see docs/detection.md).
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from functions.swap.engine import MeshEngine
from functions.swap.media import Image, decode
from models import pull

ROOT = Path(__file__).parents[1]
CORES, WARM_UP, FRAMES = 2, 10, 120
SIZE = (1280, 720)


def frame(name: str) -> Image:
    """Return a 720p frame with the portrait in its middle, as tall as the frame."""
    pixels = decode((ROOT / "examples" / f"{name}.jpg").read_bytes()).pixels
    scale = SIZE[1] / pixels.shape[0]
    tall = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    side = (SIZE[0] - tall.shape[1]) // 2
    sides = (side, SIZE[0] - side - tall.shape[1])
    wide = cv2.copyMakeBorder(tall, 0, 0, *sides, cv2.BORDER_REPLICATE)
    return Image(np.ascontiguousarray(wide, np.uint8), "png")


def main() -> None:
    """Print the median as one JSON line."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    folder = pull.pull("lite", ROOT / ".guise" / "models", report=lambda _: None)
    engine = MeshEngine.load(folder, threads=CORES)
    picture = frame("collins")
    source = engine.identity(picture, engine.detect(picture)[0])
    target = frame("hopper")
    seconds = []
    for _ in range(WARM_UP + FRAMES):
        image = Image(target.pixels.copy(), "png")
        began = time.perf_counter()
        face = engine.detect(image, small=False)[0]
        engine.blend(image, engine.swap(image, face, source))
        seconds.append(time.perf_counter() - began)
    rate = 1 / statistics.median(seconds[WARM_UP:])
    print(
        json.dumps(
            {
                "name": "mesh_swap_720p",
                "ours": round(rate, 1),
                "peer": None,
                "ratio": None,
                "unit": "frames/s",
                "device": f"{engine.device.name}, {CORES} cores",
                "n": FRAMES,
            }
        )
    )


if __name__ == "__main__":
    main()
