"""Making something on a thread, and handing it over."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from functions.problems import Unavailable
from functions.warm import Opening, Warm


def test_whoever_asks_waits_for_what_is_being_made() -> None:
    """The value is made beside the caller, once."""
    go, made = threading.Event(), []

    def make() -> int:
        go.wait()
        made.append(1)
        return 42

    warm = Warm(make)
    ready = [warm.ready]
    with pytest.raises(Unavailable):
        warm.get(timeout=0.01)
    go.set()
    assert [warm.get(), warm.get()] == [42, 42]
    assert [*ready, warm.ready] == [False, True]
    assert made == [1]


def test_what_making_it_raised_is_raised_to_each_who_asks() -> None:
    """A failed load is not forgotten."""

    def make() -> int:
        raise OSError("away")

    warm = Warm(make)
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            warm.get()
    assert isinstance(warm.error, OSError)
    assert not warm.ready


def test_an_opening_that_failed_is_tried_again_by_the_next() -> None:
    """A database that comes back is found."""
    attempts = []

    def make() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError("away")
        return 42

    opening = Opening(make)
    with suppress(Unavailable):  # unless the first had failed before we asked
        opening.get(timeout=5)
    with suppress(Unavailable):
        opening.get(timeout=5)
    assert opening.get(timeout=5) == 42
    assert opening.ready
    assert len(attempts) == 3


def test_an_opening_that_fails_is_unavailable() -> None:
    """Whoever asks is told to come again; the cause is for the log."""

    def make() -> int:
        raise OSError("away")

    with pytest.raises(Unavailable, match="away"):
        Opening(make).get(timeout=5)
