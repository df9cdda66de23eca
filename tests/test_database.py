"""The database: durable when it says so, and no writer fails for another's sake."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from functions.database import check_database, open_database, transaction
from functions.problems import InvalidRequest, Unavailable
from functions.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

OPEN = """
import sys
from sqlalchemy import text
from functions.database import open_database, transaction
sys.stdin.readline()
for number in range(6):
    engine = open_database(f"sqlite:///{sys.argv[1]}/{number}.db")
    with transaction(engine) as connection:
        connection.execute(text("create table if not exists t (x)"))
        connection.execute(text("insert into t values (1)"))
    engine.dispose()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path}/test.db")
    with transaction(engine) as connection:
        connection.execute(text("create table t (x integer primary key)"))
    yield engine
    engine.dispose()


def count(engine: Engine) -> int:
    with transaction(engine) as connection:
        return int(connection.execute(text("select count(*) from t")).scalar_one())


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)],
)
def test_sqlite_syncs_every_commit(engine: Engine, pragma: str, value: object) -> None:
    """WAL, and FULL (2): a commit is on the disk when it returns."""
    with transaction(engine) as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_two_writers_that_read_first_do_not_fail(engine: Engine) -> None:
    """Each takes the write lock at once, and the other waits for it."""
    start = threading.Barrier(4)

    def write(_: int) -> None:
        start.wait()
        for _ in range(20):
            with transaction(engine) as connection:
                last = connection.execute(text("select max(x) from t")).scalar() or 0
                connection.execute(text("insert into t values (:x)"), {"x": last + 1})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert count(engine) == 80


def test_processes_that_open_a_fresh_file_at_once_do_not_fail(tmp_path: Path) -> None:
    """SQLite does not wait while it switches to WAL; we do."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, tmp_path], stdin=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate(timeout=60)
        assert racer.returncode == 0
    for number in range(6):
        engine = open_database(f"sqlite:///{tmp_path}/{number}.db")
        assert count(engine) == 4
        engine.dispose()


def test_a_fresh_file_that_somebody_writes_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself answers `database is locked` at once."""
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("create table t (x)")
        writer.execute("begin immediate")
        engine = open_database(f"sqlite:///{path}")
        with ThreadPoolExecutor(1) as thread:
            counting = thread.submit(count, engine)
            time.sleep(0.1)
            assert not counting.done()
            writer.execute("rollback")
            assert counting.result() == 0
    engine.dispose()


def test_a_full_disk_is_told_at_once(tmp_path: Path) -> None:
    """Not after ten seconds, as if it were busy; and it mends itself."""
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table t (x)")
    engine = open_database(f"sqlite:///{path}")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    began = time.monotonic()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(Unavailable):
            count(engine)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert time.monotonic() - began < 5
    assert count(engine) == 0
    engine.dispose()


def test_an_error_undoes_everything(engine: Engine) -> None:
    """And a problem passes as it is."""

    def fail_half_way() -> None:
        with transaction(engine) as connection:
            connection.execute(text("insert into t values (1)"))
            raise InvalidRequest

    with pytest.raises(InvalidRequest):
        fail_half_way()
    assert count(engine) == 0


def test_what_the_database_raises_is_unavailable(engine: Engine) -> None:
    """Its words are for the log alone."""
    with pytest.raises(Unavailable) as caught, transaction(engine) as connection:
        connection.execute(text("insert into nowhere values (1)"))
    assert caught.value.detail == ""
    assert "nowhere" in str(caught.value)


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """It is not written over either."""
    path = tmp_path / "test.db"
    path.write_bytes(b"not a database" * 100)
    engine = open_database(f"sqlite:///{path}")
    with pytest.raises(Unavailable), transaction(engine):
        pytest.fail("there is no database")
    assert path.read_bytes() == b"not a database" * 100


def test_a_file_that_nobody_can_make_is_told_at_once(tmp_path: Path) -> None:
    """Not after ten seconds, as if it were busy."""
    engine = open_database(f"sqlite:///{tmp_path}/no/such/folder/test.db")
    with pytest.raises(OperationalError):
        engine.connect()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite",
        "sqlite://",
        "sqlite+pysqlcipher:///x",
        "postgres://h/db",
        "postgresql://h/db",
        "postgresqlx+psycopg://h/db",
        "mysql://h/db",
        "file:///x.db",
        "/x.db",
        " sqlite:///x",
    ],
)
def test_another_database_is_a_fault_of_the_settings(url: str) -> None:
    """It is told before anything is imported or served."""
    for use in (check_database, open_database):
        with pytest.raises(SettingsError, match="GUISE_DATABASE"):
            use(url)


def test_a_url_that_cannot_be_read_is_a_fault_that_keeps_the_password() -> None:
    """The message names the variable, not its value."""
    with pytest.raises(SettingsError, match="GUISE_DATABASE") as caught:
        open_database("postgresql+psycopg://user:hunter2@host:port/db")
    assert "hunter2" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has no PostgreSQL driver reads which extra brings it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"install guise\[postgres\]"):
        open_database("postgresql+psycopg://somebody@/somewhere")
