"""Turns for work that waits for somebody outside."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from functions.local.turns import Turns
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

SLOW, ANN, BOB = Tenant("slow"), Tenant("ann"), Tenant("bob")


class Work:
    """Work that says when it has begun, and ends when it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def __call__(self) -> None:
        self.begun.release()
        assert self.go.wait(30)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_who_hangs_keeps_nobody_waiting_and_has_one_thread() -> None:
    """However often it asks; and once it is done it may ask again."""
    turns, slow, quick = Turns(2), Work(), Work()
    quick.go.set()
    for _ in range(5):
        turns.ask(SLOW, slow)
    turns.ask(ANN, quick)
    assert slow.begun.acquire(timeout=30)
    assert quick.begun.acquire(timeout=30)
    assert not slow.begun.acquire(blocking=False)
    slow.go.set()
    until(lambda: asked_again(turns, slow))


def asked_again(turns: Turns, work: Work) -> bool:
    turns.ask(SLOW, work)
    return work.begun.acquire(blocking=False)


def test_where_all_threads_are_taken_it_is_first_come_first_served() -> None:
    """One place: the three go by turns, and who failed is as who succeeded."""
    turns, slow = Turns(1), Work()
    order: list[str] = []
    turns.ask(SLOW, slow)
    assert slow.begun.acquire(timeout=30)
    for tenant in (ANN, BOB):
        for _ in range(2):
            turns.ask(tenant, lambda name=tenant.id: order.append(name))  # type: ignore[misc]
    slow.go.set()
    until(lambda: len(order) == 2)
    assert order == ["ann", "bob"]


def test_work_that_fails_is_logged_and_the_next_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody's fault is another's; nor does it cost a thread."""
    turns, after = Turns(1), Work()
    after.go.set()

    def fail() -> None:
        raise ZeroDivisionError

    turns.ask(SLOW, fail)
    turns.ask(ANN, after)
    assert after.begun.acquire(timeout=30)
    assert "the turn of slow failed" in caplog.text
    turns.ask(BOB, after)
    assert after.begun.acquire(timeout=30)
