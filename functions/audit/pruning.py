"""Retention: how long a tenant's entries are kept, and dropping what is older.

What goes are leaves: whole bundles of 256 from the front, so that there is one
minimum index, as c2sp.org/tlog-tiles ("Pruning") has it.  Hashes stay for ever, so
every tile, proof, checkpoint and receipt still verifies; and so does the digest of
source and id, so that an event from before is still known and gets its receipt.
With the last entry of a job goes what was private of it.

An entry is as old as the first checkpoint that covers it: what time its event states
is the tenant's word.  Without a retention nothing is ever dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from functions.audit.store import minimum_of
from functions.audit.tables import (
    DAYS_MIN,
    checkpoints,
    entries,
    horizons,
    images,
    record_keys,
    retentions,
    sidecars,
)
from functions.audit.tiles import TILE_WIDTH
from functions.problems import InvalidRequest
from functions.settings import DAYS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from functions.audit.store import Store

DAY_MS: Final = 24 * 3_600_000
STEP: Final = 16 * TILE_WIDTH
"""How many entries are dropped in one transaction: appends go on in between."""
_JOBS: Final = 500


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was dropped of one log: `entries` leaves, all before `minimum`."""

    epoch: int
    entries: int
    jobs: int
    minimum: int


def retention_of(store: Store, tenant: str) -> int | None:
    """Return for how many days a tenant's entries are kept; None is for ever."""
    query = sa.select(retentions.c.days).where(retentions.c.tenant == tenant)
    with store.reading(tenant) as db:
        return db.execute(query).scalar_one_or_none()


def set_retention(store: Store, tenant: str, days: int) -> None:
    """Keep a tenant's entries for so many days, or raise `InvalidRequest`."""
    if not DAYS_MIN <= days <= DAYS_MAX:
        raise InvalidRequest(f"entries are kept for {DAYS_MIN} to {DAYS_MAX} days")
    with store.pruning(tenant) as db:
        _set(db, retentions, {"tenant": tenant}, {"days": days})


def prune(store: Store, tenant: str, now_ms: int, *, step: int = STEP) -> list[Pruned]:
    """Drop what is older than the tenant's retention; return what of each epoch.

    Raises `InvalidRequest` where there is no retention.  No transaction drops more
    than `step` entries, whole bundles.  It may be stopped at any moment, and goes on
    where it was.
    """
    days = retention_of(store, tenant)
    if days is None:
        raise InvalidRequest(f"{tenant} has no retention: everything is kept")
    of = checkpoints.c.tenant == tenant
    query = sa.select(checkpoints.c.epoch).where(of).distinct()
    with store.reading(tenant) as db:
        epochs = sorted(db.execute(query).scalars())
    before_ms = now_ms - days * DAY_MS
    return [_prune(store, tenant, epoch, before_ms, step) for epoch in epochs]


def _prune(store: Store, tenant: str, epoch: int, before_ms: int, step: int) -> Pruned:
    with store.reading(tenant) as db:
        start = minimum_of(db, tenant, epoch)
        stop = _first_kept(db, tenant, epoch, start, before_ms)
    jobs = 0
    for here in range(start, stop, step):
        jobs += _drop(store, tenant, epoch, here, min(here + step, stop))
    return Pruned(epoch, stop - start, jobs, stop)


def _first_kept(
    db: Connection, tenant: str, epoch: int, start: int, before_ms: int
) -> int:
    """Return the first index of the first bundle with an entry that is not too old.

    What a checkpoint covers had come when it was signed.  Nothing behind a young one
    goes, even where a clock was set back since.
    """
    of_log = (checkpoints.c.tenant == tenant, checkpoints.c.epoch == epoch)
    signed = checkpoints.c.signed_ms
    young = sa.select(sa.func.min(checkpoints.c.size)).where(
        *of_log, signed >= before_ms
    )
    last = db.execute(young).scalar_one_or_none()
    old = sa.select(sa.func.max(checkpoints.c.size)).where(*of_log)
    if last is not None:
        old = old.where(checkpoints.c.size < last)
    first = db.execute(old).scalar_one_or_none() or 0
    return max(start, first - first % TILE_WIDTH)


def _drop(store: Store, tenant: str, epoch: int, start: int, stop: int) -> int:
    """Drop the leaves `start` to before `stop`, and what is private of their jobs.

    The private part first: which jobs it was stands in what is dropped after it.
    """
    here = _range(entries, tenant, epoch, start, stop)
    other = entries.alias()
    elsewhere = sa.exists().where(
        other.c.tenant == tenant,
        other.c.job == entries.c.job,
        ~_range(other, tenant, epoch, start, stop),
    )
    ended = sa.select(entries.c.job).where(here, entries.c.job != "", ~elsewhere)
    with store.reading(tenant) as db:
        jobs = sorted(set(db.execute(ended).scalars()))
    for first in range(0, len(jobs), _JOBS):
        with store.erasing(tenant) as db:
            _forget(db, tenant, jobs[first : first + _JOBS])
    nothing = {"leaf": None, "source": "", "id": "", "type": "", "job": ""}
    with store.pruning(tenant) as db:
        db.execute(sa.update(entries).where(here).values(nothing))
        log = {"tenant": tenant, "epoch": epoch}
        _set(db, horizons, log, {"minimum": stop})
    return len(jobs)


def _range(
    table: sa.FromClause, tenant: str, epoch: int, start: int, stop: int
) -> sa.ColumnElement[bool]:
    return sa.and_(
        table.c.tenant == tenant,
        table.c.epoch == epoch,
        table.c.idx >= start,
        table.c.idx < stop,
    )


def _forget(db: Connection, tenant: str, jobs: Sequence[str]) -> None:
    for table in (images, sidecars, record_keys):
        of_jobs = sa.and_(table.c.tenant == tenant, table.c.job.in_(jobs))
        db.execute(sa.delete(table).where(of_jobs))


def _set(
    db: Connection,
    table: sa.Table,
    of: dict[str, object],
    values: dict[str, object],
) -> None:
    """Write `values` into the row named by `of`, which may have to be made."""
    there = sa.and_(*(table.c[name] == value for name, value in of.items()))
    done = db.execute(sa.update(table).where(there).values(values))
    if not done.rowcount:
        db.execute(sa.insert(table), of | values)
