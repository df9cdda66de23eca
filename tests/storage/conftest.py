"""The stores that the contract holds for.  A new one joins `KINDS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.storage.file import FileStore
from functions.storage.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.storage import Store

KINDS = ("file", "memory")


@pytest.fixture(scope="session", params=KINDS)
def new_store(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], Store]:
    """Return a maker of empty stores of one kind."""

    def file() -> Store:
        return FileStore(tmp_path_factory.mktemp("store") / "acme")

    makers: dict[str, Callable[[], Store]] = {"file": file, "memory": MemoryStore}
    return makers[request.param]


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    """Return an empty store."""
    return new_store()
