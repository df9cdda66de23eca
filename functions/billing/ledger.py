"""Usage, counted once per (tenant, source, id) for ever, and its sums.

This module reads, `counting` writes; what SQL they, `closing` and `order` know runs on
SQLite and PostgreSQL alike.  Every quantity is a whole number (milliseconds, bytes,
pieces): neither database sums a fraction, and neither can lose one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from functions.billing.counting import Counting
from functions.billing.evidence import root_of
from functions.billing.invoice import Period
from functions.billing.tables import usages
from functions.commits import GroupCommit
from functions.database import Schema, open_schema, transaction
from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import ColumnElement, Connection, Engine, Select

    from functions.billing.counting import Posted
    from functions.billing.evidence import Root
    from functions.billing.usage import Usage

SCHEMA: Final = Schema(
    scripts="functions.billing:migrations",
    newest="0002",
    table="billing_version",
    old="usage",
    command="`guise bill migrate`",
)
GROUPS_MAX: Final = 1_000
_DAY_MS: Final = 86_400_000
_ROWS_READ: Final = 10_000
_LATE: Final = -1
"""The span of what is of no span of the period's: it came late."""
_HELD_MAX: Final = 100_000
"""Events that are read and sorted here; the database sorts more than those."""

_GROUPS: Final[dict[str, ColumnElement[Any]]] = {
    "": sa.literal(""),
    "day": usages.c.at_ms // _DAY_MS,
    "operation": usages.c.operation,
    "device": usages.c.device_name,
    "job": usages.c.job,
}
GROUPINGS: Final = frozenset(_GROUPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Whole numbers summed over some usage.

    Those that begin with `billed_` leave out what is not billable.
    """

    events: int = 0
    billed_events: int = 0
    lease_ms: int = 0
    gpu_ms: int = 0
    cpu_ms: int = 0
    load_ms: int = 0
    requests: int = 0
    faces: int = 0
    frames: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    byte_hours: int = 0
    billed_gpu_ms: int = 0
    billed_cpu_ms: int = 0
    billed_load_ms: int = 0
    billed_requests: int = 0
    billed_byte_hours: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """The sums of one group on one GPU model; "" where it ran on none."""

    group: str
    model: str
    sum: Sum


@dataclass(frozen=True, slots=True)
class Taken:
    """What an invoice takes up: for each of some spans its parts, and two roots.

    A part has the sums of what is billed, and no others.
    """

    spans: tuple[list[Part], ...]
    events: Root
    jobs: Root


@dataclass(frozen=True, slots=True)
class Selection:
    """Which usage: by its time, `stop_ms` not in, and by the invoices that have it.

    `upto` is the last period whose invoice may have it, `of` the only one.
    """

    tenant: str
    start_ms: int
    stop_ms: int
    upto: str = ""
    of: str = ""

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """Return the query over this usage alone."""
        query = query.where(
            usages.c.tenant == self.tenant,
            usages.c.at_ms >= self.start_ms,
            usages.c.at_ms < self.stop_ms,
        )
        if self.upto:
            query = query.where(usages.c.period <= self.upto)
        return query.where(usages.c.period == self.of) if self.of else query


class Ledger:
    """The tables behind an engine, and the one thread that counts."""

    def __init__(self, engine: Engine, *, held_max: int = _HELD_MAX) -> None:
        self.engine = engine
        self._held_max = held_max
        # Both databases have ON CONFLICT, each in a module of its own.
        dialect = import_module(f"sqlalchemy.dialects.{engine.dialect.name}")
        self.insert = dialect.insert
        self._counting = Counting(engine)
        self._commit = GroupCommit(self._counting)

    @classmethod
    def open(cls, url: str, *, held_max: int = _HELD_MAX) -> Ledger:
        """Return the ledger at `url`; see `database.open_schema`."""
        return cls(open_schema(url, SCHEMA), held_max=held_max)

    def close(self) -> None:
        """Count what waits, take no more, and close every connection."""
        self._commit.close()
        self._counting.close()
        self.engine.dispose()

    def reading(self, tenant: str) -> AbstractContextManager[Connection]:
        """Return a transaction that reads what one tenant used and was billed."""
        return transaction(self.engine, role="guise_billing_reader", tenant=tenant)

    def closing(self) -> AbstractContextManager[Connection]:
        """Return a transaction that closes periods and issues documents."""
        return transaction(self.engine, role="guise_billing_closer")

    def post(self, usage: Usage) -> Posted:
        """Count `usage` unless it is counted; durable when this returns."""
        return self.post_all([usage])[0]

    def post_all(self, batch: Sequence[Usage]) -> list[Posted]:
        """Count each of a batch unless it is counted: all of them, or none.

        Raises `Unavailable`.
        """
        return self._commit(batch)

    def has(self, tenant: str, source: str, name: str) -> bool:
        """Return whether the event of that source and id is counted."""
        key = usages.c.source == source, usages.c.id == name
        return self._any(tenant, *key)

    def has_before(self, tenant: str, stop_ms: int) -> bool:
        """Return whether anything was used before a moment, since the epoch."""
        return self._any(tenant, usages.c.at_ms < stop_ms)

    def _any(self, tenant: str, *which: ColumnElement[bool]) -> bool:
        query = sa.select(usages.c.id).where(usages.c.tenant == tenant, *which)
        with self.reading(tenant) as db:
            return db.execute(query.limit(1)).first() is not None

    def sums(self, wanted: Selection, by: str = "") -> list[Part]:
        """Return the sums of each group of `by` and each GPU model, in their order.

        Raises `InvalidRequest` where there are more than 1,000 of them.
        """
        group = _GROUPS[by].label("grouped")
        model = _model(usages).label("model")
        query = wanted.narrow(sa.select(group, model, *_SUMS))
        query = query.group_by(group, model).order_by(group, model)
        with self.reading(wanted.tenant) as db:
            rows = db.execute(query.limit(GROUPS_MAX + 1)).mappings().all()
        if len(rows) > GROUPS_MAX:
            raise InvalidRequest(f"over {GROUPS_MAX} groups: ask for a shorter time")
        return [Part(str(row["grouped"]), row["model"], _sum(row)) for row in rows]

    def late_months(self, tenant: str, period: Period) -> list[Period]:
        """Return the months whose late usage a period's invoice takes up, in order."""
        day = (usages.c.at_ms // _DAY_MS).label("day")
        query = sa.select(day).distinct().where(*_taken_up(tenant, period))
        with self.reading(tenant) as db:
            days = db.execute(query.where(usages.c.late)).scalars().all()
        return sorted({Period.at(day * _DAY_MS) for day in days})

    def taken_up(
        self,
        tenant: str,
        period: Period,
        stops: Sequence[int],
    ) -> Taken | None:
        """Return all that an invoice needs of its period's usage; `None` if too much.

        `stops` are the ends of the spans that the period falls into, in milliseconds
        since the epoch.  A tenant's rows lie all over the table, and to fetch them is
        what takes time: they are read once, and sorted here.
        """
        which = _taken_up(tenant, period)
        rows = (
            sa.select(usages).where(*which).limit(self._held_max + 1).subquery("taken")
        )
        ends = [(rows.c.at_ms < stop, index) for index, stop in enumerate(stops)]
        span = sa.case((rows.c.late, _LATE), *ends).label("span")
        model = _model(rows).label("model")
        query = sa.select(span, model, *_billed(rows), *self._members(rows))
        query = query.group_by(span, model).order_by(span, model)
        with self.reading(tenant) as db:
            found = db.execute(query.limit(GROUPS_MAX + 1)).mappings().all()
        events = sum(row["events"] for row in found)
        if len(found) > GROUPS_MAX or events > self._held_max:
            return None
        spans: tuple[list[Part], ...] = tuple([] for _ in stops)
        for row in found:
            if row["span"] != _LATE:
                spans[row["span"]].append(Part("", row["model"], _sum(row)))
        digests = bytes.fromhex("".join(row["digests"] for row in found))
        jobs = {each for row in found for each in row["jobs"].encode().split()}
        return Taken(spans, root_of(sorted(_cut(digests))), root_of(sorted(jobs)))

    def _members(self, rows: sa.Subquery) -> list[ColumnElement[str]]:
        """Return all digests in one text, in hex, and all jobs, one a line."""
        on_server = self.engine.dialect.name == "postgresql"
        digest = rows.c.digest
        hexed = sa.func.encode(digest, "hex") if on_server else sa.func.hex(digest)
        return [
            sa.func.aggregate_strings(hexed, "").label("digests"),
            sa.func.aggregate_strings(rows.c.job, "\n").label("jobs"),
        ]

    def evidence(self, tenant: str, period: Period) -> tuple[Root, Root]:
        """Return the roots of the events that a period's invoice takes up, and of jobs.

        The members of an event set are the events' digests, those of a job set the ids
        of the jobs.  However many there are, nobody holds them all.
        """
        events, jobs = self.digests(tenant, period), self.jobs(tenant, period)
        return root_of(events), root_of(jobs)

    def digests(self, tenant: str, period: Period) -> Iterator[bytes]:
        """Yield the digest of each event that a period's invoice takes up, in order."""
        column = usages.c.digest
        query = sa.select(column).where(*_taken_up(tenant, period)).order_by(column)
        for digest in self._stream(tenant, query):
            yield bytes(digest)

    def jobs(self, tenant: str, period: Period) -> Iterator[bytes]:
        """Yield the id of each job that a period's invoice takes up, once, in order."""
        # A job's id is ASCII; "C" is the order of its bytes.
        plain = self.engine.dialect.name == "sqlite"
        column = usages.c.job if plain else sa.collate(usages.c.job, "C")
        query = sa.select(column).distinct().where(*_taken_up(tenant, period))
        for job in self._stream(
            tenant, query.where(usages.c.job != "").order_by(column)
        ):
            yield job.encode()

    def _stream(self, tenant: str, query: Select[Any]) -> Iterator[Any]:
        with self.reading(tenant) as db:
            found = db.execution_options(stream_results=True).execute(query)
            yield from found.yield_per(_ROWS_READ).scalars()


def _taken_up(tenant: str, period: Period) -> tuple[ColumnElement[bool], ...]:
    """Return what holds of the usage that a period's invoice takes up.

    Either it is of the period, or it came late; each has an index.
    """
    own = sa.and_(usages.c.at_ms >= period.start_ms, usages.c.at_ms < period.stop_ms)
    return (
        usages.c.tenant == tenant,
        usages.c.period == str(period),
        sa.or_(own, usages.c.late),
    )


def _model(of: sa.FromClause) -> ColumnElement[str]:
    """Return the GPU model of a row; "" where it ran on none."""
    nowhere = (of.c.device_kind == "cpu", sa.literal(""))
    return sa.case(nowhere, else_=of.c.device_name)


def _sums(of: sa.FromClause, names: Iterable[str]) -> list[ColumnElement[Any]]:
    """Return columns of a `Sum`, in SQL."""
    columns: list[ColumnElement[Any]] = []
    for name in names:
        counted: ColumnElement[Any] = of.c.get(
            name.removeprefix("billed_"), sa.literal(1)
        )
        if name.startswith("billed_"):
            counted = sa.case((of.c.billable, counted), else_=0)
        columns.append(sa.func.sum(counted).label(name))
    return columns


_NAMES: Final = [each.name for each in fields(Sum)]
_SUMS: Final = _sums(usages, _NAMES)


def _billed(rows: sa.Subquery) -> list[ColumnElement[Any]]:
    """Return how many rows there are, and the sums of what is billed of them."""
    billed = [name for name in _NAMES if name.startswith("billed_")]
    return _sums(rows, ["events", *billed])


def _sum(row: Mapping[Any, Any]) -> Sum:
    # PostgreSQL sums BIGINT to NUMERIC, which comes as a Decimal.
    return Sum(**{name: int(row[name]) for name in _NAMES if name in row})


def _cut(digests: bytes) -> Iterable[bytes]:
    """Return the SHA-256 digests in a text of them."""
    size = hashlib.sha256().digest_size
    return (digests[at : at + size] for at in range(0, len(digests), size))
