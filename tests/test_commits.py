"""Group commit: one commit for many callers, and each its own answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from functions.commits import GroupCommit
from functions.problems import Unavailable

if TYPE_CHECKING:
    from concurrent.futures import Future


class Disk:
    """A commit that waits to be let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = threading.Semaphore(0)
        self.free = threading.Event()

    def __call__(self, batch: list[int]) -> list[int]:
        self.batches.append(batch)
        self.began.release()
        self.free.wait(10)
        if 13 in batch:
            raise OSError("the disk is full")
        return [each * each for each in batch]


def until_waiting(group: GroupCommit[int, int], callers: int) -> None:
    """Return when that many callers wait for the next batch."""
    while group.waiting < callers:
        time.sleep(0.001)


def test_a_crowd_shares_a_commit() -> None:
    """What comes while a commit goes on is one batch; each gets its own answer."""
    disk = Disk()
    group = GroupCommit(disk)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(group, 100)
        assert disk.began.acquire(timeout=10)
        crowd = [pool.submit(group, each) for each in range(8)]
        until_waiting(group, 8)
        disk.free.set()
        assert first.result() == 10_000
        assert [each.result() for each in crowd] == [each**2 for each in range(8)]
    group.close()
    assert [len(batch) for batch in disk.batches] == [1, 8]


def test_a_failed_commit_is_told_to_each_of_its_batch() -> None:
    """Nobody hears "done" of a batch that failed, and the next batch is taken."""
    disk = Disk()
    disk.free.set()
    group = GroupCommit(disk)
    with pytest.raises(Unavailable) as raised:
        group(13)
    assert isinstance(raised.value.__cause__, OSError)
    assert group(3) == 9
    group.close()


def test_closing_commits_what_waits_and_takes_no_more() -> None:
    """Who waits when it closes is answered; who comes later is refused."""
    disk = Disk()
    group = GroupCommit(disk)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(group, 5)
        assert disk.began.acquire(timeout=10)
        closing = pool.submit(group.close)
        disk.free.set()
        closing.result()
        assert waiting.result() == 25
    with pytest.raises(Unavailable):
        group(6)


def test_nobody_waits_for_ever() -> None:
    """A commit that hangs is an `Unavailable` for who waits for it."""
    disk = Disk()
    group = GroupCommit(disk, wait_seconds_max=0.05)
    with pytest.raises(Unavailable):
        group(1)
    disk.free.set()
    group.close()


def test_the_queue_is_bounded() -> None:
    """Past its limit, who comes is told to come again; who waits is served."""
    disk = Disk()
    group = GroupCommit(disk, waiting_max=2)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(group, 1)
        assert disk.began.acquire(timeout=10)
        waiting = [pool.submit(group, each) for each in (2, 3)]
        until_waiting(group, 2)
        with pytest.raises(Unavailable) as full:
            group(4)
        assert "no more is taken" in str(full.value)
        disk.free.set()
        assert [each.result() for each in (first, *waiting)] == [1, 4, 9]
    group.close()


def test_a_lone_caller_waits_for_its_own_commit_alone() -> None:
    """Nothing is gathered where nobody else was."""
    pauses: list[float] = []
    disk = Disk()
    disk.free.set()
    group = GroupCommit(disk, pause=pauses.append)
    assert [group(each) for each in range(5)] == [0, 1, 4, 9, 16]
    group.close()
    assert pauses == []
    assert disk.batches == [[each] for each in range(5)]


def test_who_comes_while_a_crowd_is_gathered_is_in_its_batch() -> None:
    """After a batch of several the next one waits for as many, while more come."""
    disk = Disk()
    late: list[Future[int]] = []
    with ThreadPoolExecutor(8) as pool:

        def pause(_seconds: float) -> None:
            if len(late) < 2:
                late.append(pool.submit(group, 7))
                until_waiting(group, len(late))

        group = GroupCommit(disk, pause=pause)
        first = pool.submit(group, 1)
        assert disk.began.acquire(timeout=10)
        crowd = [pool.submit(group, each) for each in (2, 3, 4, 6)]
        until_waiting(group, 4)
        disk.free.set()
        assert [each.result() for each in (first, *crowd)] == [1, 4, 9, 16, 36]
        assert group(5) == 25
        assert [each.result() for each in late] == [49, 49]
    group.close()
    assert [sorted(batch) for batch in disk.batches] == [[1], [2, 3, 4, 6], [5, 7, 7]]


def test_a_crowd_is_not_waited_for_longer_than_it_takes() -> None:
    """Once as many wait as the batch before had, it is committed."""
    disk = Disk()
    pauses: list[float] = []
    group = GroupCommit(disk, pause=pauses.append)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(group, 1)]
        assert disk.began.acquire(timeout=10)
        for _ in range(2):
            waiting += [pool.submit(group, each) for each in (2, 3)]
        until_waiting(group, 4)
        disk.free.set()
        assert len([each.result() for each in waiting]) == 5
    group.close()
    assert pauses == []
