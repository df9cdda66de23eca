"""A worker that dies between any two steps: in the right order, and in five wrong."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from functions import events
from tests.crash.broken import ORDERINGS
from tests.crash.evidence import findings
from tests.crash.rehearsal import STEPS_MAX, Draw, Fate, World, rehearse
from tests.swap.house import ACME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crash.rehearsal import Parts

# The same few lines, with a death in each place: what runs is known elsewhere.
pytestmark = pytest.mark.no_cover

KILLS = 20
ROUNDS = 5
JOBS = 50
DELIVERIES = 1_000


def test_a_worker_may_die_or_be_stopped_at_any_step(tmp_path: Path) -> None:
    """A hundred deaths: nothing is lost, doubled, unrecorded or left."""
    assert rehearse(World(tmp_path), ROUNDS * KILLS, Draw(5)).all == []


@pytest.mark.parametrize("broken", ORDERINGS)
def test_a_wrong_order_is_caught_within_a_hundred_kills(
    broken: Callable[[Parts], Parts], tmp_path: Path
) -> None:
    """Each of the five; a check that misses one proves nothing of the right order."""
    draw = Draw(0)
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        if rehearse(World(folder, broken), KILLS, draw).all:
            return
    pytest.fail(f"{ROUNDS * KILLS} kills did not show it")


def test_a_job_has_steps_to_die_at(tmp_path: Path) -> None:
    """The store, the auditor and the sink are called some dozen times a job."""
    world, fate = World(tmp_path), Fate()
    assert world.send(world.upload("whole"), fate) == 204
    assert 30 < fate.steps < STEPS_MAX
    dying = Fate(at=10)
    assert world.send(world.upload("dying"), dying) == 0
    assert dying.dead
    world.recover()


def test_a_thousand_deliveries_of_fifty_uploads_are_fifty_jobs(tmp_path: Path) -> None:
    """Duplicate and shuffled: 50 results, 50 bills, 100 entries in the log."""
    world = World(tmp_path)
    jobs = [f"upload-{n}" for n in range(JOBS)]
    told = [world.upload(job) for job in jobs] * (DELIVERIES // JOBS)
    random.Random(7).shuffle(told)  # noqa: S311  # no secret
    assert len(told) == DELIVERIES
    client = world.worker(Fate())
    for event in told:
        headers, body = events.encode(event)
        answer = client.post("/events", headers=headers, data=body)
        assert answer.status_code == 204
    _tell_again(world, jobs)
    seen = world.seen(frozenset(jobs))
    assert findings(seen).all == []
    outcomes = [record["outcome"] for record in seen.records.values()]
    assert outcomes == ["completed"] * JOBS
    assert len(seen.bills) == JOBS
    assert len(seen.leaves) == 2 * JOBS


def _tell_again(world: World, jobs: list[str]) -> None:
    """Deliver every ending and every usage event once more, the last first."""
    for job in reversed(jobs):
        record = json.loads(world.store.get(ACME.record(job)).data)
        for event in record["events"]:
            world.deliver(events.from_dict(event), timeout=1)
