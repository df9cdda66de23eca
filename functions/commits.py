"""Group commit: what many callers bring at once is made durable together.

Whoever calls puts its item in a list and waits; one thread takes all that is
there, has it committed, and gives each caller its own answer.  There is no timer:
a batch is whatever came while the one before was being committed, so that a lone
caller waits for nothing and a crowd shares one `fsync`.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from functions.problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

BATCH_MAX: Final = 512
WAITING_MAX: Final = 4_096
WAIT_SECONDS_MAX: Final = 15.0

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    answer: Future[Answer] = field(default_factory=Future)


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
    ) -> None:
        self._commit = commit
        self._wait_seconds_max = wait_seconds_max
        self._waiting_max = waiting_max
        self._changed = threading.Condition()
        self._waiting: list[_Waiting[Item, Answer]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __call__(self, item: Item) -> Answer:
        """Return the answer to `item` once it is durable.

        Raises `Unavailable` where too many wait, where it takes too long (it may
        be committed yet), and where the commit failed.
        """
        waiting: _Waiting[Item, Answer] = _Waiting(item)
        with self._changed:
            if self._closed or len(self._waiting) >= self._waiting_max:
                raise Unavailable(internal="no more is taken")
            self._waiting.append(waiting)
            self._changed.notify()
        try:
            return waiting.answer.result(self._wait_seconds_max)
        except TimeoutError as error:
            raise Unavailable(internal="the commit takes too long") from error

    def close(self) -> None:
        """Commit what waits, and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                answers = self._commit([each.item for each in batch])
            except Exception as error:  # each waiter raises it
                logger.warning("a batch of %d failed", len(batch), exc_info=error)
                for each in batch:
                    each.answer.set_exception(_as_unavailable(error))
            else:
                for each, answer in zip(batch, answers, strict=True):
                    each.answer.set_result(answer)

    def _next_batch(self) -> list[_Waiting[Item, Answer]]:
        """Return what waits, in the order it came; nothing once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch = self._waiting[:BATCH_MAX]
            del self._waiting[:BATCH_MAX]
            return batch


def _as_unavailable(error: Exception) -> Unavailable:
    """Return an exception for one waiter: a shared one would be raised by many."""
    unavailable = Unavailable(internal=repr(error))
    unavailable.__cause__ = error
    return unavailable
