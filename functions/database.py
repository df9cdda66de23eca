"""A SQLAlchemy engine for SQLite (one machine) or PostgreSQL (production).

Importing this module does not import SQLAlchemy: a door opens its database on a
thread, after its socket is served.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from functions.problems import Unavailable
from functions.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

BUSY_MS_MAX: Final = 10_000
_PAUSE_SECONDS: Final = 0.01
_SCHEMES: Final = ("sqlite:///", "postgresql+psycopg://")


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
    except (ArgumentError, ImportError, ValueError) as error:
        raise SettingsError("GUISE_DATABASE: this URL opens no database") from error
    _make_sqlite_strict(engine)
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection whose work is durable once the block has ended.

    An exception undoes it all.  What the database itself raises is `Unavailable`.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise Unavailable(internal=repr(error)) from error


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
        _to_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # noqa: ANN401  # as above
        connection.exec_driver_sql("BEGIN IMMEDIATE")


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
