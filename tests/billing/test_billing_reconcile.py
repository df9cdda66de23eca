"""Reconciling: busy, idle and unexplained, and never more than there is."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.billing.leases import leases
from functions.billing.ledger import Ledger
from functions.billing.reconcile import (
    Gpu,
    Lease,
    NoGpu,
    Nvml,
    Report,
    Sample,
    collect,
    compare,
    samples_of,
)
from functions.billing.usage import usage_of
from functions.cli.bill.place import Place
from functions.cli.bill.reconcile import DIFFERENT, NO_GPU, Look, reconcile, run
from functions.events import Event, milliseconds, swap_source
from functions.problems import Failed, NotFound
from tests.billing.house import BOTH, NOW, usage_data
from tests.postgres import APP, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.billing.ledger import Ledger

DATABASES = BOTH
S = 1_000_000
GPU = "GPU-1"


def lease(start: int, stop: int, share: Fraction = Fraction(1)) -> Lease:
    """Return a lease of the GPU, in seconds."""
    return Lease(GPU, start * S, stop * S, share)


def sample(start: int, stop: int, percent: int) -> Sample:
    """Return a sample, in seconds."""
    return Sample(start * S, stop * S, percent)


def test_each_second_is_busy_idle_or_unexplained() -> None:
    """Leased and at work, leased and not, at work for nobody, and none of it."""
    samples = [
        sample(0, 1, 0),  # nothing
        sample(1, 2, 100),  # leased, busy
        sample(2, 3, 0),  # leased, idle
        sample(3, 4, 100),  # unexplained
        sample(4, 5, 40),  # leased for half of it
    ]
    held = [
        lease(1, 3),
        Lease(GPU, 4 * S, 4 * S + S // 2),
        Lease("GPU-2", 0, 10 * S),
    ]
    report = compare(GPU, 0, 10 * S, samples, held)
    assert report == Report(
        device=GPU,
        wall_us=10 * S,
        seen_us=5 * S,
        leased_us=2_500_000,
        busy_us=1_400_000,
        idle_us=1_100_000,
        unexplained_us=1 * S,
        over_us=0,
    )
    assert report.shown()["busy_s"] == "1.400"


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=8),
    st.lists(st.integers(0, 100), max_size=40),
)
def test_the_parts_add_up_whatever_was_leased(
    held: list[tuple[int, int]], percents: list[int]
) -> None:
    """Busy and idle are what was leased; busy and unexplained are what ran."""
    samples = [sample(n, n + 1, percent) for n, percent in enumerate(percents)]
    report = compare(
        GPU, 0, 40 * S, samples, [lease(a, a + length) for a, length in held]
    )
    assert report.busy_us + report.idle_us == report.leased_us <= report.seen_us
    assert report.busy_us + report.unexplained_us == sum(percents) * S // 100
    assert min(report.busy_us, report.idle_us, report.unexplained_us) >= 0


def test_leases_that_overlap_are_leased_once() -> None:
    """The union, whatever the order they come in."""
    samples = [sample(0, 10, 100)]
    held = [lease(5, 8), lease(1, 3), lease(2, 6)]
    assert compare(GPU, 0, 10 * S, samples, held).leased_us == 7 * S


@pytest.mark.parametrize(
    ("held", "over"),
    [
        ([], 0),
        ([lease(1, 3), lease(3, 5)], 0),
        ([lease(1, 3), lease(2, 5)], 1),
        ([lease(1, 3, Fraction(1, 2)), lease(2, 5, Fraction(1, 2))], 0),
        ([lease(0, 9, Fraction(1, 7))] * 7, 0),
        ([lease(0, 9, Fraction(1, 7))] * 8, 9),
        ([lease(-9, 1), lease(-9, 1), lease(9, 19), lease(9, 19)], 2),
    ],
)
def test_more_than_the_whole_device_is_seen(held: list[Lease], over: int) -> None:
    """By its shares, within the time that is looked at, and with no GPU's help."""
    assert compare(GPU, 0, 10 * S, [], held).over_us == over * S


def test_what_no_sample_speaks_of_is_in_no_sum() -> None:
    """A gap in the samples is not idle: nobody knows."""
    stamps = [(0, 0), (S, 50), (9 * S, 50), (10 * S, 50), (10 * S, 50)]
    found = samples_of(stamps)
    assert found == [sample(0, 1, 50), sample(9, 10, 50)]
    assert compare(GPU, 0, 10 * S, found, [lease(0, 10)]).leased_us == 2 * S


