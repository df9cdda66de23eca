"""Writing a batch: heads locked, duplicates found, and what grew inserted.

`begin` and `write` are all that a batch sends between its beginning and its commit.
SQLite gets a statement a table, through SQLAlchemy; over a network it is the number
of answers waited for that counts, and for PostgreSQL there is a faster way to say the
same in `pipeline`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from functions.audit import pipeline
from functions.audit.merkle import Frontier
from functions.audit.store import Head, entry_of
from functions.audit.tables import (
    checkpoints,
    entries,
    erasures,
    heads,
    images,
    nodes,
    record_keys,
    sidecars,
)
from functions.audit.tiles import TILE_HEIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from functions.audit.leaf import Leaf
    from functions.audit.merkle import Node
    from functions.audit.store import Entry

_NEW_HEAD: Final = sa.text(
    "INSERT INTO head (tenant, epoch, size, frontier)"
    " VALUES (:tenant, 1, 0, :frontier) ON CONFLICT (tenant) DO NOTHING",
)


def begin(
    db: Connection, tenants: Sequence[str], keys: Sequence[bytes]
) -> tuple[dict[str, Head], dict[bytes, Entry]]:
    """Return the heads of `tenants`, locked, and the entries that have `keys`.

    `tenants` are sorted: no two writers can wait for one another.
    """
    if db.dialect.name == "postgresql":
        found = pipeline.begin(db, tenants, keys)
        if found is not None:
            return found
        _make_heads(db, tenants)
    return lock_heads(db, tenants), find(db, keys)


def write(
    db: Connection,
    added: Sequence[tuple[int, int, Leaf]],
    completed: Iterable[tuple[str, int, Node]],
    moved: Sequence[tuple[str, Head, str]],
    signed_ms: int,
) -> None:
    """Insert what a batch `added`, and move its tenants' heads.

    Leaves come after their epochs and indices, the nodes that these `completed`
    after their tenants and epochs, and heads before their checkpoints.
    """
    if not added:
        return
    in_tiles = [
        each
        for each in completed
        if each[2].height and each[2].height % TILE_HEIGHT == 0
    ]
    if db.dialect.name == "postgresql":
        pipeline.write(db, added, in_tiles, moved, signed_ms)
        return
    add_nodes(db, in_tiles)
    add_entries(db, added)
    add_private(db, [leaf for *_, leaf in added])
    move_heads(db, moved, signed_ms)


def lock_heads(db: Connection, tenants: Sequence[str]) -> dict[str, Head]:
    """Lock the heads of `tenants`, in that order, and return them.

    Every writer sorts its tenants, so no two can wait for one another.
    """
    query = (
        sa.select(heads)
        .where(heads.c.tenant.in_(tenants))
        .order_by(heads.c.tenant)
        .with_for_update()
    )
    rows = db.execute(query).all()
    if len(rows) < len(tenants):
        _make_heads(db, tenants)
        rows = db.execute(query).all()
    return {
        row.tenant: Head(row.epoch, Frontier.parse(row.size, row.frontier))
        for row in rows
    }


def _make_heads(db: Connection, tenants: Sequence[str]) -> None:
    """Make the heads that are missing, in the order in which all lock them."""
    db.execute(_NEW_HEAD, [{"tenant": t, "frontier": b""} for t in tenants])


def find(db: Connection, keys: Sequence[bytes]) -> dict[bytes, Entry]:
    """Return those of `keys` that the log has, each with its first checkpoint."""
    first_note = (
        sa.select(checkpoints.c.note)
        .where(checkpoints.c.tenant == entries.c.tenant)
        .where(checkpoints.c.epoch == entries.c.epoch)
        .where(checkpoints.c.size > entries.c.idx)
        .order_by(checkpoints.c.size)
        .limit(1)
        .scalar_subquery()
    )
    query = sa.select(entries, first_note.label("note"))
    rows = db.execute(query.where(entries.c.key.in_(keys)))
    return {row.key: entry_of(row, row.note) for row in rows}


def add_entries(db: Connection, added: Iterable[tuple[int, int, Leaf]]) -> None:
    """Insert leaves at their epochs and indices."""
    rows = [pipeline.row_of(*each) for each in added]
    _insert(db, entries, rows)


def add_nodes(db: Connection, completed: Iterable[tuple[str, int, Node]]) -> None:
    """Insert nodes that are in tiles of level 1 and up, after tenant and epoch."""
    rows = [
        {
            "tenant": tenant,
            "epoch": epoch,
            "level": node.height // TILE_HEIGHT,
            "idx": node.index,
            "hash": node.hash,
        }
        for tenant, epoch, node in completed
    ]
    _insert(db, nodes, rows)


def add_private(db: Connection, added: Iterable[Leaf]) -> None:
    """Insert what is private of new leaves, unless their job is erased already.

    What a job has it keeps: its first record key, its first sidecar of a kind.
    """
    wanted = [(leaf, leaf.private) for leaf in added if leaf.private and leaf.job]
    if not wanted:
        return
    jobs = sa.tuple_(erasures.c.tenant, erasures.c.job)
    query = sa.select(erasures.c.tenant, erasures.c.job)
    query = query.where(jobs.in_({(leaf.tenant, leaf.job) for leaf, _ in wanted}))
    gone = {(row.tenant, row.job) for row in db.execute(query)}
    kept = [
        ({"tenant": leaf.tenant, "job": leaf.job}, private)
        for leaf, private in wanted
        if (leaf.tenant, leaf.job) not in gone
    ]
    _keep(db, record_keys, [of | {"wrapped": p.record_key} for of, p in kept])
    _keep(
        db,
        sidecars,
        [of | {"kind": s.kind, "sealed": s.data} for of, p in kept for s in p.sidecars],
    )
    _keep(
        db,
        images,
        [of | {"mac": mac, "role": r} for of, p in kept for mac, r in p.images],
    )


def move_heads(
    db: Connection,
    moved: Iterable[tuple[str, Head, str]],
    signed_ms: int,
) -> None:
    """Set heads to their new frontiers and insert the checkpoints of those."""
    rows = [
        {
            "key": tenant,
            "size": head.frontier.size,
            "frontier": bytes(head.frontier),
        }
        for tenant, head, _ in moved
    ]
    if rows:
        update = sa.update(heads).where(heads.c.tenant == sa.bindparam("key"))
        db.execute(update, rows)
    notes = [
        {
            "tenant": tenant,
            "epoch": head.epoch,
            "size": head.frontier.size,
            "note": note,
            "signed_ms": signed_ms,
        }
        for tenant, head, note in moved
    ]
    _insert(db, checkpoints, notes)


def _insert(db: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        db.execute(sa.insert(table), rows)


def _keep(db: Connection, table: sa.Table, rows: list[Mapping[str, Any]]) -> None:
    """Insert rows, but for those that are there."""
    if rows:
        # Both databases have ON CONFLICT, each in a module of its own.
        dialect = import_module(f"sqlalchemy.dialects.{db.dialect.name}")
        db.execute(dialect.insert(table).on_conflict_do_nothing(), rows)
