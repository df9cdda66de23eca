"""`guise jobs` beside a running stack, and through its door."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from functions.tenant import RETENTION, SWEPT
from tests.cli.test_commands import guise, last
from tests.integration.stack import HOPPER, Stack, until, up

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("jobs") / "home", idle=5) as running:
        yield running


def detected(stack: Stack, name: str) -> None:
    """Have a job done that was uploaded."""
    (stack.store / "uploads" / "hopper.jpg").write_bytes(HOPPER.read_bytes())
    request = {"operation": "detect", "target": "uploads/hopper.jpg"}
    (stack.store / "requests" / f"{name}.json").write_text(json.dumps(request))
    until((stack.store / "results" / name / "job.json").exists)
    until(lambda: not (stack.store / "outbox" / name).exists())


def through_the_door(stack: Stack) -> tuple[object, ...]:
    return ("--url", stack.urls["door"], "--token-file", stack.home / "token")


def test_a_door_lists_shows_and_cancels(stack: Stack) -> None:
    """As it would for any tenant's program."""
    detected(stack, "by-door")
    asked = through_the_door(stack)
    printed = guise("jobs", "list", *asked, "--json").stdout.splitlines()
    found = {each["job"]: each for each in map(json.loads, printed)}
    assert found["by-door"]["state"] == "completed"
    shown = last(guise("jobs", "show", "by-door", *asked, "--json"))
    assert shown["outcome"] == "completed"
    # It has ended: the record is the answer.
    assert "completed" in guise("jobs", "cancel", "by-door", *asked).stdout
    said = guise("jobs", "show", "never", *asked, code=1).stderr
    assert "urn:guise:problem:not-found" in said
    without = ("jobs", "list", "--url", stack.urls["door"])
    assert "--token-file" in guise(*without, code=1).stderr


def test_a_refused_upload_is_asked_for_by_another_name(stack: Stack) -> None:
    """Mended, it is refused as its name is used; that is said, and what to do."""
    request = stack.store / "requests" / "typo.json"
    request.write_text('{"operation": "detct", "target": "uploads/hopper.jpg"}')
    ended = stack.store / "results" / "typo" / "job.json"
    until(ended.exists)
    before = ended.read_bytes()
    (stack.store / "uploads" / "hopper.jpg").write_bytes(HOPPER.read_bytes())
    request.write_text('{"operation": "detect", "target": "uploads/hopper.jpg"}')
    log = stack.home / "run" / "worker.log"
    until(lambda: "typo was refused before, and no job ends twice" in log.read_text())
    assert "a new one takes a new id or key" in log.read_text()
    said = guise("jobs", "retry", "typo", "--home", stack.home, code=1).stderr
    assert "a new one takes a new id or key" in said
    detected(stack, "typo-2")
    assert ended.read_bytes() == before


def test_a_sweep_by_hand_applies_retention_and_tells_audit(stack: Stack) -> None:
    """What is older than its days goes, and the log says why."""
    detected(stack, "old")
    # The stack looks when it starts, by the policy of then, and again in an hour.
    until((stack.store / SWEPT).exists)
    (stack.store / RETENTION).write_text('{"results_days":7}')
    long_ago = time.time() - 10 * 86_400
    for path in stack.store.rglob("*"):
        if "old" in path.parts or path.name == "old.json":
            os.utime(path, (long_ago, long_ago))
    swept: Any = last(
        guise("jobs", "sweep", "--home", stack.home, "--json"),
    )
    assert swept["retired"]["jobs"] == 1
    assert not list((stack.store / "results" / "old").glob("1.*"))
    assert guise("jobs", "sweep", "--home", stack.home).stdout.startswith("0 told")
    until(lambda: reasons(stack) == ["retention"])
    assert stack.status().dead_letters == 0


def reasons(stack: Stack) -> list[str]:
    """Return why something of the job was erased, as the log tells it."""
    page = stack.get("/v1/tenants/demo/log/entries?job=old", "audit").json()
    leaves = [entry["leaf"] for entry in page["entries"]]
    return [
        leaf["data"]["reason"] for leaf in leaves if leaf["type"].endswith("erased.v1")
    ]


def test_a_job_that_waits_is_asked_for_by_a_retry(stack: Stack) -> None:
    """Though its request was lost on the way."""
    detected(stack, "first")
    text = (stack.store / "jobs" / "first" / "request.json").read_text()
    (stack.store / "outbox" / "lost").touch()
    (stack.store / "jobs" / "lost").mkdir()
    accepted = text.replace('"job":"first"', '"job":"lost"')
    (stack.store / "jobs" / "lost" / "request.json").write_text(accepted)
    shown = last(guise("jobs", "show", "lost", "--home", stack.home, "--json"))
    assert shown["outcome"] == "waiting"
    done = guise("jobs", "retry", "lost", "--home", stack.home).stdout
    assert "a worker is asked for it" in done
    until((stack.store / "results" / "lost" / "job.json").exists)
