"""Old logs become new ones in place, and no receipt of theirs is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.leaf import leaf_of
from functions.audit.log import Log
from functions.audit.read import prove
from functions.audit.store import SCHEMA, Store
from functions.audit.tables import metadata
from functions.cli import main
from functions.database import migrate, open_database, transaction, version_of
from functions.problems import Unavailable
from functions.settings import SettingsError
from tests.audit.house import BOTH, House
from tests.postgres import OWNER, SUPERUSER

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.postgres import Database

DATABASES = BOTH
REPOSITORY: Final = Path(__file__).parents[2]
# What was made before there were versions, statement by statement.
OLD: Final = (
    (
        "CREATE TABLE head (tenant TEXT NOT NULL, size BIGINT NOT NULL,"
        " frontier {blob} NOT NULL, PRIMARY KEY (tenant))"
    ),
    (
        "CREATE TABLE entry (tenant TEXT NOT NULL, idx BIGINT NOT NULL,"
        " key {blob} NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL,"
        " type TEXT NOT NULL, job TEXT NOT NULL, at_ms BIGINT NOT NULL,"
        " leaf {blob} NOT NULL, leaf_hash {blob} NOT NULL,"
        " PRIMARY KEY (tenant, idx), UNIQUE (key))"
    ),
    "CREATE INDEX entry_of_job ON entry (tenant, job, idx)",
    (
        "CREATE TABLE node (tenant TEXT NOT NULL, level SMALLINT NOT NULL,"
        " idx BIGINT NOT NULL, hash {blob} NOT NULL, PRIMARY KEY (tenant, level, idx))"
    ),
    (
        "CREATE TABLE checkpoint (tenant TEXT NOT NULL, size BIGINT NOT NULL,"
        " note TEXT NOT NULL, PRIMARY KEY (tenant, size))"
    ),
)
OPEN: Final = """
import sys
from functions.audit.store import Store
sys.stdin.readline()
Store.open(sys.argv[1]).close()
print("alembic" in sys.modules)
"""


@pytest.fixture
def old(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> tuple[str, str]:
    """Return where the tables lie of before there were versions: ours, the owner's."""
    if url.startswith("sqlite"):
        ours = owners = f"sqlite:///{tmp_path}/old.db"
        blob = "BLOB"
    else:
        empty: Database = request.getfixturevalue("empty_database")
        ours, owners, blob = empty.url(), empty.url(OWNER), "BYTEA"
    engine = open_database(owners)
    with transaction(engine) as db:
        for statement in OLD:
            db.exec_driver_sql(statement.format(blob=blob))
    engine.dispose()
    return ours, owners


def copied(house: House, old: str) -> list[Any]:
    """Fill an old log with what `house` has appended; return the receipts."""
    leaves = [leaf_of(house.event(f"e{each}")) for each in range(300)]
    receipts = [
        each.receipt
        for start in (0, 100, 200)
        for each in house.log._commit(leaves[start : start + 100])
    ]
    there = open_database(old)
    source = open_database(as_superuser(house.url))
    with transaction(source) as read, transaction(there) as write:
        for name in ("head", "entry", "node", "checkpoint"):
            rows = read.execute(sa.select(metadata.tables[name])).mappings().all()
            new = {"epoch", "signed_ms"}
            plain = [{k: v for k, v in row.items() if k not in new} for row in rows]
            columns: list[Any] = [sa.column(key) for key in plain[0]]
            write.execute(sa.insert(sa.table(name, *columns)), plain)
    for engine in (there, source):
        engine.dispose()
    return receipts


def as_superuser(url: str) -> str:
    parts = sa.make_url(url)
    if parts.drivername != "sqlite":
        parts = parts.set(username=SUPERUSER)
    return parts.render_as_string(hide_password=False)


def test_an_old_log_is_migrated_and_its_receipts_stay_valid(
    house: House, old: tuple[str, str]
) -> None:
    """Each event gets its first receipt again, and the log goes on from there."""
    ours, owners = old
    receipts = copied(house, owners)
    if not ours.startswith("sqlite"):
        engine = open_database(owners)
        assert migrate(engine, SCHEMA) == ["0002"]
        engine.dispose()
        grant(ours)
    log = Log.at(ours, house.keys)
    again = House(log, house.keys, house.client, ours)
    for number in (0, 100, 299):
        answer = log.append(house.event(f"e{number}"))
        assert (answer.receipt, answer.conflict) == (receipts[number], False)
    newest = log.append(house.event("after")).receipt
    assert newest.index == 300
    leaves, known = again.entries(), log_verifiers("acme", house.keys)
    for receipt in (receipts[0], receipts[150], newest):
        size = int(receipt.checkpoint.split("\n")[1])
        verify_entries(leaves[:size], receipt.checkpoint, known)
    assert prove(log.store, "acme", 7).leaf_hash.hex() == receipts[7].leaf_hash
    log.close()


def grant(url: str) -> None:
    """Let the function's login take its roles, as an operator does once."""
    engine = sa.create_engine(as_superuser(url))
    with engine.begin() as db:
        for role in ("committer", "reader", "searcher", "eraser"):
            db.exec_driver_sql(f"GRANT guise_audit_{role} TO guise_app")
    engine.dispose()


