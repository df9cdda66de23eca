"""One real stack for all the tests that do not break it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.stack import Stack, up

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a stack that falls asleep after a second."""
    with up(tmp_path_factory.mktemp("guise") / "home") as running:
        yield running
