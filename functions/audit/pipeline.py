"""A batch in PostgreSQL's own words: three answers are waited for, and the commit's.

What is sent together is answered together (libpq's pipeline mode); rows go as JSON,
written in one go, so that a statement is the same, and prepared, however many there
are.  The statements of one pipeline follow one another: what looks for duplicates sees
everything that was committed before the heads were locked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.audit.merkle import Frontier
from functions.audit.store import Entry, Head
from functions.audit.tiles import TILE_HEIGHT
from functions.database import pipelined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from functions.audit.leaf import Leaf
    from functions.audit.merkle import Node
    from functions.audit.store import Private

LOCK: Final = """
SELECT tenant, epoch, size, frontier FROM head
WHERE tenant = ANY(%s::text[]) ORDER BY tenant FOR UPDATE
"""
FIND: Final = """
SELECT key, tenant, idx, leaf, leaf_hash, epoch,
    (SELECT note FROM checkpoint
     WHERE checkpoint.tenant = entry.tenant AND checkpoint.epoch = entry.epoch
        AND checkpoint.size > entry.idx
     ORDER BY checkpoint.size LIMIT 1)
FROM entry WHERE key = ANY(%s::bytea[])
"""
_GROW: Final = """
WITH batch AS MATERIALIZED (SELECT %s::json AS grown), added AS (
    INSERT INTO entry (tenant, epoch, idx, key, source, id, type, job, at_ms,
        leaf, leaf_hash)
    SELECT tenant, epoch, idx, decode(key, 'base64'), source, id, type, job, at_ms,
        decode(leaf, 'base64'), decode(leaf_hash, 'base64')
    FROM batch, json_to_recordset(grown -> 'entries') AS new (tenant text,
        epoch smallint, idx bigint, key text, source text, id text, type text,
        job text, at_ms bigint, leaf text, leaf_hash text)
), completed AS (
    INSERT INTO node (tenant, epoch, level, idx, hash)
    SELECT tenant, epoch, level, idx, decode(hash, 'base64')
    FROM batch, json_to_recordset(grown -> 'nodes') AS new (tenant text,
        epoch smallint, level smallint, idx bigint, hash text)
), signed AS (
    INSERT INTO checkpoint (tenant, epoch, size, note, signed_ms)
    SELECT tenant, epoch, size, note, signed_ms
    FROM batch, json_to_recordset(grown -> 'heads') AS new (tenant text,
        epoch smallint, size bigint, note text, signed_ms bigint)
)
UPDATE head SET size = moved.size, frontier = decode(moved.frontier, 'base64')
FROM batch, json_to_recordset(grown -> 'heads') AS moved (tenant text, size bigint,
    frontier text)
WHERE head.tenant = moved.tenant
"""
# No column is named as a target of the conflict: that would take a right to read it.
_HIDE: Final = """
WITH gone AS (SELECT tenant, job FROM erasure
    WHERE (tenant, job) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
), keys AS (
    INSERT INTO record_key (tenant, job, wrapped)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::bytea[]) AS new (tenant, job, v)
    WHERE (tenant, job) NOT IN (SELECT tenant, job FROM gone) ON CONFLICT DO NOTHING
), sealed AS (
    INSERT INTO sidecar (tenant, job, kind, sealed)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bytea[])
        AS new (tenant, job, k, v)
    WHERE (tenant, job) NOT IN (SELECT tenant, job FROM gone) ON CONFLICT DO NOTHING
)
INSERT INTO image (tenant, job, mac, role)
SELECT * FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::text[])
    AS new (tenant, job, m, r)
WHERE (tenant, job) NOT IN (SELECT tenant, job FROM gone) ON CONFLICT DO NOTHING
"""


def begin(
    db: Connection, tenants: Sequence[str], keys: Sequence[bytes]
) -> tuple[dict[str, Head], dict[bytes, Entry]] | None:
    """Return locked heads and known entries; `None` where a head is missing."""
    with pipelined(db) as wire:
        locked = wire.execute(LOCK, [list(tenants)])
        known = wire.execute(FIND, [list(keys)])
        rows, entries = locked.fetchall(), known.fetchall()
    if len(rows) < len(tenants):
        return None
    heads = {
        tenant: Head(epoch, Frontier.parse(size, frontier))
        for tenant, epoch, size, frontier in rows
    }
    return heads, {key: _entry(*row) for key, *row in entries}


def _entry(  # the columns of `FIND`
    tenant: str, index: int, leaf: bytes | None, leaf_hash: bytes, epoch: int, note: str
) -> Entry:
    return Entry(tenant, index, leaf or b"", leaf_hash, note, epoch)


def write(
    db: Connection,
    added: Sequence[tuple[int, int, Leaf]],
    completed: Iterable[tuple[str, int, Node]],
    moved: Iterable[tuple[str, Head, str]],
    signed_ms: int,
) -> None:
    """Insert what grew and move the heads; see `appending.write`."""
    grown = {
        "entries": [row_of(*each) for each in added],
        "nodes": [
            {
                "tenant": tenant,
                "epoch": epoch,
                "level": node.height // TILE_HEIGHT,
                "idx": node.index,
                "hash": node.hash,
            }
            for tenant, epoch, node in completed
        ],
        "heads": [
            {
                "tenant": tenant,
                "epoch": head.epoch,
                "size": head.frontier.size,
                "frontier": bytes(head.frontier),
                "note": note,
                "signed_ms": signed_ms,
            }
            for tenant, head, note in moved
        ],
    }
    private = [(leaf, leaf.private) for *_, leaf in added if leaf.private and leaf.job]
    with pipelined(db) as wire:
        # msgspec writes bytes as base64.
        wire.execute(_GROW, [msgspec.json.encode(grown).decode()])
        if private:
            wire.execute(_HIDE, _hidden(private))


def row_of(epoch: int, index: int, leaf: Leaf) -> dict[str, Any]:
    """Return a leaf as the columns of an entry."""
    return {
        "tenant": leaf.tenant,
        "epoch": epoch,
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


def _hidden(private: Sequence[tuple[Leaf, Private]]) -> list[list[Any]]:
    jobs = [(leaf.tenant, leaf.job) for leaf, _ in private]
    keys = [(leaf.tenant, leaf.job, part.record_key) for leaf, part in private]
    sidecars = [
        (leaf.tenant, leaf.job, each.kind, each.data)
        for leaf, part in private
        for each in part.sidecars
    ]
    images = [
        (leaf.tenant, leaf.job, mac, role)
        for leaf, part in private
        for mac, role in part.images
    ]
    return [
        *_columns(jobs, 2),
        *_columns(keys, 3),
        *_columns(sidecars, 4),
        *_columns(images, 4),
    ]


def _columns(rows: Sequence[tuple[Any, ...]], number: int) -> list[list[Any]]:
    """Return the columns of rows, as many as there are even without a row."""
    if not rows:
        return [[] for _ in range(number)]
    return [list(column) for column in zip(*rows, strict=True)]
