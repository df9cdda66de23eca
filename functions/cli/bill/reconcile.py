"""Looking at the GPUs for a while, and at the ledger after it."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.billing.leases import leases
from functions.billing.reconcile import NoGpu, Nvml, collect, compare
from functions.cli.terminal import err, print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.billing.reconcile import Gpus, Report
    from functions.cli.bill.place import Place

AGREED: Final = 0
DIFFERENT: Final = 1
NO_GPU: Final = 3


@dataclass(frozen=True, slots=True)
class Look:
    """How long to look, how long to wait for the ledger, and what may differ."""

    place: Place
    seconds: int
    grace: int
    tolerance: int
    json: bool = False


def run(look: Look) -> int:
    """Compare this machine's GPUs with the ledger, and return the exit status."""
    try:
        nvml = Nvml.open()
    except NoGpu as missing:
        return _no_gpu(missing, look)
    with closing(nvml):
        return reconcile(look, nvml)


def reconcile(
    look: Look,
    gpus: Gpus,
    *,
    sleep: Callable[[int], object] = time.sleep,
    clock: Callable[[], int] = time.time_ns,
) -> int:
    """Compare `gpus` with the ledger, print it, and return the exit status."""
    with closing(look.place.ledger()) as ledger:  # before an hour of looking
        start_us = clock() // 1000
        try:
            found = collect(gpus, seconds=look.seconds, sleep=sleep)
        except NoGpu as missing:
            return _no_gpu(missing, look)
        stop_us = clock() // 1000
        sleep(look.grace)
        held = list(leases(ledger, start_us // 1000, stop_us // 1000))
    reports = [
        compare(uuid, start_us, stop_us, samples, held)
        for uuid, samples in found.items()
    ]
    agreed = all(_agrees(report, look.tolerance) for report in reports)
    _show(reports, agreed=agreed, json=look.json)
    return AGREED if agreed else DIFFERENT


def _agrees(report: Report, tolerance: int) -> bool:
    return (
        not report.over_us and report.unexplained_us * 100 <= report.wall_us * tolerance
    )


def _show(reports: list[Report], *, agreed: bool, json: bool) -> None:
    shown = [report.shown() for report in reports]
    if json:
        print_json({"agreed": agreed, "devices": shown})
        return
    for each in shown:
        device = each.pop("device")
        say(f"{device}: " + ", ".join(f"{n[:-2]} {s} s" for n, s in each.items()))
    say("the ledger explains it" if agreed else "the ledger does not explain it")


def _no_gpu(missing: NoGpu, look: Look) -> int:
    if look.json:
        print_json({"agreed": None, "devices": [], "reason": missing.detail})
    else:
        err().print(f"nothing to compare with: {missing.detail}", markup=False)
    return NO_GPU
