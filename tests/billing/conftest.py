"""What every test of the billing function starts from.

A module that says `DATABASES = BOTH` has each of its tests run on SQLite and on
PostgreSQL; the others run on SQLite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.billing.app import create_app
from functions.billing.ledger import SCHEMA, Ledger
from functions.keys import MemoryKeys
from tests.billing.house import House, TokensByName, clock
from tests.postgres import APP, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Database, Postgres

FUNCTION: tuple[str, ...] = ("committer", "reader")
"""The roles of the function's login."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a ledger on every database that its module names."""
    databases = getattr(metafunc.module, "DATABASES", ("sqlite",))
    if "url" in metafunc.fixturenames:
        metafunc.parametrize("url", databases, indirect=True)


@pytest.fixture(scope="session")
def billing_template(postgres: Postgres) -> Iterator[str]:
    """Return a database with billing's tables, and logins in billing's roles."""
    with postgres.database() as made:
        operator = (*FUNCTION, "closer")
        made.prepare(SCHEMA, "guise_billing", {APP: FUNCTION, OPERATOR: operator})
        yield made.name


@pytest.fixture
def billing_database(postgres: Postgres, billing_template: str) -> Iterator[Database]:
    """Return a PostgreSQL database with billing's tables, and nothing in them."""
    with postgres.database(billing_template) as made:
        yield made


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where the ledger's database is, as the function reaches it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/billing.db"
    database: Database = request.getfixturevalue("billing_database")
    return database.url()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """Return an empty ledger, as the function has it."""
    made = Ledger.open(url)
    yield made
    made.close()


@pytest.fixture
def office(url: str) -> Iterator[Ledger]:
    """Return the same ledger as it is to who closes periods."""
    made = Ledger.open(url.replace(f"//{APP}@", f"//{OPERATOR}@"))
    yield made
    made.close()


@pytest.fixture
def house(ledger: Ledger) -> House:
    """Return a billing function with an empty ledger."""
    keys = MemoryKeys()
    app = create_app(
        ledger=ledger,
        keys=keys,
        authenticator=TokensByName(),
        now=clock,
    )
    return House(ledger, keys, app.test_client())
