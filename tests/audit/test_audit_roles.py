"""SQL as each role: what it must not do is refused by the database itself.

Against a fault of ours that sends the wrong statement.  Whoever has the function's
login and any SQL can take each of the function's roles, one after the other, and
name any tenant; what none of them can is change or remove what the log has.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from functions.audit.appending import lock_heads
from functions.audit.leaf import leaf_of
from functions.audit.store import Private, Sealed, Store
from functions.audit.tables import metadata
from functions.database import open_database, transaction
from functions.problems import Unavailable
from tests.postgres import OPERATOR, OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.audit.house import House
    from tests.postgres import Database

DATABASES = ("postgresql",)
LOG: Final = ("head", "entry", "node", "checkpoint")
PRIVATE: Final = ("record_key", "sidecar", "image")
TABLES: Final = tuple(metadata.tables)
STATEMENTS: Final = {
    "SELECT": "SELECT count(*) FROM {table}",
    "INSERT": "INSERT INTO {table} (tenant) VALUES ('acme')",
    "UPDATE": "UPDATE {table} SET tenant = tenant",
    "DELETE": "DELETE FROM {table}",
    "TRUNCATE": "TRUNCATE {table}",
}
MAY: Final[dict[str, set[tuple[str, str]]]] = {
    "committer": {("INSERT", t) for t in (*LOG, *PRIVATE)}
    | {("SELECT", t) for t in ("head", "entry", "checkpoint", "erasure")}
    | {("UPDATE", "head")},
    "reader": {("SELECT", t) for t in (*LOG, "erasure", "retention", "horizon")},
    "searcher": {("SELECT", t) for t in (*PRIVATE, "entry", "head", "horizon")},
    "eraser": {(c, t) for c in ("SELECT", "DELETE") for t in PRIVATE}
    | {("SELECT", "erasure"), ("INSERT", "erasure"), ("SELECT", "head")},
    "pruner": {("SELECT", t) for t in (*LOG, "retention", "horizon")}
    | {(c, t) for c in ("INSERT", "UPDATE") for t in ("retention", "horizon")},
    "keeper": {(c, t) for c in ("SELECT", "INSERT") for t in TABLES},
}
FUNCTION: Final = ("committer", "reader", "searcher", "eraser")


@pytest.fixture
def engine(house: House, audit_database: Database) -> Iterator[Engine]:
    """Return a log of two tenants, with private parts, as an operator reaches it."""
    for tenant in ("acme", "other"):
        private = Private(b"key", (Sealed("started", b"salt"),), ((b"mac", "source"),))
        leaf = replace(leaf_of(house.event("e1", tenant)), private=private)
        house.log._commit([leaf, leaf_of(house.event("e2", tenant))])
    made = open_database(audit_database.url(OPERATOR))
    yield made
    made.dispose()


def run(engine: Engine, role: str, statement: str, tenant: str = "acme") -> Any:
    """Return what a statement in a role gives: its only value, or rows affected."""
    role = f"guise_audit_{role}"
    with transaction(engine, role=role, tenant=tenant) as db:
        found = db.exec_driver_sql(statement)
        return found.scalar_one() if found.returns_rows else found.rowcount


def run_all(engine: Engine, role: str, *statements: str) -> None:
    """Run statements in one transaction; `role` is the whole name, or none."""
    with transaction(engine, role=role, tenant="acme" if role else "") as db:
        for statement in statements:
            db.exec_driver_sql(statement)


def refused(engine: Engine, role: str, statement: str, tenant: str = "acme") -> str:
    """Return why the database refuses a statement, or fail if it does not."""
    with pytest.raises(Unavailable) as caught:
        run(engine, role, statement, tenant)
    cause: Any = caught.value.__cause__
    why = getattr(cause, "orig", cause)  # SQLAlchemy wraps what goes through it
    assert isinstance(why, psycopg.errors.InsufficientPrivilege), cause
    return str(why)


@pytest.mark.parametrize("role", MAY)
def test_attack_what_a_role_is_not_for(engine: Engine, role: str) -> None:
    """Of every command on every table, those it may are the ones written here."""
    for table in TABLES:
        for command, statement in STATEMENTS.items():
            if (command, table) not in MAY[role]:
                refused(engine, role, statement.format(table=table))


@pytest.mark.parametrize("role", MAY)
def test_a_role_can_do_what_it_is_for(engine: Engine, role: str) -> None:
    """The refusals above are not for something else."""
    for command, table in MAY[role]:
        statement = STATEMENTS[command].format(table=table)
        if command == "SELECT" and (role, table) == ("committer", "erasure"):
            statement = "SELECT count(tenant) FROM erasure"
        if command == "INSERT":
            with pytest.raises(Unavailable) as caught:  # there is more to a row
                run(engine, role, statement)
            assert "NotNullViolation" in repr(caught.value.__cause__)
        else:
            run(engine, role, statement)


@pytest.mark.parametrize("table", ["entry", "node", "checkpoint", *PRIVATE])
@pytest.mark.parametrize("command", ["UPDATE", "DELETE", "TRUNCATE"])
def test_attack_a_committer_that_rewrites_the_log(
    engine: Engine, table: str, command: str
) -> None:
    """It adds, and takes nothing back."""
    statement = STATEMENTS[command].format(table=table)
    assert "permission denied" in refused(engine, "committer", statement)


def test_attack_a_committer_that_removes_a_head(engine: Engine) -> None:
    """A log cannot be begun anew behind its entries."""
    refused(engine, "committer", "DELETE FROM head")
    refused(engine, "committer", "TRUNCATE head")


@pytest.mark.parametrize("table", [*LOG, "erasure", "retention", "horizon"])
def test_attack_a_reader_of_another_tenants_rows(
    engine: Engine, audit_database: Database, table: str
) -> None:
    """They are not there for it, whatever it asks."""
    _fill(audit_database)
    everything = f"SELECT count(*) FROM {table}"  # noqa: S608  # a name of ours
    theirs = f"{everything} WHERE tenant = 'other'"
    assert run(engine, "reader", theirs) == 0
    assert run(engine, "reader", theirs, "other") > 0
    mine = f"{everything} WHERE tenant = 'acme'"
    assert run(engine, "reader", everything) == run(engine, "reader", mine)


@pytest.mark.parametrize("table", PRIVATE)
def test_attack_a_searcher_or_eraser_of_another_tenants_rows(
    engine: Engine, table: str
) -> None:
    """What is private is found, and deleted, of the bound tenant alone."""
    theirs = f"SELECT count(*) FROM {table} WHERE tenant = 'other'"  # noqa: S608
    assert run(engine, "searcher", theirs) == 0
    delete = f"DELETE FROM {table} WHERE tenant = 'other'"  # noqa: S608
    assert run(engine, "eraser", delete) == 0
    assert run(engine, "eraser", f"DELETE FROM {table}") == 1  # noqa: S608
    assert run(engine, "searcher", theirs, "other") == 1


def test_attack_an_erasure_stated_of_another_tenant(engine: Engine) -> None:
    """A row that would be another tenant's is not written."""
    statement = "INSERT INTO erasure VALUES ('{}', 'job-e1', 1, 'a statement')"
    assert "row-level security" in refused(engine, "eraser", statement.format("other"))
    assert run(engine, "eraser", statement.format("acme")) == 1


