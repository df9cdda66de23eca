"""The same networks on a GPU: what they give there, and what is refused.

Run by `pytest -m gpu` on a machine where ONNX Runtime has CUDA; skipped elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from functions.swap.engine import runtime
from functions.swap.engine.neural import NeuralEngine
from functions.swap.engine.placement import (
    CUDA,
    RECORDING,
    Placement,
    Unfit,
    refuse_strays,
)
from functions.swap.job import Options
from models import fp16, golden
from models import runtime as onnx_runtime
from tests.engine.neural import packs
from tools.standins import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.swap.engine.arrays import Floats
    from functions.swap.engine.runtime import Network
    from functions.swap.media import Image

    Arrays = dict[str, Floats]

ONNXRUNTIME: Any = onnx_runtime.load()
CPU_ONLY = CUDA not in ONNXRUNTIME.get_available_providers()
GPU = "cuda:0"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(CPU_ONLY, reason="ONNX Runtime has no CUDA here"),
]


def networks(folder: Path, device: str, **limits: Any) -> dict[str, Network]:
    """Return the proved networks of a pack by name."""
    opened = runtime.load(folder, Placement.of(device, **limits))
    opened.proof.get()
    return {network.model.name: network for network in opened.networks}


def answer(network: Network, seed: str = "golden") -> Arrays:
    """Return what a network makes of noise."""
    given = golden.inputs(network.model, seed)
    image = given.pop(network.model.input.name)
    return network(image, *(given[each.name] for each in network.model.vectors))


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_what_the_processor_gives(name: str, tmp_path: Path) -> None:
    """Each contract: within 2 thousandths of the largest value of each output.

    That is the tolerance of golden outputs at float32.
    """
    folder = packs.assembled(tmp_path / "pack", name)
    (here,) = networks(folder, "cpu").values()
    (there,) = networks(folder, GPU).values()
    for seed in ("golden", "another"):
        far = golden.furthest(answer(there, seed), answer(here, seed))
        assert far <= here.model.tolerance_micro


def test_a_captured_network_gives_what_it_gives_uncaptured(plain: Path) -> None:
    """A CUDA graph replays the same launches, on whatever lies in the buffers."""
    free, captured = (networks(plain, GPU, cuda_graph=each) for each in (False, True))
    for name, network in captured.items():
        for seed in ("a", "b", "a", "c"):
            found, expected = answer(network, seed), answer(free[name], seed)
            assert golden.furthest(found, expected) <= network.model.tolerance_micro


def test_batches_are_captured_each_for_itself(plain: Path) -> None:
    """A captured embedder takes one face, then four, then one again."""
    embedder = networks(plain, GPU, cuda_graph=True)["w600k_r50"]
    image = golden.inputs(embedder.model)[embedder.model.input.name]
    faces = np.concatenate([np.roll(image, at, axis=3) for at in range(4)])
    ((alone,), (four,), (again,)) = (
        tuple(embedder(each).values()) for each in (faces[:1], faces, faces[:1])
    )
    assert np.array_equal(alone, again)
    assert np.allclose(four[:1], alone, rtol=0, atol=2e-3 * np.abs(alone).max())


def test_half_the_bits_are_near_the_whole(plain: Path, halved: Path) -> None:
    """At float16 the swapper lies within the tolerance that its manifest states."""
    whole, half = (networks(each, GPU)["inswapper_128"] for each in (plain, halved))
    assert half.model.precision == "fp16"
    far = golden.furthest(answer(half, "a"), answer(whole, "a"))
    assert far <= fp16.TOLERANCE_MICRO


def test_a_node_that_a_gpu_cannot_run_is_named(tmp_path: Path) -> None:
    """ONNX Runtime would run it on the processor and say nothing; here it is unfit."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, 3))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,))
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("Det", ["r"], ["y"], "determinant"),  # has no CUDA kernel
    ]
    graph = helper.make_graph(nodes, "stray", [x], [y])
    path = tmp_path / "stray.onnx"
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    path.write_bytes(model.SerializeToString())
    options = ONNXRUNTIME.SessionOptions()
    options.add_session_config_entry(*RECORDING)
    session = ONNXRUNTIME.InferenceSession(
        path, options, providers=Placement.of(GPU).providers()
    )
    with pytest.raises(Unfit, match=r"stray: not on CUDA.*: determinant \(Det\)$"):
        refuse_strays(session, "stray", CUDA)


def test_memory_beyond_the_limit_is_not_taken(plain: Path) -> None:
    """A session that needs more than it may have of a GPU's memory does not open."""
    with pytest.raises(Unfit, match="does not open"):
        networks(plain, GPU, gpu_memory_bytes_max=2**14)


def test_the_engine_on_a_gpu(plain: Path, portrait: Callable[[str], Image]) -> None:
    """Faces within a tenth of a pixel, identities alike, crops within two levels."""
    here, there = (NeuralEngine.load(plain, device=each) for each in ("cpu", GPU))
    assert there.device.kind == "cuda"
    assert there.device.uuid.startswith("GPU-")
    image = portrait("hopper")
    faces = here.detect(image)
    found = there.detect(image)
    assert len(found) == len(faces) > 0
    for one, other in zip(found, faces, strict=True):
        assert np.abs(one.points - other.points).max() < 0.1
    source = here.identity(image, faces[0])
    assert here.similarity(there.identity(image, faces[0]), source) > 0.9999
    crops = [
        each.swap(image, faces[0], source, Options()).crop.astype(int)
        for each in (here, there)
    ]
    assert np.abs(crops[0] - crops[1]).max() <= 2
