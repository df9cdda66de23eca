"""Where the networks run: on this processor or on one GPU, never on both by accident.

A session that was asked for a GPU and quietly runs a node on the processor is the
classic fault of the field: it works, a hundred times slower.  Here it does not load.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from models.runtime import load as load_onnxruntime

if TYPE_CHECKING:
    import onnxruntime

log = logging.getLogger(__name__)

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
_WANTED: Final = re.compile(r"auto|cpu|cuda:(\d{1,2})")
_STRAYS_NAMED_MAX: Final = 5
GIB: Final = 2**30


class Unfit(RuntimeError):
    """What was loaded must not serve: a wrong answer, or not the device asked for."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where the models run; `uuid` is empty for a CPU."""

    kind: Literal["cpu", "cuda"]
    name: str
    uuid: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the device as plain data for a record."""
        return {"kind": self.kind, "name": self.name, "uuid": self.uuid}


@dataclass(frozen=True, slots=True)
class Placement:
    """One device, and how much of it the sessions may take.

    `gpu` is the number of the GPU, None for the processor.  `threads` are those of
    one run on the processor.  `gpu_memory_bytes_max` is what each session's arena may
    take; `cuda_graph` that networks of static shape are captured, see `binding`.
    """

    gpu: int | None
    threads: int
    gpu_memory_bytes_max: int = 8 * GIB
    cuda_graph: bool = False

    @classmethod
    def of(cls, wanted: str, *, threads: int = 0, **limits: Any) -> Self:  # noqa: ANN401  # the fields above
        """Return the placement for `GUISE_DEVICE`: auto, cpu or cuda:0.

        `auto` is the first GPU where there is one and this ONNX Runtime can use it.
        `threads` of 0 is as many as the CPUs this process may run on.

        Raises:
            Unfit: there is no such device, or not with this ONNX Runtime.

        """
        found = _WANTED.fullmatch(wanted)
        if found is None:
            raise Unfit(f"no device {wanted!r}: it is auto, cpu, or cuda: and a number")
        there = CUDA in load_onnxruntime().get_available_providers()
        if found[1] is not None and not there:
            raise Unfit(f"{wanted} is asked for and this ONNX Runtime knows no CUDA")
        gpu = int(found[1]) if found[1] else None
        if gpu is not None:
            _cuda(gpu)
        elif wanted == "auto" and there and _has_gpu():
            gpu = 0
        return cls(gpu, threads or processors(), **limits)

    @property
    def provider(self) -> str:
        """The execution provider that must run every node."""
        return CPU if self.gpu is None else CUDA

    def providers(
        self, *, graph: bool = False
    ) -> list[str | tuple[str, dict[str, str]]]:
        """Return what a session is asked to run on; `graph` that it be captured.

        Memory grows by what is asked for and no further than the limit, and the
        convolution's algorithm is looked up, not searched for: an exhaustive search
        costs seconds at the first sight of each shape (ONNX Runtime's page on CUDA).
        Float32 is float32: TF32, which is the default there, keeps 10 bits of each
        factor, and the golden outputs would tell.  Who wants speed takes a pack at
        float16.
        """
        if self.gpu is None:
            return [CPU]
        options = {
            "device_id": str(self.gpu),
            "gpu_mem_limit": str(self.gpu_memory_bytes_max),
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
            "enable_cuda_graph": "1" if graph else "0",
        }
        return [(CUDA, options), CPU]

    def device(self) -> Device:
        """Return the device by the name that it gives itself."""
        return cpu() if self.gpu is None else _cuda(self.gpu)


def processors() -> int:
    """Return how many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu() -> Device:
    """Return this machine's processor by the name that it gives itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return Device("cpu", line.partition(":")[2].strip())
    return Device("cpu", platform.machine())


def _has_gpu() -> bool:
    try:
        _cuda(0)
    except Unfit as error:
        log.warning("the processor it is: %s", error)
        return False
    return True


def _cuda(index: int) -> Device:
    """Return a GPU as NVIDIA's management library names it, or raise `Unfit`."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = pynvml.nvmlDeviceGetName(handle)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:  # no such GPU, no driver, no library of it
        raise Unfit(f"no GPU {index}: {error}") from error
    return Device("cuda", str(name), str(uuid))


def refuse_strays(session: onnxruntime.InferenceSession, name: str, on: str) -> None:
    """Raise `Unfit` if any node of the session runs elsewhere than on provider `on`.

    The session must have been made with `RECORDING`.
    """
    strays = [
        f"{node.name or '(no name)'} ({node.op_type})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != on
        for node in part.get_nodes()
    ]
    if strays:
        some = ", ".join(strays[:_STRAYS_NAMED_MAX])
        more = len(strays) - _STRAYS_NAMED_MAX
        rest = f" and {more} more" if more > 0 else ""
        raise Unfit(f"{name}: not on {on}: {some}{rest}")


RECORDING: Final = ("session.record_ep_graph_assignment_info", "1")
"""The setting that makes a session remember where its nodes went."""
