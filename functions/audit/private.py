"""The tables of what can be erased: the statements of who searches and who erases.

What is written here is written with its entry, by `store.add_private`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sa

from functions.audit.leaf import ERASURES, RECORDED, says_erased
from functions.audit.sidecar import Kept
from functions.audit.tables import (
    entries,
    erasures,
    heads,
    images,
    record_keys,
    sidecars,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

    from functions.commitments import Role

ENTRIES_MAX: Final = 256
"""How many entries of a job are looked at; it has a handful, of 64 KiB at most."""

_ABOUT: Final = RECORDED | ERASURES
_PRIVATE: Final = (images, sidecars, record_keys)


@dataclass(frozen=True, slots=True)
class Line:
    """One entry about a job, of any epoch; `leaf` is empty once it is pruned."""

    job: str
    type: str
    epoch: int
    index: int
    leaf: bytes
    leaf_hash: bytes

    def document(self) -> dict[str, Any]:
        """Return the event in it; nothing once it is pruned."""
        return dict(msgspec.json.decode(self.leaf)) if self.leaf else {}

    def erases(self) -> bool:
        """Return whether it says that the job was erased."""
        return says_erased(self.type, self.document().get("data", {}))


def users(
    db: Connection, tenant: str, mac: bytes, after: str, limit: int
) -> list[tuple[str, Role]]:
    """Return the jobs after `after` that used an image, and as what."""
    jobs = (
        sa.select(images.c.job)
        .where(images.c.tenant == tenant, images.c.mac == mac, images.c.job > after)
        .distinct()
        .order_by(images.c.job)
        .limit(limit)
    )
    query = (
        sa.select(images.c.job, images.c.role)
        .where(images.c.tenant == tenant, images.c.mac == mac)
        .where(images.c.job.in_(jobs))
        .order_by(images.c.job, images.c.role)
    )
    return [(row.job, row.role) for row in db.execute(query)]


def kept(db: Connection, tenant: str, jobs: Collection[str]) -> dict[str, Kept]:
    """Return what is kept of each job of which anything is."""
    query = sa.select(record_keys).where(
        record_keys.c.tenant == tenant, record_keys.c.job.in_(jobs)
    )
    found = {row.job: Kept(row.wrapped, {}) for row in db.execute(query)}
    query = sa.select(sidecars).where(
        sidecars.c.tenant == tenant, sidecars.c.job.in_(found)
    )
    for row in db.execute(query):
        found[row.job].sidecars[row.kind] = row.sealed
    return found


def lines(
    db: Connection, tenant: str, job: str, types: Collection[str] = _ABOUT
) -> list[Line]:
    """Return the first entries about a job, of every epoch, in the order of the log.

    What merely contradicted them is passed over.
    """
    query = (
        sa.select(entries)
        .where(entries.c.tenant == tenant, entries.c.job == job)
        .where(entries.c.type.in_(types))
        .order_by(entries.c.epoch, entries.c.idx)
        .limit(ENTRIES_MAX)
    )
    return [
        Line(row.job, row.type, row.epoch, row.idx, row.leaf or b"", row.leaf_hash)
        for row in db.execute(query)
    ]


def is_known(db: Connection, tenant: str, job: str) -> bool:
    """Return whether any entry is about a job."""
    of_job = (entries.c.tenant == tenant, entries.c.job == job)
    query = sa.select(sa.literal(1)).select_from(entries).where(*of_job).limit(1)
    return db.execute(query).first() is not None


def has_log(db: Connection, tenant: str) -> bool:
    """Return whether anything was ever recorded of a tenant."""
    query = sa.select(heads.c.tenant).where(heads.c.tenant == tenant)
    return db.execute(query).first() is not None


def tenants(db: Connection) -> list[str]:
    """Return every tenant that has a log."""
    return list(
        db.execute(sa.select(heads.c.tenant).order_by(heads.c.tenant)).scalars()
    )


def begun(db: Connection, tenant: str, newest: int) -> list[str]:
    """Return the jobs that are erased, by one of so many `newest` entries, and kept."""
    of_log = (entries.c.tenant == heads.c.tenant, entries.c.epoch == heads.c.epoch)
    of_job = record_keys.c.tenant == entries.c.tenant
    query = (
        sa.select(entries.c.job)
        .join(heads, sa.and_(*of_log))
        .join(record_keys, sa.and_(of_job, record_keys.c.job == entries.c.job))
        .where(entries.c.tenant == tenant, entries.c.type.in_(ERASURES))
        .where(entries.c.idx >= heads.c.size - newest)
        .where(entries.c.leaf.is_not(None))
        .distinct()
    )
    jobs = sorted(db.execute(query).scalars())
    return [
        job
        for job in jobs
        if any(line.erases() for line in lines(db, tenant, job, ERASURES) if line.leaf)
    ]


def statement(db: Connection, tenant: str, job: str) -> str:
    """Return the signed statement of a job's erasure; "" if it is not erased."""
    query = sa.select(erasures.c.statement).where(
        erasures.c.tenant == tenant, erasures.c.job == job
    )
    return db.execute(query).scalar_one_or_none() or ""


def delete(db: Connection, tenant: str, job: str) -> int:
    """Delete everything private of a job; return how many rows that was."""
    return sum(
        db.execute(
            sa.delete(table).where(table.c.tenant == tenant, table.c.job == job)
        ).rowcount
        for table in _PRIVATE
    )


def delete_first(db: Connection, tenant: str, jobs_max: int) -> int:
    """Delete everything private of so many jobs; return of how many it was.

    Who deletes a tenant's by parts keeps no other's receipts waiting.
    """
    query = (
        sa.select(record_keys.c.job)
        .where(record_keys.c.tenant == tenant)
        .order_by(record_keys.c.job)
        .limit(jobs_max)
    )
    jobs = list(db.execute(query).scalars())
    for table in _PRIVATE if jobs else ():
        of_tenant = table.c.tenant == tenant
        db.execute(sa.delete(table).where(of_tenant, table.c.job <= jobs[-1]))
    return len(jobs)


def delete_all(db: Connection, tenant: str) -> int:
    """Delete everything private of a tenant; return how many jobs it was of."""
    jobs = sa.select(sa.func.count()).where(record_keys.c.tenant == tenant)
    found: int = db.execute(jobs).scalar_one()
    for table in _PRIVATE:
        db.execute(sa.delete(table).where(table.c.tenant == tenant))
    return found


def state(db: Connection, tenant: str, job: str, at_ms: int, text: str) -> None:
    """Insert the signed statement of an erasure."""
    row = {"tenant": tenant, "job": job, "at_ms": at_ms, "statement": text}
    db.execute(sa.insert(erasures), [row])
