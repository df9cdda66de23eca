"""Usage, counted once per (tenant, source, id) for ever, and its sums.

Only this module knows SQL; it runs on SQLite and PostgreSQL alike.  Every
quantity is a whole number (milliseconds, bytes, pieces): neither database sums a
fraction, and neither can lose one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from functions.database import open_database, transaction
from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine

    from functions.billing.usage import Usage

GROUPS_MAX: Final = 1_000
_DAY_MS: Final = 86_400_000

metadata: Final = sa.MetaData()

usages: Final = sa.Table(
    "usage",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("billable", sa.Boolean, nullable=False),
    sa.Column("device_kind", sa.Text, nullable=False),
    sa.Column("device_name", sa.Text, nullable=False),
    sa.Column("device_uuid", sa.Text, nullable=False),
    sa.Column("device_share", sa.Text, nullable=False),
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("lease_ms", sa.BigInteger, nullable=False),
    sa.Column("gpu_ms", sa.BigInteger, nullable=False),
    sa.Column("cpu_ms", sa.BigInteger, nullable=False),
    sa.Column("load_ms", sa.BigInteger, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("faces", sa.BigInteger, nullable=False),
    sa.Column("frames", sa.BigInteger, nullable=False),
    sa.Column("input_bytes", sa.BigInteger, nullable=False),
    sa.Column("output_bytes", sa.BigInteger, nullable=False),
    sa.Index("usage_of_period", "tenant", "at_ms"),
)

_GROUPS: Final[dict[str, ColumnElement[Any]]] = {
    "": sa.literal(""),
    "day": usages.c.at_ms // _DAY_MS,
    "operation": usages.c.operation,
    "device": usages.c.device_name,
    "job": usages.c.job,
}
GROUPINGS: Final = frozenset(_GROUPS)


class Posted(enum.Enum):
    """What became of an event."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"  # the id is taken by other content, which stands


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
    billed_gpu_ms: int = 0
    billed_cpu_ms: int = 0
    billed_load_ms: int = 0
    billed_requests: int = 0


class Ledger:
    """The table behind an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Both databases have ON CONFLICT, each in a module of its own.
        dialect = import_module(f"sqlalchemy.dialects.{engine.dialect.name}")
        insert = dialect.insert(usages).on_conflict_do_nothing()
        self._insert = insert.execution_options(preserve_rowcount=True)

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Return the ledger at `url`, its table made if there is none."""
        engine = open_database(url)
        with transaction(engine) as db:
            if not sa.inspect(db).has_table(usages.name):
                metadata.create_all(db)
        return cls(engine)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def post(self, usage: Usage) -> Posted:
        """Count `usage` unless it is counted; durable when this returns."""
        with transaction(self._engine) as db:
            if db.execute(self._insert, _row(usage)).rowcount == 1:
                return Posted.NEW
            known = _digest_of(db, usage)
        return Posted.DUPLICATE if known == usage.digest else Posted.CONFLICT

    def sums(self, tenant: str, start_ms: int, stop_ms: int, by: str) -> dict[str, Sum]:
        """Return the sums of a span (`stop_ms` not in) for each group of `by`.

        Raises `InvalidRequest` where there are more than 1,000 groups.
        """
        group = _GROUPS[by].label("grouped")
        query = (
            sa.select(group, *_SUMS)
            .where(usages.c.tenant == tenant)
            .where(usages.c.at_ms >= start_ms, usages.c.at_ms < stop_ms)
            .group_by(group)
            .order_by(group)
            .limit(GROUPS_MAX + 1)
        )
        with transaction(self._engine) as db:
            rows = db.execute(query).mappings().all()
        if len(rows) > GROUPS_MAX:
            raise InvalidRequest(f"over {GROUPS_MAX} groups: ask for a shorter time")
        return {str(row["grouped"]): _sum(row) for row in rows}


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


def _digest_of(db: Connection, usage: Usage) -> bytes:
    query = sa.select(usages.c.digest).where(
        usages.c.tenant == usage.tenant,
        usages.c.source == usage.source,
        usages.c.id == usage.id,
    )
    return bytes(db.execute(query).scalar_one())


def _row(usage: Usage) -> dict[str, Any]:
    data, device = usage.data, usage.data.device
    return {
        "tenant": usage.tenant,
        "source": usage.source,
        "id": usage.id,
        "digest": usage.digest,
        "at_ms": usage.at_ms,
        "job": data.job,
        "operation": data.operation,
        "outcome": data.outcome,
        "billable": data.billable,
        "device_kind": device.kind,
        "device_name": device.name,
        "device_uuid": device.uuid,
        "device_share": device.share,
        "model_digest": data.model_digest,
        "lease_ms": data.lease_ms,
        "gpu_ms": usage.gpu_ms,
        "cpu_ms": usage.cpu_ms,
        "load_ms": data.load_ms,
        "requests": data.requests,
        "faces": data.faces,
        "frames": data.frames,
        "input_bytes": data.input_bytes,
        "output_bytes": data.output_bytes,
    }
