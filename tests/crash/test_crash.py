"""Twenty kills of a real stack; `make crash N=500` is the long run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.driver import crash
from tests.crash.faults import plan

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 20
SEED = 92

pytestmark = pytest.mark.xdist_group("crash")


def test_whatever_is_killed_nothing_is_lost_doubled_or_unrecorded(
    tmp_path: Path,
) -> None:
    """Nor with a full disk, a sink that drops, whom stops, and what comes twice."""
    summary = crash(tmp_path / "home", KILLS, SEED)
    assert summary.found.all == [], summary
    assert summary.kills == KILLS
    # Six are always under way; how many more, the machine decides.
    assert summary.outcomes.get("completed", 0) >= 5


def test_the_seed_is_the_plan() -> None:
    """One seed plans one run, and other seeds others; each kind of step is in it."""
    steps = list(plan(SEED, KILLS))
    assert steps == list(plan(SEED, KILLS))
    assert steps != list(plan(SEED + 1, KILLS))
    assert sum(step.act.startswith("kill") for step in steps) == KILLS
    acts = {step.act for step in steps}
    assert acts == {"kill", "kill-stack", "stop", "twice", "full", "drop", "slow"}
