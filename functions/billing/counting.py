"""Counting a batch: each use once for ever, and late where its month is closed.

On SQLite through SQLAlchemy, a statement a step.  Over a network it is the number of
answers waited for that counts, and in a crowd of threads each costs a turn of the
interpreter besides: PostgreSQL gets a batch in one statement, on a connection that is
kept in the committer's role, and the statement is the transaction.  What lateness is
stands here twice, once as SQL: the tests hold one against the other.
"""

from __future__ import annotations

import enum
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import sqlalchemy as sa

from functions.billing.invoice import Period
from functions.billing.tables import accounts, usages
from functions.database import transaction
from functions.problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg
    from sqlalchemy import Connection, Engine

    from functions.billing.usage import Usage

_ROLE: Final = "guise_billing_committer"
_ROWS_MAX: Final = 1_000
"""Rows that one statement inserts."""
_TYPES: Final = {"TEXT": "text", "BIGINT": "bigint", "BOOLEAN": "boolean"}
_AS_IT_IS: Final = {
    "period": """CASE WHEN new.period <= held.closed
            THEN to_char(to_date(held.closed, 'YYYY-MM') + interval '1 month',
                'YYYY-MM')
            ELSE new.period END""",
    "late": "new.period <= held.closed",
}
"""The columns that an account decides: the month that takes the usage up."""
_OPEN: Final = """
INSERT INTO account (tenant) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING
"""
_FIND: Final = """
SELECT tenant, source, id, digest FROM usage
WHERE (tenant, source, id) IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))
"""


def _count_statement() -> str:
    """Return PostgreSQL's statement that counts what is in one JSON array.

    Accounts are held until the commit, in one order; so are rows inserted, so that no
    two writers wait for one another's.
    """
    names, values, types = [], [], []
    for column in usages.columns:
        name, kind = column.name, _TYPES.get(str(column.type))
        plain = f"new.{name}" if kind else f"decode(new.{name}, 'base64')"
        names.append(name)
        values.append(_AS_IT_IS.get(name, plain))
        types.append(f"{name} {kind or 'text'}")
    return f"""
        WITH held AS MATERIALIZED (
            SELECT tenant, closed FROM account WHERE tenant = ANY(%s::text[])
            ORDER BY tenant FOR SHARE
        )
        INSERT INTO usage ({", ".join(names)})
        SELECT {", ".join(values)}
        FROM ROWS FROM (json_to_recordset(%s::json) AS ({", ".join(types)}))
            WITH ORDINALITY AS new JOIN held USING (tenant)
        ORDER BY new.ordinality
        ON CONFLICT DO NOTHING RETURNING tenant, source, id
    """  # noqa: S608  # names of ours


_COUNT: Final = _count_statement()
_Key = tuple[str, str, str]


