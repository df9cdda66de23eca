"""A ledger is lost and comes back from a backup: rehearsed on both databases.

What billing had after the backup comes again from whoever tells of it, and what it has
already is counted no second time: so the bill is what it was.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from functions import events
from functions.billing.app import create_app
from functions.billing.ledger import Ledger
from functions.keys import MemoryKeys
from functions.swap import ledger
from tests.billing.house import House, TokensByName, clock
from tests.postgres import SUPERUSER, Database, Postgres
from tests.swap.house import ACME, SWAP, Sink, picture
from tests.swap.house import House as Shop

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = ("u1", "u2")
AFTER = ("u3", "u4")


def opened(url: str, keys: MemoryKeys) -> House:
    """Return billing over a database."""
    kept = Ledger.open(url)
    app = create_app(ledger=kept, keys=keys, authenticator=TokensByName(), now=clock)
    return House(kept, keys, app.test_client())


def _rehearse(house: House, backed_up: str) -> None:
    """Hold a restored ledger to the one that was lost."""
    lost = house.total()
    restored = opened(backed_up, house.keys)
    assert restored.total()["events"] == len(BEFORE)
    for name in (*BEFORE, *AFTER, *BEFORE):
        assert restored.post(restored.event(name)).status_code == 204
    assert restored.total() == lost
    assert lost["events"] == len(BEFORE + AFTER)
    restored.ledger.close()


def _post(house: House, names: tuple[str, ...]) -> None:
    for name in names:
        assert house.post(house.event(name)).status_code == 204


def test_sqlite_is_backed_up_while_it_is_written(tmp_path: Path) -> None:
    """By SQLite's own `.backup`, as docs/operations.md has it."""
    house = opened(f"sqlite:///{tmp_path}/billing.db", MemoryKeys())
    _post(house, BEFORE)
    with (
        closing(sqlite3.connect(tmp_path / "billing.db")) as source,
        closing(sqlite3.connect(tmp_path / "backup.db")) as target,
    ):
        source.backup(target)
    _post(house, AFTER)
    _rehearse(house, f"sqlite:///{tmp_path}/backup.db")
    house.ledger.close()


def test_postgresql_is_dumped_and_restored(
    postgres: Postgres, billing_database: Database
) -> None:
    """By `pg_dump` and `pg_restore`, with its roles' rights and its policies."""
    house = opened(billing_database.url(), MemoryKeys())
    _post(house, BEFORE)
    file = str(postgres._folder / f"{billing_database.name}.dump")
    where = ["-h", str(postgres._folder), "-U", SUPERUSER]
    postgres._run("pg_dump", *where, "-Fc", "-f", file, billing_database.name)
    _post(house, AFTER)
    with postgres.database() as empty:
        postgres._run("pg_restore", *where, "--exit-on-error", "-d", empty.name, file)
        _rehearse(house, empty.url())
    house.ledger.close()


def test_what_a_backup_lacks_is_in_the_jobs_records(tmp_path: Path) -> None:
    """As docs/operations.md has it: their usage events, posted as a batch."""
    shop = Shop(sink=Sink(down=True))
    for name in ("a.png", "b.png"):
        shop.put(name, picture(1))
    jobs = [str(shop.post(SWAP).get_json()["job"]) for _ in range(2)]
    found = [ledger.record(ACME, job, shop.store) for job in jobs]
    told = [
        event
        for record in found
        if record is not None
        for event in record.events
        if event["type"] == events.USAGE_RECORDED
    ]
    accounts = Ledger.open(f"sqlite:///{tmp_path}/billing.db")
    client = create_app(
        ledger=accounts, keys=shop.keys, authenticator=TokensByName()
    ).test_client()
    for _ in range(2):
        answer = client.post(
            "/v1/tenants/acme/events",
            data=json.dumps(told),
            content_type=events.BATCH,
        )
        assert answer.status_code == 204
    whole = House(accounts, shop.keys, client).total("?from=2026-01-01T00:00:00Z")
    assert whole["requests"] == len(jobs)
    accounts.close()
