"""The full-size swapper on a GPU: latency, throughput, idle share, cold start, floors.

Five lines or more; none where ONNX Runtime has no CUDA, which stderr is told.

- `gpu_swap_fp32`, `gpu_swap_fp16`: milliseconds for one aligned face to its swapped
  face, `faces_per_s` in batches of eight, and `idle` the share of time in which no
  kernel ran while those batches did, by NVIDIA's management library.
- `gpu_cold_start`: seconds from before the interpreter starts until the pack is open
  and proved on the GPU, by its manifest; there is no peer.
- `gpu_floor_pcie`: milliseconds to copy 554 MB to the GPU once, below which no cold
  start can come.
- `gpu_floor_fp32`, `gpu_floor_fp16`: milliseconds that 349 GFLOP take at the rate of
  one large matrix product, measured; `tflops` is that rate.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._full_pack import full
from benchmarks.cold_engine import OURS, child
from functions.swap.engine import runtime
from functions.swap.engine.arrays import f32
from functions.swap.engine.inswapper import Inswapper
from functions.swap.engine.placement import CUDA, Placement
from models import runtime as onnx_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS, COLD_RUNS, BATCH = 30, 5, 8
WEIGHTS_BYTES, FACE_FLOP = 554_246_104, 349e9
SIDE = 8192
"""Of the two matrices whose product is timed."""


def milliseconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Return the median of how long it took, the first three times aside."""
    taken = []
    for _ in range(runs + 3):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken[3:])


def idle(work: Callable[[], object], gpu: int) -> float:
    """Return the share of time in which no kernel runs while the work does."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(gpu)
    busy: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            busy.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    while time.perf_counter() - began < 5:  # noqa: PLR2004  # seconds
        work()
    done.set()
    watcher.join()
    pynvml.nvmlShutdown()
    return 1 - statistics.mean(busy[2:]) / 100


def swapper(pack: Path, placement: Placement) -> Inswapper:
    """Return the swapper of a pack, proved."""
    opened = runtime.load(pack, placement, full=False)
    opened.proof.get()
    (network,) = (n for n in opened.networks if n.model.contract == "inswapper")
    return Inswapper(network, f32(np.load(pack / str(network.model.emap))))


def faces(precision: str, pack: Path, placement: Placement) -> dict[str, object]:
    """Return what one precision gives."""
    swap = swapper(pack, placement)
    random = np.random.default_rng(1)
    crops = list(random.integers(0, 256, (BATCH, 128, 128, 3), np.uint8))
    raw = f32(random.normal(size=(1, 512)))
    latents = [f32(raw / np.linalg.norm(raw))] * BATCH

    def batch() -> None:
        swap.several(crops, latents)

    return {
        "name": f"gpu_swap_{precision}",
        "ours": round(milliseconds(lambda: swap(crops[0], latents[0])), 3),
        "unit": "ms",
        "faces_per_s": round(BATCH * 1000 / milliseconds(batch), 1),
        "idle": round(idle(batch, placement.gpu or 0), 3),
    }


def cold(pack: Path, device: str) -> dict[str, object]:
    """Return the cold start; on a GPU the proof is part of loading."""
    taken = [child(OURS, str(pack), device, "manifest") for _ in range(COLD_RUNS)]
    ready = statistics.median(each["proved"] for each in taken)
    return {"name": "gpu_cold_start", "ours": round(ready, 3), "unit": "s"}


def copying(where: tuple[str, int]) -> dict[str, object]:
    """Return how long the swapper's weights take over the bus."""
    value: Any = onnx_runtime.load().OrtValue
    weights = np.ones(WEIGHTS_BYTES // 4, np.float32)
    buffer = value.ortvalue_from_shape_and_type([weights.size], np.float32, *where)
    took = milliseconds(lambda: buffer.update_inplace(weights), 10)
    return {"name": "gpu_floor_pcie", "ours": round(took, 1), "unit": "ms"}


def product(
    precision: str, placement: Placement, where: tuple[str, int], side: int = SIDE
) -> dict[str, object]:
    """Return how long 349 GFLOP take at the rate of a matrix product."""
    from onnx import TensorProto, helper

    ort: Any = onnx_runtime.load()
    fp16 = precision == "fp16"
    kind, dtype = (
        (TensorProto.FLOAT16, np.float16) if fp16 else (TensorProto.FLOAT, np.float32)
    )
    a, b, c = (helper.make_tensor_value_info(n, kind, (side, side)) for n in "abc")
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", [a, b], [c])
    sets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "product.onnx")
        path.write_bytes(model.SerializeToString())
        session = ort.InferenceSession(path, providers=placement.providers())
    binding, value = session.io_binding(), ort.OrtValue
    for name in "ab":
        kept = value.ortvalue_from_numpy(np.ones((side, side), dtype), *where)
        binding.bind_ortvalue_input(name, kept)
    out = value.ortvalue_from_shape_and_type([side, side], dtype, *where)
    binding.bind_ortvalue_output("c", out)
    rate = 2 * side**3 / milliseconds(lambda: session.run_with_iobinding(binding), 10)
    return {
        "name": f"gpu_floor_{precision}",
        "ours": round(FACE_FLOP / rate, 3),
        "unit": "ms",
        "tflops": round(rate / 1e9, 1),
    }


def main() -> None:
    """Print the lines."""
    ort: Any = onnx_runtime.load()
    if CUDA not in ort.get_available_providers():
        sys.stderr.write("gpu_swap: no GPU that ONNX Runtime can use; nothing to say\n")
        return
    placement = Placement.of("cuda:0")
    where, packs = ("cuda", 0), (full().pack, full(halved=True).pack)
    both = tuple(zip(("fp32", "fp16"), packs, strict=True))
    lines = [faces(precision, pack, placement) for precision, pack in both]
    lines += [cold(packs[0], "cuda:0"), copying(where)]
    lines += [product(precision, placement, where) for precision, _ in both]
    device = placement.device().name
    for line in lines:
        n = COLD_RUNS if line["name"] == "gpu_cold_start" else RUNS
        known = {"peer": None, "ratio": None, "device": device, "n": n}
        print(json.dumps({**line, **known}))


if __name__ == "__main__":
    main()
