"""What the metrics are told of a job: how it ended, what it took, and how long where.

Tenant by tenant; `metrics` shows the page that is for everybody without their names.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from functions import traces
from functions.problems import TYPE_PREFIX

if TYPE_CHECKING:
    from functions.metrics import Metrics
    from functions.swap.ledger import Record
    from functions.tenant import Tenant


@dataclass(slots=True)
class Stages:
    """How long each stage of an attempt took, one behind the other."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def did(self, stage: str) -> None:
        """End a stage, which began where the one before it ended."""
        now = time.monotonic()
        took, self._since = now - self._since, now
        self.seconds[stage] = took
        traces.past(stage, took)


def count_stages(
    metrics: Metrics, tenant: Tenant, operation: str, stages: Stages
) -> None:
    """Count how long an attempt that ended took, stage by stage."""
    for stage, seconds in stages.seconds.items():
        metrics.observe(
            "stage_seconds",
            seconds,
            stage=stage,
            operation=operation,
            tenant=tenant.id,
        )


def count_ending(metrics: Metrics, tenant: Tenant, ending: Record) -> None:
    """Count a job that has ended: once, by whoever's ending it is.

    Device-seconds are those of the lease, by the device's share, as they are billed.
    """
    who, what = tenant.id, ending.operation
    problem = str((ending.problem or {}).get("type", ""))
    metrics.count(
        "jobs",
        operation=what,
        outcome=ending.outcome,
        reason=problem.removeprefix(TYPE_PREFIX),
        tenant=who,
    )
    if ending.faces:
        metrics.count("faces", len(ending.faces), operation=what, tenant=who)
    if ending.usage is not None:
        device = ending.usage["device"]
        metrics.count(
            "device_seconds",
            float(ending.usage["lease_ms"] * Fraction(device["share"]) / 1000),
            operation=what,
            device=device["kind"],
            tenant=who,
        )
