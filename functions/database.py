"""A SQLAlchemy engine for SQLite (one machine) or PostgreSQL (production).

On PostgreSQL a transaction takes one role, and sees one tenant or says that it
wants all: the database itself refuses what the role must not do.  SQLite has no
roles, and nobody but us at the file.

Importing this module does not import SQLAlchemy: a door opens its database on a
thread, after its socket is served.  Alembic is imported only where there is
something to migrate.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from functions.problems import Unavailable
from functions.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import psycopg
    from sqlalchemy import Connection, Engine

logger = logging.getLogger(__name__)

BUSY_MS_MAX: Final = 10_000
SCRUB_MS_MAX: Final = 2_000
_PAUSE_SECONDS: Final = 0.01
_SCHEMES: Final = ("sqlite:///", "postgresql+psycopg://")
_BIND: Final = (
    "SELECT set_config('role', %(role)s, true),"
    " set_config('guise.tenant', %(tenant)s, true)"
)
_LOGIN: Final = """
SELECT rolsuper OR rolbypassrls, current_setting('fsync'),
    current_setting('synchronous_commit')
FROM pg_catalog.pg_roles WHERE rolname = session_user
"""
_SNAPSHOT: Final[Mapping[str, Mapping[str, Any]]] = {
    "sqlite": {"only_reads": True},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}
_ALEMBIC: Final = threading.Lock()
"""Alembic keeps where it is in globals: two threads at once would meet there."""
_MIGRATING: Final = 0x6775697365  # "guise": the advisory lock of whoever migrates
_NEW_ROLE: Final = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN NOINHERIT NOBYPASSRLS;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""
_BOUND_TENANT: Final = """
CREATE FUNCTION {name}() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    bound CONSTANT text := pg_catalog.current_setting('guise.tenant', true);
BEGIN
    IF bound IS NULL OR bound OPERATOR(pg_catalog.=) '' THEN
        RAISE EXCEPTION 'no tenant is bound' USING ERRCODE = '42501';
    END IF;
    RETURN bound;