def test_samples_outside_the_span_are_cut() -> None:
    """At both ends."""
    report = compare(GPU, 2 * S, 3 * S, [sample(0, 2, 90), sample(2, 9, 100)], [])
    assert (report.seen_us, report.unexplained_us) == (S, S)


@dataclass
class Machine:
    """GPUs that say what they are told to, as time passes."""

    now_us: int = 0
    percent: Callable[[int], int] = lambda second: 0  # noqa: ARG005  # its signature
    gpus: tuple[str, ...] = (GPU,)
    cut: bool = False
    naps: list[int] = field(default_factory=list)

    def sleep(self, seconds: int) -> None:
        self.naps.append(seconds)
        self.now_us += seconds * S

    def clock(self) -> int:
        return self.now_us * 1000

    def all(self) -> list[Gpu]:
        if not self.gpus:
            raise NoGpu("this machine has no NVIDIA GPU")
        return [Gpu(uuid, "L4", 1) for uuid in self.gpus]

    def stamps(self, uuid: str, since_us: int) -> list[tuple[int, int]]:
        if self.cut:
            raise NoGpu(f"{uuid} keeps no samples")
        first = max(since_us // S + 1, self.now_us // S - 100)
        return [(n * S, self.percent(n)) for n in range(first, self.now_us // S + 1)]


def test_samples_are_fetched_as_time_goes_by_and_none_twice() -> None:
    """One a second, from the moment we began to look."""
    machine = Machine(now_us=500 * S, percent=lambda second: second % 100)
    found = collect(machine, seconds=10, sleep=machine.sleep)
    assert found == {GPU: [sample(n, n + 1, (n + 1) % 100) for n in range(500, 510)]}


def test_a_device_without_samples_yet_is_looked_at_from_its_first() -> None:
    """What is before it, nobody knows."""
    machine = Machine()
    assert len(collect(machine, seconds=3, sleep=machine.sleep)[GPU]) == 2


T0 = milliseconds("2026-11-21T11:00:00Z")


LEASES: dict[str, dict[str, Any]] = {
    "gpu": {"leased_at": "2026-11-21T11:00:02Z"},
    "old": {"device": {**usage_data()["device"], "uuid": "GPU-2"}},
    "cpu": {"device": {"kind": "cpu", "name": "a", "uuid": "", "share": "1"}},
}


@pytest.fixture
def place(ledger: Ledger, url: str, tmp_path: Path) -> Place:
    """Return a ledger, as its operator has it, of one lease of 4 s, 2 s after T0."""
    for name, changes in LEASES.items():
        event = Event(
            id=name,
            source=swap_source("acme"),
            type="dev.guise.usage.recorded.v1",
            tenant="acme",
            time="2026-11-21T11:00:08Z",
            data=usage_data(**{"lease_ms": 4_000, **changes}),
        )
        ledger.post(usage_of(event, now=NOW))
    return Place(tmp_path, url.replace(f"//{APP}@", f"//{OPERATOR}@"))


def test_the_ledger_s_leases_are_those_on_gpus(place: Place) -> None:
    """From the grant, where it is known; else up to the job's end."""
    ledger = place.ledger()
    found = sorted(leases(ledger, T0, T0 + 10_000), key=lambda each: each.device)
    assert found == [
        Lease("GPU-1", (T0 + 2_000) * 1000, (T0 + 6_000) * 1000),
        Lease("GPU-2", (T0 + 4_000) * 1000, (T0 + 8_000) * 1000),
    ]
    assert list(leases(ledger, T0 + 9_000, T0 + 10_000)) == []
    ledger.close()


def looked(place: Place, machine: Machine, *, json: bool = True) -> int:
    look = Look(place, seconds=10, grace=5, tolerance=5, json=json)
    return reconcile(look, machine, sleep=machine.sleep, clock=machine.clock)


def at_work(*seconds: int) -> Machine:
    """Return a machine whose GPU is busy in these seconds after T0."""
    busy = {T0 // 1000 + each + 1 for each in seconds}
    return Machine(T0 * 1000, lambda second: 100 if second in busy else 0)


def test_work_that_was_leased_is_explained(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0; and what the host was at is idle."""
    machine = at_work(2, 3, 4)
    assert looked(place, machine) == 0
    assert machine.naps[-1] == 5
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["agreed"] is True
    [device] = told["devices"]
    assert device == {
        "device": GPU,
        "wall_s": "10.000",
        "seen_s": "10.000",
        "leased_s": "4.000",
        "busy_s": "3.000",
        "idle_s": "1.000",
        "unexplained_s": "0.000",
        "over_s": "0.000",
    }


def test_work_that_nobody_leased_is_not_explained(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, and for how long."""
    assert looked(place, at_work(2, 3, 4, 8), json=False) == DIFFERENT
    told = capsys.readouterr().out
    assert "unexplained 1.000 s" in told
    assert "does not explain" in told


@pytest.mark.parametrize("machine", [Machine(gpus=()), Machine(cut=True)])
@pytest.mark.parametrize("json", [True, False])
def test_without_a_gpu_to_ask_it_says_so(
    place: Place,
    machine: Machine,
    capsys: pytest.CaptureFixture[str],
    json: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """Exit 3: neither agreed nor not."""
    assert looked(place, machine, json=json) == NO_GPU
    said = capsys.readouterr()
    assert "GPU" in said.out + said.err


def test_without_a_ledger_there_is_nothing_to_look_for(tmp_path: Path) -> None:
    """Before the GPUs are watched for an hour."""
    machine = Machine()
    with pytest.raises(NotFound):
        looked(Place(tmp_path), machine)
    assert machine.naps == []


def test_without_the_library_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 on a machine that has no nvidia-ml-py."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert run(Look(Place(tmp_path), 1, 0, 0)) == NO_GPU


class Api:
    """The functions of nvidia-ml-py that are used, over GPUs of paper."""

    NVML_GPU_UTILIZATION_SAMPLES = 1

    class NVMLError(Exception):
        """The library's."""

    class NVMLError_NotFound(NVMLError):  # noqa: N801  # the library's name
        """No samples since."""

    class NVMLError_NotSupported(NVMLError):  # noqa: N801  # the library's name
        """Not on such a device."""

    def __init__(self, fault: str = "", count: int = 1) -> None:
        self.fault = fault
        self.count = count
        self.shut = False

    def nvmlInit(self) -> None:  # noqa: N802  # the library's name
        self._fail("init")

    def nvmlShutdown(self) -> None:  # noqa: N802  # the library's name
        self.shut = True

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802  # the library's name
        self._fail("count")
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802  # as above
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802  # as above
        return uuid

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802  # as above
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802  # as above
        return "L4"

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[int]:  # noqa: N802  # as above
        return [1, 2]

    def nvmlDeviceGetSamples(  # noqa: N802  # as above
        self, handle: str, kind: int, since: int
    ) -> tuple[int, list[Any]]:
        assert (handle, kind) == ("GPU-0", self.NVML_GPU_UTILIZATION_SAMPLES)
        self._fail("samples")
        if self.fault == "none":
            raise self.NVMLError_NotFound
        if self.fault == "cut":
            raise self.NVMLError_NotSupported
        stamps = [(30, 7), (20, 5), (since, 9)]
        return 1, [
            SimpleNamespace(timeStamp=moment, sampleValue=SimpleNamespace(uiVal=each))
            for moment, each in stamps
        ]

    def _fail(self, where: str) -> None:
        if self.fault == where:
            raise self.NVMLError(where)


def test_nvml_is_asked_for_gpus_and_their_samples() -> None:
    """By UUID, in the order of time, none that was seen before."""
    api = Api()
    nvml = Nvml.of(api)
    assert nvml.all() == [Gpu("GPU-0", "L4", 2)]
    assert nvml.stamps("GPU-0", 10) == [(20, 5), (30, 7)]
    nvml.close()
    assert api.shut


def test_nvml_without_samples_since_has_none() -> None:
    """Which is no fault."""
    assert Nvml.of(Api("none")).stamps("GPU-0", 10) == []


@pytest.mark.parametrize("fault", ["init", "none at all", "cut"])
def test_where_nvml_has_nothing_to_say_there_is_no_gpu(fault: str) -> None:
    """No driver, no device, or one that is cut into instances."""
    api = Api(fault, count=0 if fault == "none at all" else 1)

    def ask() -> None:
        nvml = Nvml.of(api)
        nvml.all()
        nvml.stamps("GPU-0", 10)

    with pytest.raises(NoGpu):
        ask()


@pytest.mark.parametrize("fault", ["count", "samples"])
def test_where_nvml_fails_that_is_a_fault(fault: str) -> None:
    """And no machine without a GPU."""
    nvml = Nvml.of(Api(fault))
    with pytest.raises(Failed):
        nvml.stamps("GPU-0", 10) if fault == "samples" else nvml.all()
