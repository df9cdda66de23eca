"""A few kills of a function and its PostgreSQL; `tests.crash.acks` does a hundred."""

from __future__ import annotations

import pytest

from tests.crash.acks import torment

pytestmark = pytest.mark.xdist_group("crash")


@pytest.mark.parametrize("function", ["audit", "billing"])
def test_what_was_acknowledged_is_there_once(function: str) -> None:
    """Whichever of the two dies, and whenever: every "done" is true."""
    assert torment(function, 6, 7).startswith("6 kills, ")
