"""Which part of a tenant's logs goes into a bundle: a period, or one job.

This is the part of an export that needs our database; writing the bundle needs
only what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from functions.audit import store as sql
from functions.audit.manifest import Range
from functions.audit.source import KeptLog
from functions.audit.tables import checkpoints, entries
from functions.audit.tiles import TILE_WIDTH, Checkpoint
from functions.problems import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from functions.audit.source import LogSource
    from functions.audit.store import Store

CHECKPOINTS_MAX: Final = 512
"""How many earlier checkpoints a bundle holds of one log."""
JOB_ENTRIES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tenant's whole log, or a period of it, or a job.

    Milliseconds since the epoch; `to_ms` itself is not in.
    """

    tenant: str
    from_ms: int | None = None
    to_ms: int | None = None
    job: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """One log as it goes into a bundle, at the size that `note` signs.

    `wanted` is a range of entries, `single` are others that go in with a proof each;
    entries below `minimum` are pruned.  `notes` are earlier checkpoints by size.
    """

    source: LogSource
    epoch: int
    note: str
    wanted: Range
    single: tuple[int, ...] = ()
    minimum: int = 0
    notes: Mapping[int, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many entries the log has."""
        return Checkpoint.parse(self.note.rpartition("\n\n")[0] + "\n").size


def plan(
    store: Store, wanted: Wanted, *, checkpoints_max: int = CHECKPOINTS_MAX
) -> list[Piece]:
    """Return what goes into a bundle, of each epoch that has entries, in order.

    Raises `NotFound` where there is no such log, or no entry of the job.
    """
    tenant = wanted.tenant
    with store.reading(tenant) as db:
        pieces = [
            _piece(db, store, wanted, epoch, checkpoints_max)
            for epoch in range(1, sql.epoch_of(db, tenant) + 1)
            if sql.size_of(db, tenant, epoch)
        ]
    if not pieces:
        raise NotFound(f"{tenant} has no log")
    found = [each for piece in pieces for each in piece.single[piece.epoch > 1 :]]
    if wanted.job and not found:
        raise NotFound(f"the log has no entry of job {wanted.job}, or no more")
    return pieces


def _piece(
    db: Connection, store: Store, wanted: Wanted, epoch: int, checkpoints_max: int
) -> Piece:
    tenant = wanted.tenant
    size = sql.size_of(db, tenant, epoch)
    minimum = sql.minimum_of(db, tenant, epoch)
    # Of a bundle whose first leaf is pruned, all are shown as hashes.
    whole = min(size, -(-minimum // TILE_WIDTH) * TILE_WIDTH)
    span = Range(0, 0) if wanted.job else _span(db, wanted, epoch, size)
    single = set(_of_job(db, wanted, epoch, size)) if wanted.job else set()
    if epoch > 1 and minimum == 0 and not (span and span.start < TILE_WIDTH):
        single.add(0)  # what it goes on from
    return Piece(
        KeptLog(store, tenant, epoch),
        epoch,
        sql.note_of(db, tenant, size, epoch),
        span,
        tuple(sorted(single)),
        whole,
        dict(_notes(db, tenant, epoch, span.rounded(size), checkpoints_max)),
    )


def _span(db: Connection, wanted: Wanted, epoch: int, size: int) -> Range:
    """Return the smallest range that has every entry of the period."""
    if wanted.from_ms is None and wanted.to_ms is None:
        return Range(0, size)
    query = sa.select(sa.func.min(entries.c.idx), sa.func.max(entries.c.idx)).where(
        entries.c.tenant == wanted.tenant,
        entries.c.epoch == epoch,
        entries.c.idx < size,
    )
    if wanted.from_ms is not None:
        query = query.where(entries.c.at_ms >= wanted.from_ms)
    if wanted.to_ms is not None:
        query = query.where(entries.c.at_ms < wanted.to_ms)
    first, last = db.execute(query).one()
    return Range(0, 0) if first is None else Range(first, last + 1)


def _of_job(db: Connection, wanted: Wanted, epoch: int, size: int) -> list[int]:
    chosen = sql.Selection(wanted.tenant, stop=size, job=wanted.job, epoch=epoch)
    return [each.index for each in sql.select_entries(db, chosen, JOB_ENTRIES_MAX)]


def _notes(
    db: Connection, tenant: str, epoch: int, covered: Range, most: int
) -> Iterator[tuple[int, str]]:
    """Yield earlier checkpoints of the covered entries, spread evenly, by size."""
    length, before = covered.stop - covered.start, covered.start
    steps = min(length, most)
    of_log = (checkpoints.c.tenant == tenant, checkpoints.c.epoch == epoch)
    for step in range(1, steps + 1):
        size = covered.start + length * step // steps
        query = (
            sa.select(checkpoints.c.size, checkpoints.c.note)
            .where(*of_log, checkpoints.c.size > before, checkpoints.c.size <= size)
            .order_by(checkpoints.c.size.desc())
            .limit(1)
        )
        for row in db.execute(query):
            before = row.size
            yield row.size, row.note
