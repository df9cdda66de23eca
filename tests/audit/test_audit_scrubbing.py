"""SQLite's files after an erasure: the bytes are gone, not only the rows."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from functions.database import open_database, scrub
from functions.problems import Unavailable
from tests.audit.jobs import Job, erase, private_rows, rows_of

if TYPE_CHECKING:
    from tests.audit.house import House


def files(house: House) -> bytes:
    """Return all that lies on the disk, the write-ahead log included."""
    path = Path(house.url.removeprefix("sqlite:///"))
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


def blobs(house: House, job: str) -> list[bytes]:
    return [
        value
        for row in rows_of(house, job)
        for value in row
        if isinstance(value, bytes)
    ]


def test_the_raw_files_hold_nothing_that_was_erased(house: House) -> None:
    """Wrapped key, sidecars and MACs, in the database and in its log."""
    for number in range(50):
        Job(house, f"j-{number}", source=b"%d" % number).run()
    others = blobs(house, "j-21")
    erased = [each for each in blobs(house, "j-20") if each not in others]
    before = files(house)
    assert len(erased) == 4  # the MACs of target and result are the others', too
    assert all(each in before for each in erased)
    assert erase(house, "j-20").status_code == 200
    after = files(house)
    assert not any(each in after for each in erased)
    assert all(each in after for each in others)


def hurry(house: House) -> None:
    """Have every connection wait 50 ms for others, not ten seconds."""
    engine = house.log.store._engine

    def connect(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 50")

    sa.event.listen(engine, "connect", connect)
    engine.dispose()


def test_no_statement_while_somebody_reads_the_files(house: House) -> None:
    """A reader holds the old pages: 503, and asked again it is done."""
    Job(house, "j-1").run()
    erased = blobs(house, "j-1")
    hurry(house)
    path = house.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchall()
        assert erase(house, "j-1").status_code == 503
        assert any(each in files(house) for each in erased)
        reader.execute("COMMIT")
    assert private_rows(house) == []
    assert erase(house, "j-1").status_code == 200
    assert not any(each in files(house) for each in erased)


def test_many_erasures_at_once_wait_for_one_another(house: House) -> None:
    """Only one at a time can cut the log; the others do not fail for it."""
    names = [f"j-{number}" for number in range(24)]
    for name in names:
        Job(house, name).run()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: erase(house, name).status_code, names))
    assert set(answers) == {200}


def test_a_log_that_stays_locked_is_not_waited_for_for_ever(house: House) -> None:
    """Then it is `Unavailable`, and whoever asked asks again."""
    engine = open_database(house.url)

    def begin(connection: Any, *_: object) -> None:
        connection.execute("BEGIN IMMEDIATE")

    sa.event.listen(engine, "checkout", begin)
    with pytest.raises(Unavailable):
        scrub(engine)
    engine.dispose()


def test_other_databases_are_left_to_their_own_housekeeping() -> None:
    """Nothing is asked of a server: there is none at this address."""
    scrub(open_database("postgresql+psycopg://nobody@127.0.0.1:1/none"))
