"""Where the log rests: the statements that write and find its entries.

SQL runs on SQLite and PostgreSQL alike.  Statements of their own have `appending` and
`pipeline` (a batch), `private` (what can be erased), `pruning`, `plan`, `copies`, and
backups.
Entries, nodes and checkpoints are only ever inserted; a head is inserted once and
moves forward.  Whoever appends holds the head's row lock until the commit.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from functions.audit.tables import (
    checkpoints,
    entries,
    heads,
    horizons,
    nodes,
)
from functions.database import Schema, check_login, open_schema, scrub, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import ColumnElement, Connection, Engine

    from functions.audit.merkle import Frontier


SCHEMA: Final = Schema(
    scripts="functions.audit:migrations",
    newest="0002",
    table="audit_version",
    old="head",
    command="`guise audit migrate`",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf in its place.

    `leaf` is empty once it is pruned.  `note` is the first checkpoint that covers
    it; empty in the batch that will sign it.
    """

    tenant: str
    index: int
    leaf: bytes
    leaf_hash: bytes
    note: str = ""
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Head:
    """Where a tenant's log stands: its newest epoch, and the tree of that."""

    epoch: int
    frontier: Frontier


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sidecar of a job, encrypted; `kind` says of which event."""

    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Private:
    """What is kept beside a leaf until somebody asks for its erasure.

    `record_key` is wrapped; `images` are (MAC, role) pairs.
    """

    record_key: bytes
    sidecars: tuple[Sealed, ...] = ()
    images: tuple[tuple[bytes, str], ...] = ()


class Store:
    """The tables behind an engine; each transaction says what it is for.

    On PostgreSQL that is a role, and the database refuses whatever else is tried.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str, *, profile: str = "") -> Store:
        """Return the store at `url`; see `database.open_schema`.

        Where a `profile` is named, the login is looked at: see `database.check_login`.
        """
        engine = open_schema(url, SCHEMA)
        try:
            if profile:
                check_login(engine, profile=profile)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def committing(self) -> AbstractContextManager[Connection]:
        """Return a transaction that appends, to any tenant's log."""
        return transaction(self._engine, role="guise_audit_committer")

    def reading(self, tenant: str) -> AbstractContextManager[Connection]:
        """Return a transaction that reads a tenant's log, and nothing private."""
        return transaction(self._engine, role="guise_audit_reader", tenant=tenant)

    def searching(self, tenant: str) -> AbstractContextManager[Connection]:
        """Return a transaction that reads a tenant's entries and what is private."""
        return transaction(self._engine, role="guise_audit_searcher", tenant=tenant)

    @contextmanager
    def erasing(self, tenant: str) -> Iterator[Connection]:
        """Yield a transaction that deletes what is private, and states so.

        It holds the tenant's head: no batch that is being committed adds anything
        to a job once its erasure is there.  Where it ends, see `database.scrub`.
        """
        role = "guise_audit_eraser"
        with transaction(self._engine, role=role, tenant=tenant) as db:
            query = sa.select(heads.c.tenant).where(heads.c.tenant == tenant)
            db.execute(query.with_for_update())
            yield db
        scrub(self._engine)

    def clearing(self, tenant: str) -> AbstractContextManager[Connection]:
        """Return a transaction that deletes a part of what is private.

        What it deletes is scrubbed by an `erasing` after it.
        """
        return transaction(self._engine, role="guise_audit_eraser", tenant=tenant)

    def pruning(self, tenant: str) -> AbstractContextManager[Connection]:
        """Return a transaction that drops leaves, and says how long to keep them.

        Only an operator's login may; not the function's.
        """
        return transaction(self._engine, role="guise_audit_pruner", tenant=tenant)

    def keeping(self, *, snapshot: bool = False) -> AbstractContextManager[Connection]:
        """Return a transaction that reads and inserts everything, for a backup.

        Only an operator's login may; not the function's.  A `snapshot` only reads.
        """
        role = "guise_audit_keeper"
        return transaction(self._engine, role=role, snapshot=snapshot)


