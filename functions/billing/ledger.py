"""Usage, counted once per (tenant, source, id) for ever, and its sums.

This module reads, `counting` writes; what SQL they, `closing` and `order` know runs on
SQLite and PostgreSQL alike.  Every quantity is a whole number (milliseconds, bytes,
pieces): neither database sums a fraction, and neither can lose one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
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
    from collections.abc import Iterator, Sequence
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
_SORTED_MAX: Final = 100_000

_MODEL: Final[ColumnElement[str]] = sa.case(
    (usages.c.device_kind == "cpu", sa.literal("")),
    else_=usages.c.device_name,
)
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

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # Both databases have ON CONFLICT, each in a module of its own.
        dialect = import_module(f"sqlalchemy.dialects.{engine.dialect.name}")
        self.insert = dialect.insert
        self._commit = GroupCommit(Counting(engine))

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Return the ledger at `url`; see `database.open_schema`."""
        return cls(open_schema(url, SCHEMA))

    def close(self) -> None:
        """Count what waits, take no more, and close every connection."""
        self._commit.close()
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

    def sums(self, wanted: Selection, by: str = "") -> list[Part]:
        """Return the sums of each group of `by` and each GPU model, in their order.

        Raises `InvalidRequest` where there are more than 1,000 of them.
        """
        group = _GROUPS[by].label("grouped")
        model = _MODEL.label("model")
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
        return sorted({_month(day * _DAY_MS) for day in days})

    def evidence(
        self, tenant: str, period: Period, *, sorted_max: int = _SORTED_MAX
    ) -> tuple[Root, Root]:
        """Return the roots of the events that a period's invoice takes up, and of jobs.

        The members of an event set are the events' digests, those of a job set the ids
        of the jobs.  Up to `sorted_max` events are read once and sorted here: a
        tenant's rows lie all over the table, and to fetch them is what takes time.
        The database sorts more than those, without anybody holding them.
        """
        columns = usages.c.digest, usages.c.job
        query = sa.select(*columns).where(*_taken_up(tenant, period))
        with self.reading(tenant) as db:
            rows = db.execute(query.limit(sorted_max + 1)).all()
        if len(rows) > sorted_max:
            return root_of(self.digests(tenant, period)), root_of(
                self.jobs(tenant, period)
            )
        jobs = {row.job.encode() for row in rows if row.job}
        return root_of(sorted(bytes(row.digest) for row in rows)), root_of(sorted(jobs))

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


def _sums() -> list[ColumnElement[Any]]:
    """Return the columns of a `Sum`, in SQL."""
    columns: list[ColumnElement[Any]] = [
        sa.func.count().label("events"),
        sa.func.sum(sa.case((usages.c.billable, 1), else_=0)).label("billed_events"),
    ]
    for each in fields(Sum)[len(columns) :]:
        column = usages.c[each.name.removeprefix("billed_")]
        counted = sa.case((usages.c.billable, column), else_=0)
        chosen = counted if each.name.startswith("billed_") else column
        columns.append(sa.func.sum(chosen).label(each.name))
    return columns


_SUMS: Final = _sums()


def _sum(row: Any) -> Sum:  # noqa: ANN401  # a row of any query
    # PostgreSQL sums BIGINT to NUMERIC, which comes as a Decimal.
    return Sum(**{each.name: int(row[each.name]) for each in fields(Sum)})


def _month(at_ms: int) -> Period:
    return Period.of(datetime.fromtimestamp(at_ms // 1000, UTC))
