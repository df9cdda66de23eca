"""ONNX Runtime's threads: known by the name they inherit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from functions.swap.threads import Helpers, marking, taken
from models.runtime import load

if TYPE_CHECKING:
    from pathlib import Path

_RUNS_MAX = 2_000


def test_a_session_s_threads_are_the_device_s(folder: Path) -> None:
    """What they take is seen, and is a part of what the process takes."""
    ort = load()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 3
    helpers = Helpers()
    helpers.look()
    known = helpers.clocks()
    with marking():
        session = ort.InferenceSession(
            folder / "face_detection_full_range.onnx",
            options,
            providers=["CPUExecutionProvider"],
        )
    helpers.look()
    before = helpers.clocks()
    assert len(before) == len(known) + 2
    process = time.process_time_ns()
    given = {"image": np.zeros((1, 192, 192, 3), np.float32)}
    for _ in range(_RUNS_MAX):
        session.run(None, given)
        took = taken(before, helpers.clocks())
        if took:
            break
    assert 0 < took <= time.process_time_ns() - process
