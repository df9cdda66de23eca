"""A SQLAlchemy engine for SQLite (one machine) or PostgreSQL (production).

Importing this module does not import SQLAlchemy: a door opens its database on a
thread, after its socket is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.settings import SettingsError

if TYPE_CHECKING:
    from sqlalchemy import Engine

BUSY_MS_MAX = 10_000


def open_database(url: str) -> Engine:
    """Return an engine whose transactions are durable when `commit` returns.

    `url` is `sqlite:////path/to.db` or `postgresql+psycopg://…`; anything else
    raises `SettingsError`.
    """
    from sqlalchemy import create_engine

    if url.startswith("postgresql"):
        return create_engine(url, pool_pre_ping=True)
    if url.startswith("sqlite:///"):
        engine = create_engine(url, connect_args={"timeout": BUSY_MS_MAX / 1000})
        _make_sqlite_strict(engine)
        return engine
    raise SettingsError("GUISE_DATABASE: neither sqlite:/// nor postgresql")


def _make_sqlite_strict(engine: Engine) -> None:
    """Give every transaction SQLite's write lock at once, and a synced commit.

    The driver would begin a transaction only at the first write, so that two
    writers that both read first would fail with `database is locked`; see
    "Serializable isolation" in SQLAlchemy's notes on pysqlite.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:  # noqa: ANN401  # DBAPI
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # noqa: ANN401  # as above
        connection.exec_driver_sql("BEGIN IMMEDIATE")