class Posted(enum.Enum):
    """What became of an event."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"  # the id is taken by other content, which stands


class Counting:
    """Counts what many brought at once, in one transaction; for one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at_once = engine.dialect.name == "postgresql"
        # Both databases have ON CONFLICT, each in a module of its own.
        dialect = import_module(f"sqlalchemy.dialects.{engine.dialect.name}")
        key = usages.c.tenant, usages.c.source, usages.c.id
        self._new_account = dialect.insert(accounts).on_conflict_do_nothing()
        self._new_usage = (
            dialect.insert(usages).on_conflict_do_nothing().returning(*key)
        )
        self._line: psycopg.Connection[Any] | None = None
        self._opened: set[str] = set()

    def __call__(self, batches: Iterable[Sequence[Usage]]) -> list[list[Posted]]:
        """Return what became of each use; all that is new is durable then.

        Raises `Unavailable`; nothing of any batch is counted then, or all is.
        """
        batches = list(batches)
        first: dict[_Key, Usage] = {}
        for each in (usage for batch in batches for usage in batch):
            first.setdefault(_key(each), each)
        if not first:
            return [[] for _ in batches]
        found = [first[key] for key in sorted(first)]
        new, known = self._on_line(found) if self._at_once else self._stepwise(found)
        stands = known | {key: first[key].digest for key in new}
        return [[_posted(each, stands, new) for each in batch] for batch in batches]

    def close(self) -> None:
        """Close the connection that is kept, if there is one."""
        self._opened.clear()
        if self._line is not None:
            self._line.close()
            self._line = None

    def _on_line(self, found: list[Usage]) -> tuple[set[_Key], dict[_Key, bytes]]:
        """Return the keys that are new, and the digests of those that were there.

        A kept connection that has broken, as when the server was started anew, is
        noticed only now: then all is asked once more on another.  What was counted
        and not answered is a duplicate then.
        """
        import psycopg

        kept = self._line
        try:
            return self._counted(kept or self._connected(), found)
        except psycopg.Error as error:
            self.close()
            if kept is not None and kept.broken:
                return self._on_line(found)
            raise Unavailable(internal=repr(error)) from error

    def _connected(self) -> psycopg.Connection[Any]:
        """Return a new connection, each of whose statements is a transaction."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            pooled = self._engine.raw_connection()
        except SQLAlchemyError as error:
            raise Unavailable(internal=repr(error)) from error
        self._line = cast("psycopg.Connection[Any]", pooled.driver_connection)
        pooled.detach()  # nobody else may get it in this role
        self._line.autocommit = True
        self._line.execute("SELECT set_config('role', %s, false)", [_ROLE])
        return self._line

    def _counted(
        self, wire: psycopg.Connection[Any], found: list[Usage]
    ) -> tuple[set[_Key], dict[_Key, bytes]]:
        """Insert; look up after the commit what was there, for it never changes."""
        tenants = sorted({each.tenant for each in found})
        opening = [tenant for tenant in tenants if tenant not in self._opened]
        if opening:
            wire.execute(_OPEN, [opening])
            self._opened.update(opening)
        parts = list(_parts([_row(each) for each in found]))
        new: set[_Key] = set()
        with nullcontext() if len(parts) == 1 else wire.transaction():
            for part in parts:
                # msgspec writes bytes as base64.
                text = msgspec.json.encode(part).decode()
                new.update(wire.execute(_COUNT, [tenants, text]).fetchall())
        missing = [key for each in found if (key := _key(each)) not in new]
        return new, self._found(wire, missing)

    def _found(
        self, wire: psycopg.Connection[Any], keys: list[_Key]
    ) -> dict[_Key, bytes]:
        """Return the digests of usage that is there."""
        if not keys:
            return {}
        columns = [list(column) for column in zip(*keys, strict=True)]
        rows = wire.execute(_FIND, columns).fetchall()
        if len(rows) < len(keys):
            self._opened.clear()
            raise Unavailable(internal="an account that was there is gone")
        return {(tenant, source, id_): digest for tenant, source, id_, digest in rows}

    def _stepwise(self, found: list[Usage]) -> tuple[set[_Key], dict[_Key, bytes]]:
        """Return what `_on_line` does; only the file's one writer is ever here."""
        with transaction(self._engine) as db:
            closed = self._closed(db, {each.tenant for each in found})
            rows = [_taken_up(_row(each), closed[each.tenant]) for each in found]
            new: set[_Key] = set()
            for part in _parts(rows):
                new.update(map(tuple, db.execute(self._new_usage, part)))
            keys = [_key(each) for each in found]
            known = {key: _digest(db, key) for key in keys if key not in new}
        return new, known

    def _closed(self, db: Connection, tenants: set[str]) -> dict[str, str]:
        """Return how far each account is closed, opened if it was not there."""
        query = sa.select(accounts.c.tenant, accounts.c.closed)
        query = query.where(accounts.c.tenant.in_(tenants))
        db.execute(self._new_account, [{"tenant": tenant} for tenant in tenants])
        return {row.tenant: row.closed for row in db.execute(query)}


def _key(usage: Usage) -> _Key:
    return usage.tenant, usage.source, usage.id


def _posted(usage: Usage, stands: dict[_Key, bytes], new: set[_Key]) -> Posted:
    """Return what became of one use; whoever asks first about a `new` key was it."""
    key = _key(usage)
    if key in new:
        new.remove(key)
        return Posted.NEW
    return Posted.DUPLICATE if usage.digest == stands[key] else Posted.CONFLICT


def _parts(rows: list[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
    starts = range(0, len(rows), _ROWS_MAX)
    return (rows[start : start + _ROWS_MAX] for start in starts)


def _digest(db: Connection, key: _Key) -> bytes:
    """Return the digest of usage that is there."""
    names = usages.c.tenant, usages.c.source, usages.c.id
    query = sa.select(usages.c.digest).where(
        *(column == each for column, each in zip(names, key, strict=True))
    )
    return bytes(db.execute(query).scalar_one())


def _taken_up(row: dict[str, Any], closed: str) -> dict[str, Any]:
    """Return a row whose usage is late if its month is closed; see `_AS_IT_IS`."""
    if row["period"] > closed:
        return row
    return row | {"period": str(Period.parse(closed).following), "late": True}


def _row(usage: Usage) -> dict[str, Any]:
    """Return the columns of a use in its own month."""
    data, device = usage.data, usage.data.device
    return {
        "tenant": usage.tenant,
        "source": usage.source,
        "id": usage.id,
        "digest": usage.digest,
        "at_ms": usage.at_ms,
        "period": str(Period.at(usage.at_ms)),
        "late": False,
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
        "byte_hours": usage.byte_hours,
        "leased_ms": usage.leased_ms,
    }
