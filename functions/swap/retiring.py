"""The moment of retention, in which nothing old may be pinned unseen.

    policy/retiring/<random>    there while one look for what is too old goes on

A look announces itself, then reads who pins what, then deletes.  Whoever pins
something old writes the pin, then waits until no look goes on, then makes sure that
it is there still.  So either the look sees the pin, or who pins sees the look: what
is there after the wait stays as long as the pin does.
"""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from functions.problems import Unavailable
from functions.tenant import RETIRING, Key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.storage import Store

log = logging.getLogger(__name__)

_STALE_SECONDS: Final = 3600
"""Longer than any look takes: whoever announced this one was killed."""
_PAUSE_SECONDS: Final = 0.05


@contextmanager
def announced(store: Store, now: float) -> Iterator[None]:
    """Say that a look goes on while the body does; `now` is the store's own time.

    What looks that were killed have left is taken away.
    """
    key = Key(f"{RETIRING}{uuid.uuid4().hex}")
    store.put(key, b"{}")
    try:
        for info in store.list(RETIRING).objects:
            if info.updated < now - _STALE_SECONDS:
                store.delete(info.key)
        yield
    finally:
        try:
            store.delete(key)
        except Unavailable:  # it counts for nothing in an hour
            log.warning("%s stays", key, exc_info=True)


def wait(store: Store, *, seconds_max: float) -> None:
    """Return once no look goes on, or raise `Unavailable`."""
    deadline = time.monotonic() + seconds_max
    while _goes_on(store):
        if time.monotonic() > deadline:
            raise Unavailable("what is too old is being deleted: try again soon")
        time.sleep(_PAUSE_SECONDS)


def _goes_on(store: Store) -> bool:
    # An announcement that a clock of ours takes for old may be young: the looks of
    # a sweeper last seconds, so only what is hours away from now is left behind.
    objects = store.list(RETIRING).objects
    return any(abs(time.time() - each.updated) < _STALE_SECONDS for each in objects)
