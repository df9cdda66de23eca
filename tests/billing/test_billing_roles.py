"""SQL as each role of billing: what it must not do is refused by the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from functions.billing import closing
from functions.billing.credits import Credit
from functions.billing.invoice import Period
from functions.billing.rates import RateCards
from functions.billing.tables import metadata
from functions.database import open_database, transaction
from functions.problems import Unavailable
from tests.billing.test_billing_closing import CLOSING, OCTOBER, usage
from tests.postgres import APP, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from functions.billing.ledger import Ledger
    from tests.postgres import Database

DATABASES = ("postgresql",)
TABLES: Final = tuple(metadata.tables)
OF_TENANTS: Final = tuple(table for table in TABLES if table != "card")
STATEMENTS: Final = {
    "SELECT": "SELECT count(*) FROM {table}",
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET tenant = tenant",
    "DELETE": "DELETE FROM {table}",
    "TRUNCATE": "TRUNCATE {table}",
}
MAY: Final[dict[str, set[tuple[str, str]]]] = {
    "committer": {(c, t) for c in ("SELECT", "INSERT") for t in ("usage", "account")},
    "reader": {("SELECT", t) for t in TABLES},
    "closer": {("SELECT", t) for t in TABLES}
    | {("INSERT", t) for t in TABLES if t != "usage"},
}


@pytest.fixture
def engine(office: Ledger, billing_database: Database) -> Iterator[Engine]:
    """Return a ledger of two tenants with invoices, as an operator reaches it."""
    for tenant in ("acme", "other"):
        office.post(usage("u1", tenant=tenant, requests=100_000))
        credit = Credit(
            id="c", tenant=tenant, currency="USD", amount_minor=100, from_ms=0
        )
        closing.grant(office, credit)
        closing.close(office, tenant, OCTOBER, CLOSING)
        closing.issued(office, RateCards.load(), tenant, OCTOBER, CLOSING)
        row = f"INSERT INTO budget VALUES ('{tenant}', 'x')"  # noqa: S608
        billing_database.tamper(row)
    made = open_database(billing_database.url(OPERATOR))
    yield made
    made.dispose()


def run(engine: Engine, role: str, statement: str, tenant: str = "acme") -> Any:
    """Return what a statement in a role gives: its only value, or rows affected."""
    with transaction(engine, role=f"guise_billing_{role}", tenant=tenant) as db:
        found = db.exec_driver_sql(statement)
        return found.scalar_one() if found.returns_rows else found.rowcount


def refused(engine: Engine, role: str, statement: str, tenant: str = "acme") -> None:
    """Fail unless the database refuses a statement for want of a privilege."""
    with pytest.raises(Unavailable) as caught:
        run(engine, role, statement, tenant)
    cause: Any = caught.value.__cause__  # from the wire, or wrapped by SQLAlchemy
    cause = getattr(cause, "orig", cause)
    assert isinstance(cause, psycopg.errors.InsufficientPrivilege), cause


@pytest.mark.parametrize("role", MAY)
def test_attack_what_a_role_is_not_for(engine: Engine, role: str) -> None:
    """Of every command on every table, those it may are the ones written here."""
    for table in TABLES:
        for command, statement in STATEMENTS.items():
            if (command, table) not in MAY[role]:
                refused(engine, role, _of(statement, table))
            elif command == "SELECT":
                assert run(engine, role, _of(statement, table)) > 0


def _of(statement: str, table: str) -> str:
    named = statement.format(table=table)
    return named.replace("tenant", "version") if table == "card" else named


@pytest.mark.parametrize("table", OF_TENANTS)
def test_attack_a_reader_of_another_tenants_rows(engine: Engine, table: str) -> None:
    """They are not there for it, whatever it asks."""
    query = f"SELECT count(*) FROM {table} WHERE tenant = 'other'"  # noqa: S608
    assert run(engine, "reader", query, "acme") == 0
    assert run(engine, "reader", query, "other") > 0


def test_attack_a_reader_that_names_no_tenant(engine: Engine) -> None:
    """An unbound tenant is an error, not a tenant without usage."""
    for table in OF_TENANTS:
        refused(engine, "reader", f"SELECT count(*) FROM {table}", tenant="")  # noqa: S608


def test_attack_a_closer_that_changes_what_was_issued(engine: Engine) -> None:
    """It notes that a document was told of; not a byte of it changes."""
    refused(engine, "closer", "UPDATE document SET content = 'x'")
    refused(engine, "closer", "UPDATE document SET number = 'x'")
    refused(engine, "closer", "UPDATE usage SET gpu_ms = 0")
    refused(engine, "closer", "UPDATE credit_entry SET amount_minor = 0")
    refused(engine, "closer", "UPDATE card SET digest = ''")
    assert run(engine, "closer", "UPDATE document SET told_ms = 1") == 2


def test_attack_a_committer_that_opens_a_closed_period(engine: Engine) -> None:
    """It shares an account's lock, and changes nothing of it."""
    refused(engine, "committer", "UPDATE account SET closed = ''")
    refused(engine, "committer", "UPDATE account SET tenant = tenant")


def test_attack_a_function_that_takes_the_closers_role(
    engine: Engine, billing_database: Database
) -> None:
    """Its login is no member of what issues invoices, and owns nothing."""
    own = open_database(billing_database.url(APP))
    try:
        refused(own, "closer", "SELECT 1")
        with pytest.raises(Unavailable), transaction(own) as db:
            db.exec_driver_sql("ALTER TABLE usage DISABLE ROW LEVEL SECURITY")
        with pytest.raises(Unavailable), transaction(own) as db:
            db.exec_driver_sql("SELECT count(*) FROM usage")
    finally:
        own.dispose()
    assert run(engine, "closer", "SELECT count(*) FROM usage") == 2


def test_a_pooled_connection_keeps_no_tenant(ledger: Ledger, engine: Engine) -> None:
    """The next transaction on a connection starts without one."""
    november = Period(2026, 11)
    for tenant in ("acme", "other", "acme"):
        found = list(ledger.digests(tenant, OCTOBER))
        assert found == [usage("u1", tenant=tenant, requests=100_000).digest]
        assert list(ledger.digests(tenant, november)) == []
    with (
        pytest.raises(Unavailable),
        transaction(ledger.engine, role="guise_billing_reader") as db,
    ):
        db.exec_driver_sql("SELECT count(*) FROM usage")
    assert run(engine, "closer", "SELECT count(*) FROM usage") == 2
