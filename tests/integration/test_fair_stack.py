"""A greedy tenant and three others on one machine: who is served first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx

from functions.local.home import Home
from functions.tenant import Tenant
from tests.integration.stack import HOPPER, until, up

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.stack import Stack

GREEDY, OTHERS = "ann", ("bob", "cat", "dan")
AT_ONCE = 8
"""Within half of the door's threads, which is what one tenant can have."""
REQUEST = {"operation": "detect", "target": "uploads/a.jpg"}


def test_who_comes_late_with_one_job_is_served_before_the_rest_of_eight(
    tmp_path: Path,
) -> None:
    """Ann's eight were all there first; three others end before at least two of them.

    The worker sleeps when they come, so that all of them wait for it.
    """
    tokens = settled(tmp_path / "home")
    ended: list[str] = []
    lock = threading.Lock()

    def ask(stack: Stack, name: str) -> None:
        answer = httpx.post(
            f"{stack.urls['door']}/v1/swaps",
            json=REQUEST,
            headers={"Authorization": f"Bearer {tokens[name]}"},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 201, answer.text
        with lock:
            ended.append(name)

    with up(tmp_path / "home", idle=20) as stack, ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(ask, stack, GREEDY) for _ in range(AT_ONCE)]
        until(lambda: accepted(tmp_path / "home") == AT_ONCE)
        asked += [pool.submit(ask, stack, name) for name in OTHERS]
        for each in asked:
            each.result()
    assert sorted(ended) == sorted([GREEDY] * AT_ONCE + list(OTHERS))
    assert ended[-2:] == [GREEDY] * 2


def settled(path: Path) -> dict[str, str]:
    """Make the tenants, each with a picture; return a token of each."""
    home = Home(path.resolve())
    home.prepare([Tenant(name) for name in (GREEDY, *OTHERS)])
    for name in (GREEDY, *OTHERS):
        picture = home.tenants / name / "uploads" / "a.jpg"
        picture.write_bytes(HOPPER.read_bytes())
    return {name: home.issue(Tenant(name)) for name in (GREEDY, *OTHERS)}


def accepted(path: Path) -> int:
    """Return how many jobs the greedy tenant's store holds."""
    return len(list((path / "tenants" / GREEDY / "jobs").glob("*/request.json")))
