"""Timers: again and again, whatever happens."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from functions.local.timers import Timer
from tests.local.rig import until

if TYPE_CHECKING:
    import pytest


def test_work_is_done_again_and_again() -> None:
    """Until the timer is stopped, and then no more."""
    calls: list[float] = []
    timer = Timer("test", 0.01, lambda: calls.append(time.monotonic()))
    timer.start()
    until(lambda: len(calls) >= 3)
    timer.stop()
    count = len(calls)
    time.sleep(0.05)
    assert len(calls) == count


def test_the_first_call_is_due_after_one_interval() -> None:
    """A timer that is stopped at once has done nothing."""
    calls: list[int] = []
    timer = Timer("test", 10, lambda: calls.append(1))
    timer.start()
    timer.stop()
    assert calls == []


def test_work_that_fails_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    """The fault is logged, and the next call is made."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise RuntimeError("this time")

    timer = Timer("sweep", 0.01, fail)
    timer.start()
    until(lambda: len(calls) >= 2)
    timer.stop()
    assert "the timer sweep failed" in caplog.text


def test_work_that_hangs_does_not_hold_the_end() -> None:
    """Stopping waits a moment for it, and no longer."""
    entered, release = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait(10)

    timer = Timer("test", 0.01, hang)
    timer.start()
    entered.wait(10)
    began = time.monotonic()
    timer.stop(wait_seconds=0.1)
    assert time.monotonic() - began < 2
    release.set()


def test_a_timer_that_never_began_can_be_stopped() -> None:
    """As when a stack fails while it starts."""
    Timer("test", 10, lambda: None).stop()
