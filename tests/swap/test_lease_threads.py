"""The device's own threads: told from all others, and counted while they work."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from functions.swap.lease import Device, Meter
from functions.swap.threads import NAME, Helpers, marking, taken
from functions.tenant import Tenant

if TYPE_CHECKING:
    from pathlib import Path

ANN = Tenant("ann")
MS = 1_000_000


def spin(ns: int) -> None:
    """Take so much CPU time on this thread."""
    end = time.thread_time_ns() + ns
    while time.thread_time_ns() < end:
        pass


class Worker:
    """A thread that works when it is told to, as a pool's does."""

    def __init__(self) -> None:
        self.ready, self.done = threading.Event(), threading.Event()
        self.ending = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            self.ready.wait()
            self.ready.clear()
            if self.ending:
                return
            spin(30 * MS)
            self.done.set()

    def work(self) -> None:
        self.done.clear()
        self.ready.set()
        assert self.done.wait(10)

    def end(self) -> None:
        self.ending = True
        self.ready.set()
        self.thread.join(10)


def own_name() -> str:
    with open("/proc/thread-self/comm", encoding="utf-8") as file:  # noqa: PTH123  # plain
        return file.read().strip()


def test_what_is_made_while_a_thread_is_marked_is_the_device_s() -> None:
    """And nothing else is: neither the maker, nor what it makes before or after."""
    before, name = Worker(), own_name()
    with marking():
        mine = Worker()
    after = Worker()
    assert own_name() == name != NAME
    helpers = Helpers()
    helpers.look()
    first = helpers.clocks()
    for each in (before, mine, after):
        each.work()
    spin(10 * MS)
    assert 30 * MS <= taken(first, helpers.clocks()) < 50 * MS
    for each in (before, mine, after):
        each.end()


def test_a_lease_counts_the_device_s_threads_while_it_is_held() -> None:
    """Not what they did before, nor after; nor what others' threads do meanwhile."""
    other = Worker()
    with marking():
        mine = Worker()
    helpers = Helpers()
    mine.work()
    with Device().lease(ANN, helpers) as meter:
        mine.work()
        other.work()
    mine.work()
    assert 30 * MS <= meter.helpers_ns < 50 * MS
    with Device().lease(ANN) as plain:
        mine.work()
    assert plain.helpers_ns == 0
    mine.end()
    other.end()


def test_a_device_s_thread_that_ends_is_counted_no_further() -> None:
    """It is no fault, and no negative time."""
    with marking():
        gone, stays = Worker(), Worker()
    helpers = Helpers()
    helpers.look()
    first = helpers.clocks()
    gone.end()
    time.sleep(0.05)  # until the kernel has taken it away
    stays.work()
    assert taken(first, helpers.clocks()) >= 30 * MS
    helpers.look()
    assert len(helpers.clocks()) == len(first) - 1
    stays.end()


@pytest.mark.parametrize(("end_ms", "helpers_ns"), [(100, 0), (150, 20), (900, 40)])
def test_a_cancelled_lease_counts_its_threads_in_proportion(
    end_ms: int, helpers_ns: int
) -> None:
    """As it does its own."""
    meter = Meter(
        wall_ns=100 * MS,
        earned_ns=Fraction(100 * MS),
        helpers_ns=40,
        granted_ms=100,
    )
    assert meter.up_to(end_ms).helpers_ns == helpers_ns


def test_where_the_kernel_tells_no_names_nothing_is_counted(tmp_path: Path) -> None:
    """A lease without helpers is a lease."""
    nowhere = tmp_path / "proc" / "self"
    with marking(nowhere):
        mine = Worker()
    with Device().lease(ANN, Helpers(nowhere)) as meter:
        mine.work()
    assert meter.helpers_ns == 0
    mine.end()


def test_a_thread_that_ends_while_it_is_looked_for_is_none(tmp_path: Path) -> None:
    """Its folder is there, and its name is not any more."""
    (tmp_path / "1").mkdir()
    helpers = Helpers(tmp_path)
    helpers.look()
    assert helpers.clocks() == {}
