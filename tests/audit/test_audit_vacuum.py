"""PostgreSQL's files after an erasure: what is left, and what takes it away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.audit.jobs import Job, erase, rows_of
from tests.postgres import OWNER, SUPERUSER

if TYPE_CHECKING:
    from tests.audit.house import House
    from tests.postgres import Database

DATABASES = ("postgresql",)
PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def as_(database: Database, login: str, statement: str) -> str:
    """Run a statement outside of any transaction; return the first thing it says."""
    where = database.url(login).replace("+psycopg", "")
    with psycopg.connect(where, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return str((cursor.fetchone() or [""])[0]) if cursor.description else ""


def raw(database: Database) -> bytes:
    """Return all that lies in the files of a database, but not in WAL."""
    as_(database, SUPERUSER, "CHECKPOINT")
    folder = Path(as_(database, SUPERUSER, "SHOW data_directory"))
    number = as_(
        database,
        SUPERUSER,
        "SELECT oid FROM pg_database WHERE datname = current_database()",
    )
    return b"".join(each.read_bytes() for each in (folder / "base" / number).iterdir())


def blobs(house: House, job: str) -> set[bytes]:
    """Return what lies beside the log of a job and of no other."""
    found = (each for row in rows_of(house, job) for each in row)
    return {each for each in found if isinstance(each, bytes)}


@pytest.fixture
def erased(house: House, audit_database: Database) -> set[bytes]:
    """Return what was private of the newest of some jobs, which is erased."""
    for number in range(20):
        Job(house, f"j-{number}", source=b"%d" % number).run()
    found = blobs(house, "j-19") - blobs(house, "j-18")
    assert all(each in raw(audit_database) for each in found)
    assert erase(house, "j-19").status_code == 200
    assert not rows_of(house, "j-19")
    return found


def test_a_plain_vacuum_leaves_what_was_erased_in_the_files(
    audit_database: Database, erased: set[bytes]
) -> None:
    """A page's hole is not written over: so the page asks for more than autovacuum."""
    as_(audit_database, OWNER, "VACUUM (INDEX_CLEANUP ON) record_key, sidecar, image")
    files = raw(audit_database)
    assert any(each in files for each in erased)


def test_what_the_page_says_takes_what_was_erased_out_of_the_files(
    house: House, audit_database: Database, erased: set[bytes]
) -> None:
    """Of tables and indexes, by their owner; everybody else's is still there."""
    (statement,) = re.findall(r"```sql\n(VACUUM.*?);", PAGE.read_text("utf-8"))
    as_(audit_database, OWNER, statement)
    files = raw(audit_database)
    assert not any(each in files for each in erased)
    assert all(each in files for each in blobs(house, "j-18"))
