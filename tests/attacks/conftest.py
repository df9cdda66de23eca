"""What every attack starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks.server import Server, serving
from tests.attacks.town import Town, open_town

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Return an installation that a module's attacks share; nothing of them stays."""
    with open_town(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Return an installation in which nothing has happened."""
    with open_town(tmp_path_factory.mktemp("fresh")) as made:
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return the door's real gunicorn."""
    with serving(tmp_path_factory.mktemp("server")) as made:
        yield made
