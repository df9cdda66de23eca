"""Child of `cold_engine` and `gpu_swap`: our engine in a fresh interpreter."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from functions.swap.engine import neural
from functions.swap.engine.loading import load
from models import runtime
from models.verify import verify


def say(event: str, **more: float) -> None:
    """Tell the parent what has been reached."""
    print(json.dumps({"event": event, **more}), flush=True)


def crop(engine: neural.NeuralEngine, source: str, target: str) -> None:
    """Swap one face, not yet pasted."""
    import cv2
    import numpy as np

    from functions.swap.job import Options
    from functions.swap.media import Image

    first, second = (
        Image(np.array(cv2.imread(name), np.uint8), "jpeg") for name in (source, target)
    )
    identity = engine.identity(first, engine.detect(first)[0])
    engine.swap(second, engine.detect(second)[0], identity, Options())


def resident() -> int:
    """Return the bytes of memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def main(folder: Path, device: str, verified: str, pictures: list[str]) -> None:
    """Load the pack, swap the source onto the target if there are any, prove."""
    runtime.load()  # what is imported is no part of `model_load`
    began = time.perf_counter()
    pack = verify(folder, full=False)
    engine = load(folder, pack, device=device, full=verified == "full")
    say("ready", load=time.perf_counter() - began)
    say("resident", bytes=resident())
    if pictures and isinstance(engine, neural.NeuralEngine):
        crop(engine, *pictures)
        say("crop")
    engine.proof.get()
    say("proved", bytes=resident())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
