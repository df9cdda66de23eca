"""The stand-ins of the published networks, made once for every worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools import standins as made

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the small stand-in of every model, named as published."""
    folder = tmp_path_factory.mktemp("standins")
    for name in made.NAMES:
        made.build(name, folder, small=True)
    return folder