def test_attack_an_eraser_that_moves_a_head(engine: Engine) -> None:
    """It may lock the head of its tenant, and that is all."""
    lock = "SELECT tenant FROM head WHERE tenant = '{}' FOR UPDATE"
    assert run(engine, "eraser", lock.format("acme")) == "acme"
    everything = "SELECT count(*) FROM (SELECT tenant FROM head FOR UPDATE) AS locked"
    assert run(engine, "eraser", everything) == 1
    refused(engine, "eraser", "UPDATE head SET size = 0")
    refused(engine, "eraser", "UPDATE head SET tenant = 'nobody'")
    refused(engine, "eraser", "UPDATE head SET tenant = tenant")


@pytest.mark.parametrize("column", ["tenant", "epoch", "idx", "key", "at_ms"])
def test_attack_a_pruner_that_changes_what_is_proved(
    engine: Engine, column: str
) -> None:
    """Content can go; the place, the hash and the moment stay."""
    for each in (column, "leaf_hash"):
        statement = f"UPDATE entry SET {each} = {each}"  # noqa: S608  # names of ours
        assert "permission denied" in refused(engine, "pruner", statement)


def test_a_pruner_drops_content_of_its_tenant_alone(engine: Engine) -> None:
    """As retention asks, one tenant at a time."""
    prune = "UPDATE entry SET leaf = NULL, source = '', id = '', type = '', job = ''"
    assert run(engine, "pruner", prune) == 2
    left = "SELECT count(leaf) FROM entry"
    assert run(engine, "reader", left) == 0
    assert run(engine, "reader", left, "other") == 2
    horizon = "INSERT INTO horizon VALUES ('{}', 1, 2)"
    refused(engine, "pruner", horizon.format("other"))
    assert run(engine, "pruner", horizon.format("acme")) == 1


