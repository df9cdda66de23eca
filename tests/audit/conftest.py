"""What every test of the audit function starts from.

A module that says `DATABASES = BOTH` has each of its tests run on SQLite and on
PostgreSQL; the others run on SQLite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.audit.app import create_app
from functions.audit.log import Log
from functions.audit.store import SCHEMA
from functions.keys import MemoryKeys
from tests.audit.bundles import LOG, bundle
from tests.audit.house import House, TokensByName
from tests.postgres import APP, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Database, Postgres

FUNCTION: tuple[str, ...] = ("committer", "reader", "searcher", "eraser")
"""The roles of the function's login."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a log on every database that its module names."""
    databases = getattr(metafunc.module, "DATABASES", ("sqlite",))
    if "url" in metafunc.fixturenames:
        metafunc.parametrize("url", databases, indirect=True)


@pytest.fixture(scope="session")
def audit_template(postgres: Postgres) -> Iterator[str]:
    """Return a database with the log's tables, and logins in the log's roles."""
    with postgres.database() as made:
        operator = (*FUNCTION, "pruner", "keeper")
        made.prepare(SCHEMA, "guise_audit", {APP: FUNCTION, OPERATOR: operator})
        yield made.name


@pytest.fixture
def audit_database(postgres: Postgres, audit_template: str) -> Iterator[Database]:
    """Return a PostgreSQL database with the log's tables, and nothing in them."""
    with postgres.database(audit_template) as made:
        yield made


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where the log's database is."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.db"
    database: Database = request.getfixturevalue("audit_database")
    return database.url()


@pytest.fixture
def house(url: str) -> Iterator[House]:
    """Return an audit function with an empty log."""
    keys = MemoryKeys()
    log = Log.at(url, keys)
    app = create_app(log=log, keys=keys, authenticator=TokensByName())
    yield House(log, keys, app.test_client(), url)
    log.close()


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Return a bundle of a whole log of 700 entries, three tiles, four checkpoints."""
    return bundle(tmp_path / "whole.zip", LOG.piece(notes=(100, 300, 600, 650)))
