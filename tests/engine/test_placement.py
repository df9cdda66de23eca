"""Where networks run, and that none of them runs elsewhere unnoticed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from functions.swap.engine.placement import (
    CPU,
    CUDA,
    RECORDING,
    Placement,
    Unfit,
    processors,
    refuse_strays,
)
from models import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ONNXRUNTIME: Any = runtime.load()
HAS_CUDA = CUDA in ONNXRUNTIME.get_available_providers()


@dataclass(frozen=True)
class Node:
    name: str
    op_type: str


@dataclass(frozen=True)
class Part:
    ep_name: str
    nodes: Sequence[Node]

    def get_nodes(self) -> Sequence[Node]:
        return self.nodes


@dataclass(frozen=True)
class Session:
    parts: Sequence[Part]

    def get_provider_graph_assignment_info(self) -> Sequence[Part]:
        return self.parts


def strays_of(parts: Sequence[Part]) -> str:
    with pytest.raises(Unfit) as refused:
        refuse_strays(cast("Any", Session(parts)), "swapper", CUDA)
    return str(refused.value)


def test_the_processor_is_always_there() -> None:
    """`cpu` is the processor, with as many threads as the process may use."""
    placement = Placement.of("cpu")
    assert (placement.gpu, placement.provider) == (None, CPU)
    assert placement.threads == processors() > 0
    assert placement.providers() == [CPU]
    assert placement.device().kind == "cpu"


def test_threads_may_be_told() -> None:
    """A number of threads is taken as it is."""
    assert Placement.of("cpu", threads=3).threads == 3


@pytest.mark.parametrize("wanted", ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:0 "])
def test_what_is_no_device_is_refused(wanted: str) -> None:
    """A device that is misspelt is not taken for another."""
    with pytest.raises(Unfit, match="no device"):
        Placement.of(wanted)


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime knows CUDA")
def test_no_gpu_is_no_processor() -> None:
    """Asked for a GPU that cannot be used, nothing falls back; `auto` may."""
    with pytest.raises(Unfit, match="knows no CUDA"):
        Placement.of("cuda:0")
    assert Placement.of("auto").gpu is None


class Nvml:
    """nvidia-ml-py, as far as it is used, on a machine with so many GPUs of paper.

    None of them is a machine without a driver, where not even `nvmlInit` works.
    """

    class NVMLError(Exception):
        """The library's."""

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if self.count is None:
            raise self.NVMLError("NVML Shared Library Not Found")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= (self.count or 0):
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return f"Paper {handle}"

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"


class Cuda:
    """An ONNX Runtime that was built for CUDA, wherever it runs."""

    def get_available_providers(self) -> list[str]:
        return [CUDA, CPU]


@pytest.fixture(params=[0, None], ids=["without a GPU", "without a driver"])
def bare(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Yield where that ONNX Runtime is, and nothing for it to run on."""
    nvml = Nvml(request.param)
    monkeypatch.setitem(sys.modules, "onnxruntime", cast("Any", Cuda()))
    monkeypatch.setitem(sys.modules, "pynvml", cast("Any", nvml))
    yield
    assert nvml.open == 0


@pytest.mark.usefixtures("bare")
def test_a_gpu_that_is_not_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Before a network is opened, by its number; `auto` takes the processor."""
    with pytest.raises(Unfit, match=r"no GPU 0: (Invalid|NVML)"):
        Placement.of("cuda:0")
    assert Placement.of("auto").gpu is None
    assert "the processor it is: no GPU 0" in caplog.text


def test_a_gpu_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `auto` the first, else the one that is asked for, under its own name."""
    nvml = Nvml(2)
    monkeypatch.setitem(sys.modules, "onnxruntime", cast("Any", Cuda()))
    monkeypatch.setitem(sys.modules, "pynvml", cast("Any", nvml))
    assert Placement.of("auto").gpu == 0
    assert Placement.of("cpu").gpu is None
    placement = Placement.of("cuda:1")
    assert placement.device().as_dict() == {
        "kind": "cuda",
        "name": "Paper 1",
        "uuid": "GPU-1",
    }
    with pytest.raises(Unfit, match="no GPU 2"):
        Placement.of("cuda:2")
    assert nvml.open == 0


def test_a_gpu_has_a_limit_and_no_search() -> None:
    """Memory is bounded, grows as asked, and convolutions are looked up."""
    placement = Placement(1, 4, gpu_memory_bytes_max=2**30)
    options = {
        "device_id": "1",
        "gpu_mem_limit": "1073741824",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "enable_cuda_graph": "0",
    }
    assert placement.providers() == [(CUDA, options), CPU]
    options["enable_cuda_graph"] = "1"
    assert placement.providers(graph=True) == [(CUDA, options), CPU]


def test_strays_are_named() -> None:
    """Each node that landed on the processor is named with its operator."""
    stray = Part(CPU, [Node("resize_7", "Resize"), Node("", "Pad")])
    said = strays_of([Part(CUDA, [Node("conv", "Conv")]), stray])
    assert said == f"swapper: not on {CUDA}: resize_7 (Resize), (no name) (Pad)"


def test_many_strays_are_counted() -> None:
    """Five are named, the rest counted."""
    said = strays_of([Part(CPU, [Node(f"n{i}", "Add") for i in range(9)])])
    assert said.endswith("n4 (Add) and 4 more")


def test_a_real_session_tells_where_its_nodes_went(folder: Path) -> None:
    """ONNX Runtime's own record of a real network says processor, and not GPU."""
    options = ONNXRUNTIME.SessionOptions()
    options.add_session_config_entry(*RECORDING)
    session = ONNXRUNTIME.InferenceSession(
        folder / "face_landmark.onnx", options, providers=[CPU]
    )
    refuse_strays(session, "mesh", CPU)
    with pytest.raises(Unfit, match=r"^mesh: not on CUDA.*\(.+\) and \d+ more$"):
        refuse_strays(session, "mesh", CUDA)