END $$
"""


def check_database(url: str) -> None:
    """Raise `SettingsError` unless `open_database` knows what `url` names.

    Imports nothing, so that a wrong deployment ends before it serves anything.
    """
    if not url.startswith(_SCHEMES):
        raise SettingsError(f"GUISE_DATABASE: begins with none of {_SCHEMES}")


def open_database(url: str) -> Engine:
    """Return an engine whose transactions are durable when `commit` returns.

    `url` is `sqlite:////path/to.db` or `postgresql+psycopg://…`; anything else
    raises `SettingsError`.
    """
    check_database(url)
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError

    try:
        if not url.startswith("sqlite"):
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(url, connect_args={"timeout": BUSY_MS_MAX / 1000})
    except ImportError as error:
        text = "GUISE_DATABASE: PostgreSQL needs psycopg: install guise[postgres]"
        raise SettingsError(text) from error
    except (ArgumentError, ValueError) as error:
        raise SettingsError("GUISE_DATABASE: this URL opens no database") from error
    _make_sqlite_strict(engine)
    return engine


def make_private(path: str | Path) -> None:
    """Make a SQLite file for its owner alone before SQLite makes it for everybody.

    What SQLite puts beside it has the file's own mode.  One that is there stays as it
    is, and where none can be, SQLite says so.
    """
    if str(path).startswith(("file:", ":memory:")):
        return
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))


def check_login(engine: Engine, *, profile: str) -> None:
    """Refuse a login that the database refuses nothing, unless in development.

    A superuser, or who has BYPASSRLS, makes every role and row-level security a matter
    of our own good will: `SettingsError` in production, elsewhere a warning.  A server
    that does not sync what it commits can lose what was acknowledged: a warning.
    """
    if engine.dialect.name != "postgresql":
        return
    with transaction(engine) as db:
        free, fsync, commit = db.exec_driver_sql(_LOGIN).one()
    if "off" in (fsync, commit):
        logger.warning("GUISE_DATABASE: fsync or synchronous_commit is off there")
    if not free:
        return
    text = "GUISE_DATABASE: its login is a superuser or has BYPASSRLS"
    if profile == "production":
        raise SettingsError(f"{text}: give the function one of its own")
    logger.warning("%s", text)


@contextmanager
def transaction(
    engine: Engine, *, role: str = "", tenant: str = "", snapshot: bool = False
) -> Iterator[Connection]:
    """Yield a connection whose work is durable once the block has ended.

    An exception undoes it all.  What the database itself raises is `Unavailable`.
    On PostgreSQL it acts as `role`, and sees of `tenant` alone what that role sees
    of one tenant; both end with the transaction.  A `snapshot` only reads: all of it
    as of one moment, and no writer waits for it.
    """
    from sqlalchemy.exc import SQLAlchemyError

    if snapshot:
        engine = engine.execution_options(**_SNAPSHOT[engine.dialect.name])
    try:
        with engine.begin() as connection:
            if role and engine.dialect.name == "postgresql":
                with pipelined(connection) as wire:  # with the BEGIN before it
                    wire.execute(_BIND, {"role": role, "tenant": tenant})
            yield connection
    except SQLAlchemyError as error:
        raise Unavailable(internal=repr(error)) from error


@contextmanager
def pipelined(db: Connection) -> Iterator[psycopg.Connection[Any]]:
    """Yield PostgreSQL's own connection: what is sent there is answered together.

    It is in the transaction of `db`.  What it raises is `Unavailable`.
    """
    import psycopg

    wire = cast("psycopg.Connection[Any]", db.connection.driver_connection)
    try:
        with wire.pipeline():
            yield wire
    except psycopg.Error as error:
        raise Unavailable(internal=repr(error)) from error


def scrub(engine: Engine) -> None:
    """Leave nothing in SQLite's files of what is deleted; return when that is so.

    In the database itself each deletion overwrites with zeros what it frees.  The
    write-ahead log still holds the pages as they were: it is written back and cut to
    nothing, for which no transaction may be open, a reader's neither.  `Unavailable`
    after some seconds of waiting for that.  Other databases are left alone: what
    remains of a deleted row there is for their own housekeeping.
    """
    if engine.dialect.name != "sqlite":
        return
    deadline = time.monotonic() + SCRUB_MS_MAX / 1000
    connection = engine.raw_connection()
    try:
        while not _is_cut(connection):
            if time.monotonic() > deadline:
                raise Unavailable(internal="the log is not cut: somebody is at it")
            time.sleep(_PAUSE_SECONDS)
    finally:
        connection.close()


def _is_cut(connection: Any) -> bool:  # noqa: ANN401  # DBAPI
    """Write SQLite's log back and cut it; return whether that was possible.

    SQLite waits for readers and writers, and not for another who does the same.
    """
    import sqlite3

    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return not any(row[0] for row in cursor.fetchall())
    except sqlite3.OperationalError:  # locked
        return False


def _make_sqlite_strict(engine: Engine) -> None:
    """Give every transaction SQLite's write lock at once, and a synced commit.

    The driver would begin a transaction only at the first write, so that two
    writers that both read first would fail with `database is locked`; see
    "Serializable isolation" in SQLAlchemy's notes on pysqlite.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def before(_dialect: object, _record: object, args: list[str], _: object) -> None:
        make_private(args[0])

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:  # noqa: ANN401  # DBAPI
        connection.isolation_level = None
        _to_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # see `scrub`

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # noqa: ANN401  # as above
        only_reads = connection.get_execution_options().get("only_reads")
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


