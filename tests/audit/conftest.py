"""What every test of the audit function starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.audit.app import create_app
from functions.audit.log import Log
from functions.keys import MemoryKeys
from tests.audit.house import House, TokensByName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return where the log's database is."""
    return f"sqlite:///{tmp_path}/audit.db"


@pytest.fixture
def house(url: str) -> Iterator[House]:
    """Return an audit function with an empty log."""
    keys = MemoryKeys()
    log = Log.at(url, keys)
    app = create_app(log=log, keys=keys, authenticator=TokensByName())
    yield House(log, keys, app.test_client(), url)
    log.close()
