"""Who holds a tenant's locks holds them alone."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from functions.cli.tenant.place import Place
from functions.problems import Conflict
from functions.tenant import Tenant
from tests.waiting import waiting

if TYPE_CHECKING:
    from pathlib import Path

ACME, GLOBEX = Tenant("acme"), Tenant("globex")


@pytest.mark.parametrize("what", ["changing", "working"])
def test_two_who_hold_one_tenant_take_turns(tmp_path: Path, what: str) -> None:
    """The second goes on when the first has ended, and not before."""
    hold = getattr(Place(tmp_path), what)
    turns = []

    def second() -> None:
        with getattr(Place(tmp_path), what)(ACME):
            turns.append("second")

    with ExitStack() as first:
        first.enter_context(hold(ACME))
        (lock,) = (tmp_path / "tenants/.locks").iterdir()
        with waiting(second, lock) as thread:
            assert thread.is_alive()
            turns.append("first")
            first.close()
    assert turns == ["first", "second"]


def test_the_two_locks_and_two_tenants_keep_nobody_waiting(tmp_path: Path) -> None:
    """Who only tries is refused where the lock is another's, and nowhere else."""
    place = Place(tmp_path)
    with place.changing(ACME), place.working(ACME, wait=False):
        with pytest.raises(Conflict), place.working(ACME, wait=False):
            pass
        with place.changing(GLOBEX), place.working(GLOBEX, wait=False):
            pass
    with place.working(ACME, wait=False):
        pass
