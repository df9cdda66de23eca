"""Where the log rests: four tables, and every statement that touches them.

Only this module knows SQL; it runs on SQLite and PostgreSQL alike.  Entries,
nodes and checkpoints are only ever inserted; a head is inserted once and moves
forward.  Whoever appends holds the head's row lock until the commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from functions.audit.merkle import Frontier
from functions.audit.tiles import TILE_HEIGHT
from functions.database import open_database, transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine

    from functions.audit.leaf import Leaf
    from functions.audit.merkle import Node
metadata: Final = sa.MetaData()

heads: Final = sa.Table(
    "head",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
)
entries: Final = sa.Table(
    "entry",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
    # A digest of tenant, source and id: for `(tenant, source, id) IN (...)` SQLite
    # would read every entry.
    sa.Column("key", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    sa.Index("entry_of_job", "tenant", "job", "idx"),
)
nodes: Final = sa.Table(
    "node",
    metadata,
    # The root of the `idx`-th full tile below `level`: what tiles of level 1 and
    # up are made of.  Level 0 is the leaf hashes of the entries themselves.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
checkpoints: Final = sa.Table(
    "checkpoint",
    metadata,
    # Every checkpoint ever signed, so that a receipt is the same when asked again.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("note", sa.Text, nullable=False),
)

_NEW_HEAD: Final = sa.text(
    "INSERT INTO head (tenant, size, frontier) VALUES (:tenant, 0, :frontier)"
    " ON CONFLICT (tenant) DO NOTHING",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf in its place.

    `note` is the first checkpoint that covers it; empty in the batch that will
    sign it.
    """

    tenant: str
    index: int
    leaf: bytes
    leaf_hash: bytes
    note: str = ""


class Store:
    """The tables behind an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Store:
        """Return the store at `url`, its tables made if there are none."""
        engine = open_database(url)
        with transaction(engine) as db:
            if not sa.inspect(db).has_table(heads.name):
                metadata.create_all(db)
        return cls(engine)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def transaction(self) -> AbstractContextManager[Connection]:
        """Return a transaction; see `database.transaction`."""
        return transaction(self._engine)


def lock_heads(db: Connection, tenants: Sequence[str]) -> dict[str, Frontier]:
    """Lock the heads of `tenants`, in that order, and return their frontiers.

    Every writer sorts its tenants, so no two can wait for one another.
    """
    query = (
        sa.select(heads)
        .where(heads.c.tenant.in_(tenants))
        .order_by(heads.c.tenant)
        .with_for_update()
    )
    rows = db.execute(query).all()
    missing = sorted(set(tenants) - {row.tenant for row in rows})
    if missing:
        db.execute(_NEW_HEAD, [{"tenant": t, "frontier": b""} for t in missing])
        rows = db.execute(query).all()
    return {row.tenant: Frontier.parse(row.size, row.frontier) for row in rows}


def find(db: Connection, keys: Sequence[bytes]) -> dict[bytes, Entry]:
    """Return those of `keys` that the log has, each with its first checkpoint."""
    first_note = (
        sa.select(checkpoints.c.note)
        .where(checkpoints.c.tenant == entries.c.tenant)
        .where(checkpoints.c.size > entries.c.idx)
        .order_by(checkpoints.c.size)
        .limit(1)
        .scalar_subquery()
    )
    query = sa.select(entries, first_note.label("note"))
    rows = db.execute(query.where(entries.c.key.in_(keys)))
    return {
        row.key: Entry(
            row.tenant,
            row.idx,
            row.leaf,
            row.leaf_hash,
            row.note,
        )
        for row in rows
    }


def add_entries(db: Connection, added: Iterable[tuple[int, Leaf]]) -> None:
    """Insert leaves at their indices."""
    rows = [
        {
            "tenant": leaf.tenant,
            "idx": index,
            "key": leaf.key,
            "source": leaf.source,
            "id": leaf.id,
            "type": leaf.type,
            "job": leaf.job,
            "at_ms": leaf.at_ms,
            "leaf": leaf.data,
            "leaf_hash": leaf.hash,
        }
        for index, leaf in added
    ]
    _insert(db, entries, rows)


def add_nodes(db: Connection, tenant: str, completed: Iterable[Node]) -> None:
    """Insert those of the `completed` nodes that are in tiles of level 1 and up."""
    rows = [
        {
            "tenant": tenant,
            "level": node.height // TILE_HEIGHT,
            "idx": node.index,
            "hash": node.hash,
        }
        for node in completed
        if node.height and node.height % TILE_HEIGHT == 0
    ]
    _insert(db, nodes, rows)


def move_heads(
    db: Connection,
    moved: Iterable[tuple[str, Frontier, str]],
) -> None:
    """Set heads to their new frontiers and insert the checkpoints of those."""
    rows = [
        {"key": tenant, "size": frontier.size, "frontier": bytes(frontier)}
        for tenant, frontier, _ in moved
    ]
    if rows:
        update = sa.update(heads).where(heads.c.tenant == sa.bindparam("key"))
        db.execute(update, rows)
    notes = [
        {"tenant": tenant, "size": frontier.size, "note": note}
        for tenant, frontier, note in moved
    ]
    _insert(db, checkpoints, notes)


def _insert(db: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        db.execute(sa.insert(table), rows)


def size_of(db: Connection, tenant: str) -> int:
    """Return how many entries the tenant's log has."""
    query = sa.select(heads.c.size).where(heads.c.tenant == tenant)
    return db.execute(query).scalar_one_or_none() or 0


def note_of(db: Connection, tenant: str, size: int) -> str:
    """Return the signed checkpoint of the tenant's log at `size`; "" if none."""
    query = sa.select(checkpoints.c.note).where(
        checkpoints.c.tenant == tenant,
        checkpoints.c.size == size,
    )
    return db.execute(query).scalar_one_or_none() or ""


def hashes(
    db: Connection,
    tenant: str,
    level: int,
    start: int,
    stop: int,
) -> list[bytes]:
    """Return the tile hashes `start` to `stop` of a level, as far as there are."""
    table, column = (nodes, nodes.c.hash) if level else (entries, entries.c.leaf_hash)
    query = (
        sa.select(column)
        .where(table.c.tenant == tenant, table.c.idx >= start, table.c.idx < stop)
        .order_by(table.c.idx)
    )
    if level:
        query = query.where(nodes.c.level == level)
    return list(db.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries a reader asks for; milliseconds since the epoch, `to` not in."""

    tenant: str
    start: int = 0
    stop: int | None = None
    job: str = ""
    from_ms: int | None = None
    to_ms: int | None = None


def select_entries(db: Connection, wanted: Selection, limit: int) -> list[Entry]:
    """Return up to `limit` entries in the order of the log."""
    query = sa.select(entries).where(
        entries.c.tenant == wanted.tenant,
        entries.c.idx >= wanted.start,
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
    return [Entry(row.tenant, row.idx, row.leaf, row.leaf_hash) for row in rows]
