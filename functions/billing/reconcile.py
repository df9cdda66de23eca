"""What the ledger says devices did, against what the devices say themselves.

NVIDIA's management library keeps, for each GPU, in what part of each sample period one
or more kernels ran (periods of 1/6 to 1 s, by the product; a buffer of them, fetched
before it runs over).  It does not know tenants, and it reconciles: it bills nothing.

    busy         leased, and kernels ran
    idle         leased, and none ran: the host was at it
    unexplained  kernels ran, and nobody had leased the device: loading and proving
                 models, work of nobody here, or a lease that is not in the ledger yet
    over         leases that overlap by more than there is of the device: never, or the
                 meter is wrong

Within one sample nobody knows when the kernels ran; as much as fits is taken to have
run while the device was leased.  Everything is whole microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from functions.problems import Failed, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_US_PER_MS: Final = 1_000
GAP_US_MAX: Final = 2_000_000
"""Two samples further apart than this say nothing of the time between."""


class NoGpu(NotFound):
    """There is no GPU here that could be asked, or no library to ask it by."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease in the ledger, in microseconds since the epoch, of part of a device."""

    device: str
    start_us: int
    stop_us: int
    share: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Sample:
    """In which part of a time, in per cent, one or more kernels ran."""

    start_us: int
    stop_us: int
    percent: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by its UUID, and how many processes have work on it."""

    uuid: str
    name: str
    processes: int = 0


class Gpus(Protocol):
    """The GPUs of this machine."""

    def all(self) -> list[Gpu]:
        """Return every GPU; raise `NoGpu` where there is none."""

    def stamps(self, uuid: str, since_us: int) -> list[tuple[int, int]]:
        """Return (moment, per cent) of each sample after `since_us`, in their order.

        A sample speaks of the time from the one before it.  Raises `NoGpu` where the
        device keeps none, as one that is cut into MIG instances does not.
        """


@dataclass(frozen=True, slots=True)
class Report:
    """One device's time between two moments, in microseconds; see the module.

    `seen_us` is the time that samples speak of: what lies outside it is in none of
    the others.
    """

    device: str
    wall_us: int
    seen_us: int
    leased_us: int
    busy_us: int
    idle_us: int
    unexplained_us: int
    over_us: int

    def shown(self) -> dict[str, Any]:
        """Return it in seconds, as decimal text with milliseconds."""
        names = ("wall", "seen", "leased", "busy", "idle", "unexplained", "over")
        parts = {f"{name}_s": _seconds(getattr(self, f"{name}_us")) for name in names}
        return {"device": self.device, **parts}


def compare(
    device: str,
    start_us: int,
    stop_us: int,
    samples: Iterable[Sample],
    leases: Sequence[Lease],
) -> Report:
    """Return how a device's samples and its leases agree between two moments.  Pure."""
    mine = [each for each in leases if each.device == device]
    held = list(_union(mine))
    seen = leased = busy = unexplained = 0
    for sample in samples:
        begin, end = max(sample.start_us, start_us), min(sample.stop_us, stop_us)
        if begin >= end:
            continue
        overlap = sum(_overlap(begin, end, *each) for each in held)
        active = (end - begin) * min(sample.percent, 100) // 100
        seen += end - begin
        leased += overlap
        busy += min(active, overlap)
        unexplained += max(0, active - overlap)
    return Report(
        device=device,
        wall_us=stop_us - start_us,
        seen_us=seen,
        leased_us=leased,
        busy_us=busy,
        idle_us=leased - busy,
        unexplained_us=unexplained,
        over_us=_over(mine, start_us, stop_us),
    )


def _union(leases: Iterable[Lease]) -> Iterator[tuple[int, int]]:
    """Yield the times in which anybody held the device, in their order."""
    start = stop = 0
    for each in sorted(leases, key=lambda lease: lease.start_us):
        if each.start_us > stop:
            yield start, stop
            start = each.start_us
        stop = max(stop, each.stop_us)
    yield start, stop


def _overlap(begin: int, end: int, start: int, stop: int) -> int:
    return max(0, min(end, stop) - max(begin, start))


