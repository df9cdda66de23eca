"""Child of `cold_engine`: insightface from nothing, in a fresh interpreter.

Nothing is asked of it that would make it slower: no package is searched for, and only
the modules that are needed are imported.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
from insightface.model_zoo import get_model
from insightface.model_zoo.inswapper import INSwapper


def say(event: str, **more: float) -> None:
    """Tell the parent what has been reached."""
    print(json.dumps({"event": event, **more}), flush=True)


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def main(weights: str, source: str, target: str) -> None:
    """Load the three networks, swap the source onto the target."""
    began = time.perf_counter()
    detector = get_model(f"{weights}/det_10g.onnx")
    detector.prepare(0, input_size=(640, 640))
    recogniser = get_model(f"{weights}/w600k_r50.onnx")
    swapper = INSwapper(f"{weights}/inswapper_128.onnx")
    say("ready", load=time.perf_counter() - began)
    say("resident", bytes=resident())
    import cv2
    from insightface.utils import face_align

    warnings.simplefilter("ignore", FutureWarning)  # of scikit-image
    pictures = [cv2.imread(name) for name in (source, target)]
    first, second = (detector.detect(picture)[1][0] for picture in pictures)
    raw = recogniser.get_feat(face_align.norm_crop(pictures[0], first)).ravel()
    swapper.get(
        pictures[1],
        SimpleNamespace(kps=second),
        SimpleNamespace(normed_embedding=raw / np.linalg.norm(raw)),
        paste_back=False,
    )
    say("crop", bytes=resident())


if __name__ == "__main__":
    main(*sys.argv[1:])