@pytest.mark.parametrize("start", ["old", "empty"])
def test_the_migrations_lead_to_the_tables_that_the_code_uses(
    request: pytest.FixtureRequest, url: str, start: str, tmp_path: Path
) -> None:
    """From wherever they start."""
    if start == "old":
        _, at = request.getfixturevalue("old")
    elif url.startswith("sqlite"):
        at = f"sqlite:///{tmp_path}/empty.db"
    else:
        at = request.getfixturevalue("empty_database").url(OWNER)
    engine = open_database(at)
    assert migrate(engine, SCHEMA)[-1] == SCHEMA.newest
    options = {"version_table": SCHEMA.table, "compare_server_default": True}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrating_twice_does_nothing_the_second_time(old: tuple[str, str]) -> None:
    """And says so."""
    engine = open_database(old[1])
    assert version_of(engine, SCHEMA) == ""
    assert migrate(engine, SCHEMA) == ["0002"]
    assert migrate(engine, SCHEMA) == []
    assert version_of(engine, SCHEMA) == "0002"
    engine.dispose()


def test_a_migration_that_fails_leaves_everything_as_it_was(
    house: House, old: tuple[str, str]
) -> None:
    """No half of it, and no version that it has not."""
    _, owners = old
    receipts = copied(house, owners)
    engine = open_database(owners)
    with transaction(engine) as db:  # the last of the tables it makes is there
        db.exec_driver_sql("CREATE TABLE horizon (x INTEGER)")
    before = contents(engine)
    with pytest.raises(Unavailable, match="horizon"):
        migrate(engine, SCHEMA)
    assert contents(engine) == before
    with transaction(engine) as db:
        db.exec_driver_sql("DROP TABLE horizon")
    assert migrate(engine, SCHEMA) == ["0002"]
    assert len(receipts) == 300
    engine.dispose()


def contents(engine: Engine) -> dict[str, list[str]]:
    with transaction(engine) as db:
        inspector = sa.inspect(db)
        return {
            name: [each["name"] for each in inspector.get_columns(name)]
            + sorted(map(str, db.execute(sa.text(f'SELECT * FROM "{name}"'))))  # noqa: S608
            for name in inspector.get_table_names()
        }


def test_two_processes_open_one_fresh_file(tmp_path: Path) -> None:
    """One makes the tables, and the other finds them."""
    url = f"sqlite:///{tmp_path}/fresh.db"
    assert "True" in racing(url, OPEN)
    assert set(racing(url, OPEN)) == {"False"}


def racing(url: str, code: str) -> list[str]:
    """Return the last line that each of three processes prints, begun at once."""
    command = [sys.executable, "-c", code, url]
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY)
        for _ in range(3)
    ]
    printed = [racer.communicate("go\n", timeout=60)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    return [each.splitlines()[-1] for each in printed]


def test_two_operators_migrate_one_fresh_database(empty_database: Database) -> None:
    """One does, and the others wait for it and find it done."""
    code = """
import sys
from functions.cli import main
sys.stdin.readline()
main(["audit", "migrate", "--json", "--database", sys.argv[1]])
"""
    told = [json.loads(each) for each in racing(empty_database.url(OWNER), code)]
    done = sorted(each["done"] for each in told)
    assert done == [[], [], ["0001", "0002"]]


def test_a_file_of_this_version_is_opened_without_alembic(tmp_path: Path) -> None:
    """It is heavy, and a cold start has nothing to migrate."""
    url = f"sqlite:///{tmp_path}/audit.db"
    Store.open(url).close()
    assert set(racing(url, OPEN)) == {"False"}


def test_an_unmigrated_server_says_what_to_run(empty_database: Database) -> None:
    """The function does not own the tables, and does not serve without them."""
    with pytest.raises(SettingsError, match=r"version none, .* `guise audit migrate`"):
        Store.open(empty_database.url())


def test_the_function_gives_no_receipt_without_its_tables(
    house: House, empty_database: Database
) -> None:
    """It answers 503, and its own log says what to run."""
    log = Log.at(empty_database.url(), house.keys)
    with pytest.raises(Unavailable, match="guise audit migrate"):
        log.append(house.event())
    log.close()


def test_an_older_program_leaves_newer_tables_alone(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It would not know what it writes."""
    if url.startswith("sqlite"):
        Store.open(url).close()
    engine = open_database(as_superuser(url))
    with transaction(engine) as db:
        db.exec_driver_sql("UPDATE audit_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(SettingsError, match=r"9999.*a newer Guise"):
        Store.open(url)


def test_the_command_migrates_and_says_so(
    old: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """For a person; --json for a script."""
    command = ["audit", "migrate", "--database", old[1]]
    for expected in (
        "migrated to 0002: 0002\n",
        "nothing to do: the tables are of version 0002\n",
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert (ended.value.code, capsys.readouterr().out) == (0, expected)
    with pytest.raises(SystemExit):
        main([*command, "--json"])
    assert json.loads(capsys.readouterr().out) == {"version": "0002", "done": []}


def test_a_login_that_owns_nothing_migrates_nothing(
    audit_database: Database, empty_database: Database
) -> None:
    """The function's login least of all."""
    for database in (audit_database, empty_database):
        engine = open_database(database.url())
        if database is audit_database:
            database.tamper("UPDATE audit_version SET version_num = '0001'")
        with pytest.raises(Unavailable, match="InsufficientPrivilege"):
            migrate(engine, SCHEMA)
        engine.dispose()
