"""A log to be backed up and restored: its database, its keys, an operator's hands."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from functions.audit.app import create_app
from functions.audit.backup import open_backup, write_backup
from functions.audit.bundle import log_verifiers
from functions.audit.log import Log
from functions.audit.restore import restore
from functions.audit.store import Store
from functions.audit.tables import (
    images,
    record_keys,
    sidecars,
)
from functions.audit.tiles import origin, sign_note
from tests.audit.house import House, TokensByName

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from functions.audit.restore import Report
    from functions.audit.tiles import NoteVerifier
    from functions.keys import MemoryKeys
    from functions.sink import Receipt
    from functions.storage.memory import MemoryStore

LARGE = 600


@dataclass
class Case:
    """A database with a log, and the keys that sign it."""

    url: str
    keys: MemoryKeys

    def house(self) -> House:
        """Return the function on this database; the caller closes its log."""
        log = Log.at(self.url, self.keys)
        app = create_app(log=log, keys=self.keys, authenticator=TokensByName())
        return House(log, self.keys, app.test_client(), self.url)

    def keys_of(self, tenant: str) -> Sequence[NoteVerifier]:
        """Return who may have signed."""
        return log_verifiers(tenant, self.keys)

    def append(self, *names: str, tenant: str = "acme") -> list[Receipt]:
        """Append events in order, as one process would."""
        house = self.house()
        found = [
            house.log.append(house.event(name, tenant=tenant)).receipt for name in names
        ]
        house.log.close()
        return found

    def private(self, *jobs: str) -> None:
        """Write what is private of jobs, as the function would beside their entries."""
        with closing(Store.open(self.url)) as store, store.committing() as db:
            of: list[dict[str, Any]] = [{"tenant": "acme", "job": job} for job in jobs]
            rows = [each | {"wrapped": b"w"} for each in of]
            db.execute(sa.insert(record_keys), rows)
            rows = [each | {"kind": "started", "sealed": b"s"} for each in of]
            db.execute(sa.insert(sidecars), rows)
            rows = [each | {"mac": b"m", "role": "source"} for each in of]
            db.execute(sa.insert(images), rows)

    def statement(self, job: str, epoch: int = 1) -> str:
        """Return a signed statement of an erasure."""
        name = origin("acme", epoch)
        at = "2026-11-21T12:00:00Z"
        text = f"guise erasure statement v1\n{name}\njob {job}\nat {at}\nentry 3\n"
        return sign_note(text, name, self.keys.signer("audit"))

    def backup(self, out: Path, operator: str = "") -> Path:
        """Write a backup as the operator."""
        with closing(Store.open(operator or self.url)) as store:
            write_backup(store, out, self.keys_of)
        return out


def restored(
    case: Case,
    file: Path,
    url: str,
    witness: MemoryStore | None = None,
    statements: Sequence[str] = (),
) -> Report:
    """Restore a backup into the database at `url`, as the operator."""
    with (
        closing(open_backup(file, file.parent)) as backup,
        closing(Store.open(url)) as target,
    ):
        return restore(
            backup,
            target,
            case.keys,
            case.keys_of,
            witness=witness,
            statements=statements,
        )


def rows(url: str, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    """Return every row of a table, in order."""
    with closing(Store.open(url)) as store, store.keeping() as db:
        return list(db.execute(sa.select(table).order_by(*table.primary_key)))