def entry_of(row: Any, note: str = "") -> Entry:  # noqa: ANN401  # a row of any query
    """Return the entry in a row that has its columns."""
    leaf = row.leaf or b""
    return Entry(row.tenant, row.idx, leaf, row.leaf_hash, note, row.epoch)


def epoch_of(db: Connection, tenant: str) -> int:
    """Return the tenant's newest epoch; 1 before its first entry."""
    query = sa.select(heads.c.epoch).where(heads.c.tenant == tenant)
    return db.execute(query).scalar_one_or_none() or 1


def size_of(db: Connection, tenant: str, epoch: int | None = None) -> int:
    """Return how many entries a tenant's log has; of the newest epoch unless said."""
    query = sa.select(sa.func.max(checkpoints.c.size)).where(
        *_of(checkpoints, tenant, epoch)
    )
    return db.execute(query).scalar_one_or_none() or 0


def note_of(db: Connection, tenant: str, size: int, epoch: int | None = None) -> str:
    """Return the signed checkpoint of the tenant's log at `size`; "" if none."""
    query = sa.select(checkpoints.c.note).where(
        *_of(checkpoints, tenant, epoch), checkpoints.c.size == size
    )
    return db.execute(query).scalar_one_or_none() or ""


def minimum_of(db: Connection, tenant: str, epoch: int | None = None) -> int:
    """Return the first index whose leaf is kept."""
    query = sa.select(horizons.c.minimum).where(*_of(horizons, tenant, epoch))
    return db.execute(query).scalar_one_or_none() or 0


def hashes(
    db: Connection,
    tenant: str,
    level: int,
    start: int,
    stop: int,
    epoch: int | None = None,
) -> list[bytes]:
    """Return the tile hashes `start` to `stop` of a level, as far as there are."""
    table, column = (nodes, nodes.c.hash) if level else (entries, entries.c.leaf_hash)
    query = (
        sa.select(column)
        .where(*_of(table, tenant, epoch))
        .where(table.c.idx >= start, table.c.idx < stop)
        .order_by(table.c.idx)
    )
    if level:
        query = query.where(nodes.c.level == level)
    return list(db.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries a reader asks for; milliseconds since the epoch, `to` not in.

    `epoch` is the tenant's newest unless one is named.
    """

    tenant: str
    start: int = 0
    stop: int | None = None
    job: str = ""
    from_ms: int | None = None
    to_ms: int | None = None
    epoch: int | None = None


def select_entries(db: Connection, wanted: Selection, limit: int) -> list[Entry]:
    """Return up to `limit` entries that are not pruned, in the order of the log."""
    tenant, epoch = wanted.tenant, wanted.epoch
    kept = sa.select(horizons.c.minimum).where(*_of(horizons, tenant, epoch))
    query = sa.select(entries).where(
        *_of(entries, tenant, epoch),
        entries.c.idx >= wanted.start,
        entries.c.idx >= sa.func.coalesce(kept.scalar_subquery(), 0),
    )
    if wanted.stop is not None:
        query = query.where(entries.c.idx < wanted.stop)
    if wanted.job:
        query = query.where(entries.c.job == wanted.job)
    if wanted.from_ms is not None:
        query = query.where(entries.c.at_ms >= wanted.from_ms)
    if wanted.to_ms is not None:
        query = query.where(entries.c.at_ms < wanted.to_ms)
    rows = db.execute(query.order_by(entries.c.idx).limit(limit))
    return [entry_of(row) for row in rows]


def _of(table: sa.Table, tenant: str, epoch: int | None) -> list[ColumnElement[bool]]:
    """Return the conditions on a row that it is of a tenant's log of an epoch."""
    newest = sa.select(heads.c.epoch).where(heads.c.tenant == tenant)
    chosen = newest.scalar_subquery() if epoch is None else epoch
    return [table.c.tenant == tenant, table.c.epoch == chosen]
