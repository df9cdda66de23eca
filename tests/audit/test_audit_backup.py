"""A backup: whole, verified, private, as of one moment, and never over another."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from functions.audit import copies
from functions.audit.backup import copy_to_witness as catch_up
from functions.audit.backup import open_backup, url_of, verify_logs, write_backup
from functions.audit.merkle import VerificationError
from functions.audit.restore import restore
from functions.audit.store import Store
from functions.audit.tables import (
    entries,
    erasures,
    horizons,
    metadata,
    retentions,
)
from functions.keys import MemoryKeys
from functions.problems import Conflict, NotFound, Unavailable
from functions.storage.memory import MemoryStore
from tests.audit.vault import LARGE, Case, rows
from tests.postgres import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from functions.audit.tiles import NoteVerifier
    from functions.sink import Receipt
    from tests.postgres import Database

FILED = "tenant, idx, key, source, id, type, job"


@pytest.fixture
def sqlite(tmp_path: Path) -> Case:
    """Return an empty SQLite database."""
    return Case(f"sqlite:///{tmp_path}/audit.db", MemoryKeys())


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """Return where there is no database yet."""
    return f"sqlite:///{tmp_path}/elsewhere.db"


def test_the_file_is_whole_private_and_alone(sqlite: Case, tmp_path: Path) -> None:
    """Nothing lies beside it, and nobody else may read it."""
    sqlite.append("e0")
    folder = tmp_path / "out"
    folder.mkdir()
    file = sqlite.backup(folder / "audit.backup")
    assert [each.name for each in folder.iterdir()] == ["audit.backup"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    # The format's read and write version: 1 for one file, 2 for one with a log.
    assert before[18:20] == b"\x01\x01"
    with closing(open_backup(file, tmp_path)) as store, store.keeping() as db:
        assert [each.size for each in verify_logs(db, sqlite.keys_of)] == [1]
    assert file.read_bytes() == before
    assert [each.name for each in folder.iterdir()] == ["audit.backup"]


def test_every_table_is_in_it(sqlite: Case, tmp_path: Path) -> None:
    """Tables that come later are backed up without anybody thinking of it."""
    sqlite.append(*(f"e{each}" for each in range(LARGE)))
    sqlite.private("job")
    with closing(Store.open(sqlite.url)) as store, store.keeping() as db:
        of = {"tenant": "acme"}
        db.execute(sa.insert(retentions), of | {"days": 200})
        db.execute(sa.insert(horizons), of | {"epoch": 1, "minimum": 0})
        row = of | {"job": "gone", "at_ms": 1, "statement": "s"}
        db.execute(sa.insert(erasures), row)
    file = sqlite.backup(tmp_path / "b")
    for table in metadata.sorted_tables:
        there = rows(sqlite.url, table)
        assert rows(url_of(file), table) == there != []


def test_a_backup_is_as_of_one_moment(sqlite: Case, tmp_path: Path) -> None:
    """What is appended meanwhile is in the next one, and waits for nothing."""
    sqlite.append("e0", "e1")
    grown: list[Receipt] = []

    class Growing(Store):
        """A store whose log grows once the backup has begun to read."""

        def keeping(self, *, snapshot: bool = False):  # type: ignore[no-untyped-def]  # noqa: ANN202
            made = super().keeping(snapshot=snapshot)
            if snapshot:
                return _Entered(made, lambda: grown.extend(sqlite.append("e2")))
            return made

    with closing(Growing(Store.open(sqlite.url)._engine)) as store:
        [held] = write_backup(store, tmp_path / "b", sqlite.keys_of)
    assert (held.size, grown[0].index) == (2, 2)


def test_a_snapshot_on_postgresql_is_of_one_moment_too(
    audit_database: Database,
) -> None:
    """It sees no commit that comes later, and can write nothing."""
    case = Case(audit_database.url(), MemoryKeys())
    case.append("e0")
    query = sa.select(entries.c.idx)
    with closing(Store.open(audit_database.url(OPERATOR))) as store:
        with store.keeping(snapshot=True) as db:
            before = db.execute(query).all()
            case.append("e1")
            assert db.execute(query).all() == before == [(0,)]
        insert = sa.insert(retentions).values(tenant="acme", days=180)
        with pytest.raises(Unavailable), store.keeping(snapshot=True) as db:
            db.execute(insert)
        with store.keeping() as db:
            assert db.execute(query).all() == [(0,), (1,)]


@dataclass
class _Entered:
    """A transaction that does something else once it has read."""

    inner: object
    then: Callable[[], None]

    def __enter__(self) -> sa.Connection:
        db: sa.Connection = self.inner.__enter__()  # type: ignore[attr-defined]
        db.execute(sa.select(entries.c.idx)).all()
        self.then()
        return db

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(*error)  # type: ignore[attr-defined]


def test_a_backup_overwrites_nothing(sqlite: Case, tmp_path: Path) -> None:
    """Not even an empty file, and not one that came meanwhile."""
    sqlite.append("e0")
    file = tmp_path / "b"
    file.touch()
    with pytest.raises(Conflict):
        sqlite.backup(file)
    file.unlink()

    def late(tenant: str) -> Sequence[NoteVerifier]:
        file.write_text("mine")
        return sqlite.keys_of(tenant)

    with closing(Store.open(sqlite.url)) as store, pytest.raises(Conflict):
        write_backup(store, file, late)
    assert file.read_text() == "mine"


def test_a_backup_brings_the_second_store_up_to_date(
    sqlite: Case, tmp_path: Path
) -> None:
    """What no process had time to copy is copied then, and a fork is told."""
    [receipt] = sqlite.append("e0")
    with closing(Store.open(sqlite.url)) as store:
        with store.keeping() as db:
            row = {"tenant": "acme", "job": "j", "at_ms": 1, "statement": "s"}
            db.execute(sa.insert(erasures), row)
        held = write_backup(store, tmp_path / "b", sqlite.keys_of)
        witness = MemoryStore()
        assert [catch_up(store, held, witness) for _ in range(2)] == [2, 0]
        witness.put(copies.checkpoint_key(receipt.checkpoint), b"other")
        with pytest.raises(VerificationError, match="something else"):
            catch_up(store, held, witness)


def test_a_backup_of_an_older_version_is_restored(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """A backup of years ago is brought to this version as a copy."""
    from alembic import command
    from alembic.config import Config

    from functions.audit.store import SCHEMA
    from functions.database import open_database, transaction

    older = tmp_path / "older.backup"
    engine = open_database(url_of(older))
    config = Config()
    config.set_main_option("script_location", SCHEMA.scripts)
    with transaction(engine) as db:
        done: list[str] = []
        config.attributes.update(connection=db, table=SCHEMA.table, done=done)
        command.upgrade(config, "0001")
    engine.dispose()
    sqlite.append("e0")
    with closing(sqlite3.connect(older)) as file, file:
        file.execute("ATTACH ? AS now", (str(tmp_path / "audit.db"),))
        for table, columns in (
            ("head", "tenant, size, frontier"),
            ("checkpoint", "tenant, size, note"),
            (
                "entry",
                "tenant, idx, key, source, id, type, job, at_ms, leaf, leaf_hash",
            ),
        ):
            into = f"INSERT INTO main.{table} ({columns})"
            file.execute(f"{into} SELECT {columns} FROM now.{table}")  # noqa: S608  # ours
    before = older.read_bytes()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with (
        closing(open_backup(older, scratch)) as backup,
        closing(Store.open(elsewhere)) as target,
    ):
        report = restore(backup, target, sqlite.keys, sqlite.keys_of)
    assert [each.epoch for each in report.logs] == [2]
    assert older.read_bytes() == before


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    """By name, and before anything is written."""
    with pytest.raises(NotFound):
        open_backup(tmp_path / "none", tmp_path)
    text = tmp_path / "text"
    text.write_text("not a database, " * 100)
    with pytest.raises(VerificationError, match="no backup"):
        open_backup(text, tmp_path)
    with closing(sqlite3.connect(tmp_path / "other.db")) as db, db:
        db.execute("CREATE TABLE t (x)")
    with pytest.raises(VerificationError, match="none of the log's tables"):
        open_backup(tmp_path / "other.db", tmp_path)