def _to_wal(connection: Any) -> None:  # noqa: ANN401  # as above
    """Switch the file to WAL.

    For this one statement SQLite does not wait for a writer: of two processes that
    open a fresh file at once, one is told `database is locked` there and then.
    """
    import sqlite3

    deadline = time.monotonic() + BUSY_MS_MAX / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one function, and the Alembic revisions that lead to them.

    `scripts` is where the revisions lie, `<package>:<folder>`; `newest` is the last
    of them, and `table` is where the database keeps which it has.  Where it keeps
    none and yet has the table `old`, it was made before there were versions, and is
    of the `first`.  `command` is what a person types to migrate.
    """

    scripts: str
    newest: str
    table: str
    old: str
    command: str
    first: str = "0001"


def open_schema(url: str, schema: Schema) -> Engine:
    """Return an engine on tables of the newest version.

    A SQLite file is migrated where it has to be.  PostgreSQL's tables belong to
    somebody else than who serves them: `SettingsError` says what to run.
    """
    engine = open_database(url)
    try:
        found = version_of(engine, schema)
        if engine.dialect.name == "sqlite" and found < schema.newest:
            migrate(engine, schema)
            found = schema.newest
    except BaseException:
        engine.dispose()
        raise
    if found == schema.newest:
        return engine
    engine.dispose()
    cure = schema.command if found < schema.newest else "a newer Guise"
    raise SettingsError(
        f"GUISE_DATABASE: its tables are of version {found or 'none'}, where"
        f" {schema.newest} is needed: run {cure}"
    )


def version_of(engine: Engine, schema: Schema) -> str:
    """Return the revision that the tables are of, "" where none is kept."""
    import sqlalchemy as sa

    column = sa.column("version_num", sa.Text)
    query = sa.select(column).select_from(sa.table(schema.table))
    with transaction(engine) as db:
        if not sa.inspect(db).has_table(schema.table):
            return ""
        return db.execute(query).scalar_one_or_none() or ""


def migrate(engine: Engine, schema: Schema) -> list[str]:
    """Bring the tables to the newest version; return the revisions that it took.

    All of them or none.  Of two who come at once, the other finds it done.
    """
    import sqlalchemy as sa
    from alembic import command
    from alembic.config import Config

    done: list[str] = []
    config = Config()
    config.set_main_option("script_location", schema.scripts)
    with _ALEMBIC, transaction(engine) as db:
        on_server = engine.dialect.name == "postgresql"
        if on_server:
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
        config.attributes.update(connection=db, table=schema.table, done=done)
        tables = sa.inspect(db)
        if tables.has_table(schema.old) and not tables.has_table(schema.table):
            command.stamp(config, schema.first)
        command.upgrade(config, schema.newest)
        if on_server:
            db.exec_driver_sql(f"GRANT SELECT ON {schema.table} TO PUBLIC")
    return done


def run_migrations() -> None:
    """Do what Alembic was called for by `migrate`; the whole of an `env.py`."""
    from alembic import context

    given = context.config.attributes
    context.configure(
        connection=given["connection"],
        version_table=given["table"],
        transactional_ddl=True,  # the one transaction of `migrate`
        on_version_apply=lambda step, **_: (
            None if step.is_stamp else given["done"].append(step.up_revision_id)
        ),
    )
    with context.begin_transaction():
        context.run_migrations()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do with a table on PostgreSQL, and with which of its rows.

    `columns` are all unless some are named.  A role that is `bound` has the rows of
    the transaction's tenant alone, another one all; `into` is a condition in SQL on
    rows as they are written, where that is another one.
    """

    role: str
    command: str
    table: str
    columns: str = ""
    bound: bool = True
    into: str = ""

    def statements(self, bound_tenant: str) -> Iterator[str]:
        """Yield the SQL; `bound_tenant` is the function that names the tenant."""
        columns = f" ({self.columns})" if self.columns else ""
        yield f"GRANT {self.command}{columns} ON {self.table} TO {self.role}"
        rows = f"tenant = {bound_tenant}()" if self.bound else "true"
        using = "" if self.command == "INSERT" else f" USING ({rows})"
        written = self.command in {"INSERT", "UPDATE"}
        check = f" WITH CHECK ({self.into or rows})" if written else ""
        yield (
            f"CREATE POLICY {self.role}_{self.command.lower()} ON {self.table}"
            f" FOR {self.command} TO {self.role}{using}{check}"
        )


def harden(
    db: Connection, bound_tenant: str, tables: Sequence[str], grants: Iterable[Grant]
) -> None:
    """Let roles do what `grants` say with new `tables` on PostgreSQL, and no more.

    Roles are made where there are none: they are the whole server's, and log nobody
    in.  Row-level security holds for the tables' owner, too.  `bound_tenant` becomes
    a function that raises where the transaction names no tenant: a pooled connection
    has '' there, which would read as a tenant without rows.
    """
    grants = list(grants)
    db.exec_driver_sql(_BOUND_TENANT.format(name=bound_tenant))
    for role in sorted({each.role for each in grants}):
        db.exec_driver_sql(_NEW_ROLE.format(role=role))
        db.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {role}")
    for table in tables:
        db.exec_driver_sql(f"REVOKE ALL ON {table} FROM PUBLIC")
        db.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        db.exec_driver_sql(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    for grant in grants:
        for statement in grant.statements(bound_tenant):
            db.exec_driver_sql(statement)