def test_attack_a_retention_below_what_the_law_asks(engine: Engine) -> None:
    """The database knows the least number of days."""
    statement = "INSERT INTO retention VALUES ('acme', {})"
    with pytest.raises(Unavailable) as caught:
        run(engine, "pruner", statement.format(179))
    assert "retention_is_long_enough" in str(caught.value.__cause__)
    assert run(engine, "pruner", statement.format(180)) == 1


ESCAPES: Final = (
    "ALTER TABLE entry DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE entry NO FORCE ROW LEVEL SECURITY",
    "DROP POLICY guise_audit_reader_select ON entry",
    "CREATE POLICY mine ON entry USING (true)",
    "ALTER POLICY guise_audit_reader_select ON entry USING (true)",
    "CREATE OR REPLACE FUNCTION guise_audit_tenant() RETURNS text RETURN 'other'",
    "DROP TABLE entry",
    "ALTER TABLE entry RENAME TO mine",
    "CREATE RULE mine AS ON INSERT TO entry DO INSTEAD NOTHING",
    "CREATE TABLE mine (x int)",
    "UPDATE audit_version SET version_num = '0001'",
    "ALTER ROLE guise_app BYPASSRLS",
    "GRANT guise_audit_pruner TO guise_app",
    f"SET ROLE {OWNER}",
    "SET ROLE postgres",
    f"SET SESSION AUTHORIZATION {OWNER}",
    "COPY entry TO '/tmp/stolen'",
)


@pytest.mark.parametrize("role", MAY)
def test_attack_a_role_that_frees_itself(engine: Engine, role: str) -> None:
    """None turns row-level security off, or becomes somebody who could."""
    for escape in ESCAPES:
        refused(engine, role, escape)


def test_attack_row_security_switched_off_in_the_session(engine: Engine) -> None:
    """It turns what would be hidden into an error, and shows nothing."""
    off, read = "SET LOCAL row_security = off", "SELECT count(*) FROM entry"
    with pytest.raises(Unavailable, match="row-level security"):
        run_all(engine, "guise_audit_reader", off, read)


@pytest.mark.parametrize("role", ["pruner", "keeper"])
def test_attack_the_function_as_an_operator(house: House, role: str) -> None:
    """The function's login has no way to what only an operator may."""
    statement = "SELECT count(*) FROM entry"
    why = refused(house.log.store._engine, role, statement)
    assert "permission denied to set role" in why
    run(house.log.store._engine, "reader", statement)


@pytest.mark.parametrize("login", [OWNER, "postgres", "guise_operator"])
def test_attack_the_function_as_another_login(house: House, login: str) -> None:
    """Nor to who owns the tables."""
    with (
        pytest.raises(Unavailable, match="permission denied to set role"),
        transaction(house.log.store._engine, role=login),
    ):
        pytest.fail("it took the role")