def _over(leases: Iterable[Lease], start_us: int, stop_us: int) -> int:
    """Return for how long more than the whole device was leased."""
    edges: dict[int, Fraction] = {start_us: Fraction(0), stop_us: Fraction(0)}
    for each in leases:
        begin, end = max(each.start_us, start_us), min(each.stop_us, stop_us)
        if begin < end:
            edges[begin] = edges.get(begin, Fraction(0)) + each.share
            edges[end] = edges.get(end, Fraction(0)) - each.share
    over, shares = 0, Fraction(0)
    for here, following in pairwise(sorted(edges)):
        shares += edges[here]
        over += following - here if shares > 1 else 0
    return over


def samples_of(stamps: Sequence[tuple[int, int]]) -> list[Sample]:
    """Return what stamps speak of: each of the time since the one before it."""
    return [
        Sample(before, moment, percent)
        for (before, _), (moment, percent) in pairwise(stamps)
        if before < moment <= before + GAP_US_MAX
    ]


def collect(
    gpus: Gpus,
    *,
    seconds: int,
    sleep: Callable[[int], object],
) -> dict[str, list[Sample]]:
    """Return each GPU's samples of the next `seconds`, fetched once a second.

    Raises `NoGpu`.
    """
    stamps: dict[str, list[tuple[int, int]]] = {}
    for gpu in gpus.all():
        stamps[gpu.uuid] = gpus.stamps(gpu.uuid, 0)[-1:]
    for _ in range(seconds):
        sleep(1)
        for uuid, known in stamps.items():
            known.extend(gpus.stamps(uuid, known[-1][0] if known else 0))
    return {uuid: samples_of(known) for uuid, known in stamps.items()}


def _seconds(microseconds: int) -> str:
    milliseconds = microseconds // _US_PER_MS
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


class Nvml:
    """The GPUs as NVIDIA's management library knows them; `api` is `pynvml`."""

    def __init__(self, api: Any) -> None:  # noqa: ANN401  # a module without types
        self._api = api

    @classmethod
    def open(cls) -> Nvml:
        """Return them, or raise `NoGpu` where the library or its driver is missing."""
        try:
            import pynvml
        except ImportError as error:
            raise NoGpu("nvidia-ml-py is not installed here") from error
        return cls.of(pynvml)

    @classmethod
    def of(cls, api: Any) -> Nvml:  # noqa: ANN401  # as above
        """Return the GPUs that `api` opens, or raise `NoGpu`."""
        try:
            api.nvmlInit()
        except api.NVMLError as error:
            raise NoGpu(f"no NVIDIA driver answers here: {error}") from error
        return cls(api)

    def close(self) -> None:
        """Let go of the library."""
        self._api.nvmlShutdown()

    def all(self) -> list[Gpu]:
        """Return every GPU, or raise `NoGpu`."""
        api = self._api
        try:
            handles = map(
                api.nvmlDeviceGetHandleByIndex, range(api.nvmlDeviceGetCount())
            )
            found = [self._gpu(handle) for handle in handles]
        except api.NVMLError as error:
            raise Failed(internal=f"NVML: {error}") from error
        if not found:
            raise NoGpu("this machine has no NVIDIA GPU")
        return found

    def _gpu(self, handle: Any) -> Gpu:  # noqa: ANN401  # NVML's
        api = self._api
        processes = len(api.nvmlDeviceGetComputeRunningProcesses(handle))
        uuid, name = api.nvmlDeviceGetUUID(handle), api.nvmlDeviceGetName(handle)
        return Gpu(str(uuid), str(name), processes)

    def stamps(self, uuid: str, since_us: int) -> list[tuple[int, int]]:
        """Return (moment, per cent) of each sample after `since_us`; see `Gpus`."""
        api = self._api
        try:
            handle = api.nvmlDeviceGetHandleByUUID(uuid)
            kind = api.NVML_GPU_UTILIZATION_SAMPLES
            _, samples = api.nvmlDeviceGetSamples(handle, kind, since_us)
        except api.NVMLError_NotFound:  # none since
            return []
        except api.NVMLError_NotSupported as error:
            raise NoGpu(
                f"{uuid} keeps no samples: is it cut into instances?"
            ) from error
        except api.NVMLError as error:
            raise Failed(internal=f"NVML: {uuid}: {error}") from error
        found = [(int(each.timeStamp), int(each.sampleValue.uiVal)) for each in samples]
        return sorted(each for each in found if each[0] > since_us)
