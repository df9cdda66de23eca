"""Group commit: what many callers bring at once is made durable together.

Whoever calls puts its item in a list and waits; one thread takes all that is
there, has it committed, and gives each caller its own answer.  A lone caller waits
for nothing but its own commit.  After a batch of several the thread waits for as many
again, for as long as more are coming and some milliseconds at most: whoever was just
answered is about to come again, and one commit for thirty costs little more than one
for eight.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from functions.problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

BATCH_MAX: Final = 512
WAITING_MAX: Final = 4_096
WAIT_SECONDS_MAX: Final = 15.0
GATHER_SECONDS_MAX: Final = 0.02
_LOOK_SECONDS: Final = 0.002

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Waiting(Generic[Item, Answer]):
    """An item, and whoever waits for its answer.

    A bare lock, held until there is one: a `Future` has a condition, which costs a
    third of what a whole acknowledgement does.
    """

    __slots__ = ("answer", "done", "error", "item")
    answer: Answer

    def __init__(self, item: Item) -> None:
        self.item = item
        self.error: Exception | None = None
        self.done = threading.Lock()
        self.done.acquire()


class GroupCommit(Generic[Item, Answer]):
    """One committing thread, and everybody who waits for it.

    `commit` is given a batch in the order it came and returns one answer for each,
    once all of it is durable; what it raises, the whole batch was not done.
    """

    def __init__(
        self,
        commit: Callable[[list[Item]], Sequence[Answer]],
        *,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
        waiting_max: int = WAITING_MAX,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._commit = commit
        self._wait_seconds_max = wait_seconds_max
        self._waiting_max = waiting_max
        self._pause = pause
        self._queue: SimpleQueue[_Waiting[Item, Answer] | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __call__(self, item: Item) -> Answer:
        """Return the answer to `item` once it is durable.

        Raises `Unavailable` where too many wait, where it takes too long (it may
        be committed yet), and where the commit failed.
        """
        waiting: _Waiting[Item, Answer] = _Waiting(item)
        with self._gate:
            if self._closed or self._queue.qsize() >= self._waiting_max:
                raise Unavailable(internal="no more is taken")
            self._queue.put(waiting)
        if not waiting.done.acquire(timeout=self._wait_seconds_max):
            raise Unavailable(internal="the commit takes too long")
        if waiting.error is not None:
            # One for each who waits: a shared one would be raised by many.
            raise Unavailable(internal=repr(waiting.error)) from waiting.error
        return waiting.answer

    @property
    def waiting(self) -> int:
        """How many wait for the next batch."""
        return self._queue.qsize()

    def close(self) -> None:
        """Commit what waits, and take no more."""
        with self._gate:
            self._closed = True
            self._queue.put(None)  # the last there is
        self._thread.join()

    def _run(self) -> None:
        batch = self._next_batch()
        while batch:
            try:
                answers = self._commit([each.item for each in batch])
            except Exception as error:  # each waiter raises it
                logger.warning("a batch of %d failed", len(batch), exc_info=error)
                for each in batch:
                    each.error = error
            else:
                for each, answer in zip(batch, answers, strict=True):
                    each.answer = answer
            for each in batch:
                each.done.release()
            batch = self._next_batch(like=len(batch))

    def _next_batch(self, *, like: int = 1) -> list[_Waiting[Item, Answer]]:
        """Return what waits, in the order it came; nothing once it is closed.

        `like` is how many the batch before had.
        """
        found = self._queue.get()
        if like > 1 and found is not None:
            self._gather(like - 1)
        batch = []
        with suppress(Empty):
            while found is not None:
                batch.append(found)
                if len(batch) == BATCH_MAX:
                    return batch
                found = self._queue.get_nowait()
        if found is None and batch:
            self._queue.put(None)  # for the next look
        return batch

    def _gather(self, like: int) -> None:
        """Return once so many wait, nobody else comes, or it takes too long."""
        seen, deadline = -1, time.monotonic() + GATHER_SECONDS_MAX
        while seen < (waiting := self._queue.qsize()) < like:
            if time.monotonic() > deadline:
                return
            seen = waiting
            self._pause(_LOOK_SECONDS)