@pytest.mark.parametrize("table", TABLES)
def test_attack_a_transaction_that_takes_no_role(house: House, table: str) -> None:
    """A forgotten role is no role: the login by itself may do nothing."""
    for statement in STATEMENTS.values():
        with pytest.raises(Unavailable, match="InsufficientPrivilege"):
            run_all(house.log.store._engine, "", statement.format(table=table))


def test_the_owner_sees_no_rows_either(
    engine: Engine, audit_database: Database
) -> None:
    """Row-level security is forced: migrating does not mean reading."""
    owner = open_database(audit_database.url(OWNER))
    with transaction(owner) as db:
        for table in TABLES:
            counted = db.exec_driver_sql(f"SELECT count(*) FROM {table}")  # noqa: S608
            assert counted.scalar_one() == 0
    owner.dispose()


BOUND: Final = ("reader", "searcher", "eraser", "pruner")


@pytest.mark.parametrize("role", BOUND)
def test_attack_no_tenant_is_bound(engine: Engine, role: str) -> None:
    """It is an error, and not a tenant without rows."""
    for _, table in sorted(MAY[role]):
        why = refused(engine, role, f"SELECT count(*) FROM {table}", "")  # noqa: S608
        assert "no tenant is bound" in why


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_attack_a_pooled_connection_that_was_anothers(
    engine: Engine, ending: str
) -> None:
    """Role and tenant end with the transaction, however it ends."""
    count = "SELECT count(*) FROM entry"
    seen: list[Any] = []

    def use(role: str, tenant: str = "", statement: str = count) -> None:
        with transaction(engine, role=role, tenant=tenant) as db:
            db.exec_driver_sql(statement)
            seen.append(db.connection.driver_connection)
            if ending == "rollback" and tenant:
                raise KeyError

    for role in ("guise_audit_reader", "guise_audit_searcher"):
        if ending == "rollback":
            with pytest.raises(KeyError):
                use(role, "acme")
        else:
            use(role, "acme")
        for later in ("", role):
            with pytest.raises(Unavailable, match=r"denied|no tenant is bound"):
                use(later)
    use("", "", "SELECT 1")
    assert len(set(map(id, seen))) == 1


def test_attack_a_session_that_never_bound_a_tenant(engine: Engine) -> None:
    """Unset is refused as '' is."""
    engine.dispose()
    take, read = "SET LOCAL ROLE guise_audit_reader", "SELECT count(*) FROM entry"
    with pytest.raises(Unavailable, match="no tenant is bound"):
        run_all(engine, "", take, read)


def test_threads_of_many_tenants_on_one_pool_see_their_own(engine: Engine) -> None:
    """However connections go round."""
    query = "SELECT string_agg(DISTINCT tenant, ' ') FROM entry"
    tenants = ["acme", "other"] * 40
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda t: run(engine, "reader", query, t), tenants))
    assert seen == tenants


def test_an_erasure_waits_for_the_batch_that_is_being_committed(
    house: House, audit_database: Database
) -> None:
    """Else what is private could come in behind it, and stay."""
    house.log.append(house.event())
    store = Store.open(audit_database.url())
    held = threading.Event()

    def erase() -> None:
        with store.erasing("acme"):
            held.set()

    with ThreadPoolExecutor(1) as pool:
        with house.log.store.committing() as db:
            lock_heads(db, ["acme"])
            erasing = pool.submit(erase)
            assert not held.wait(0.3)
        erasing.result(10)
    store.close()


def _fill(database: Database) -> None:
    """Give both tenants a row in the tables that appending leaves empty."""
    for statement in (
        "INSERT INTO node (tenant, level, idx, hash) VALUES ('{}', 1, 0, '')",
        "INSERT INTO erasure VALUES ('{}', 'job', 1, 'a statement')",
        "INSERT INTO retention VALUES ('{}', 200)",
        "INSERT INTO horizon VALUES ('{}', 1, 0)",
    ):
        for tenant in ("acme", "other"):
            database.tamper(statement.format(tenant))
