"""Epochs, what can be erased, how long leaves are kept; roles on PostgreSQL."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from alembic import op

from functions.database import Grant, harden

revision = "0002"
down_revision = "0001"

READER = "guise_audit_reader"
SEARCHER = "guise_audit_searcher"
COMMITTER = "guise_audit_committer"
ERASER = "guise_audit_eraser"
PRUNER = "guise_audit_pruner"
KEEPER = "guise_audit_keeper"
LOG = ("head", "entry", "node", "checkpoint")
PRIVATE = ("record_key", "sidecar", "image")
TABLES = (*LOG, *PRIVATE, "erasure", "retention", "horizon")


def upgrade() -> None:
    """Add the epoch to what there is, and the tables that are new."""
    if op.get_bind().dialect.name == "sqlite":
        _add_epochs_to_sqlite()
    else:
        _add_epochs()
    op.create_index("entry_of_job", "entry", ["tenant", "job", "epoch", "idx"])
    _make_tables()
    if op.get_bind().dialect.name == "postgresql":
        harden(op.get_bind(), "guise_audit_tenant", TABLES, _grants())


def _add_epochs() -> None:
    op.add_column("head", _epoch())
    for table, rest in (
        ("entry", ["idx"]),
        ("node", ["level", "idx"]),
        ("checkpoint", ["size"]),
    ):
        op.add_column(table, _epoch())
        op.drop_constraint(f"{table}_pkey", table)
        op.create_primary_key(f"{table}_pkey", table, ["tenant", "epoch", *rest])
    signed = sa.Column("signed_ms", sa.BigInteger, server_default=str(_now_ms()))
    op.add_column("checkpoint", signed)
    op.alter_column("checkpoint", "signed_ms", nullable=False, server_default=None)
    op.alter_column("entry", "leaf", nullable=True)
    op.drop_index("entry_of_job", "entry")


def _add_epochs_to_sqlite() -> None:
    """Make each table anew: SQLite cannot change a primary key."""
    op.add_column("head", _epoch())
    op.drop_index("entry_of_job", "entry")
    _copy(
        "entry",
        _epoch(primary_key=True),
        sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("leaf", sa.LargeBinary),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    )
    _copy(
        "node",
        _epoch(primary_key=True),
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    _copy(
        "checkpoint",
        _epoch(primary_key=True),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("signed_ms", sa.BigInteger, nullable=False),
    )


def _now_ms() -> int:
    """Return the time: what there is counts as signed today, and is kept longer."""
    return time.time_ns() // 1_000_000


def _copy(table: str, *columns: sa.Column[Any]) -> None:
    tenant = sa.Column("tenant", sa.Text, primary_key=True)
    op.create_table(f"new_{table}", tenant, *columns)
    names = ["tenant", *(c.name for c in columns if c.name != "epoch")]
    values = [str(_now_ms()) if name == "signed_ms" else name for name in names]
    op.execute(
        f"INSERT INTO new_{table} ({', '.join(names)})"  # noqa: S608  # names of ours
        f" SELECT {', '.join(values)} FROM {table}"
    )
    op.drop_table(table)
    op.rename_table(f"new_{table}", table)


def _epoch(*, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(
        "epoch",
        sa.SmallInteger,
        primary_key=primary_key,
        autoincrement=False,
        nullable=False,
        server_default="1",
    )


def _make_tables() -> None:
    op.create_table(
        "record_key",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "sidecar",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "image",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("mac", sa.LargeBinary, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, primary_key=True),
    )
    op.create_index("image_of_job", "image", ["tenant", "job"])
    op.create_table(
        "erasure",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("statement", sa.Text, nullable=False),
    )
    op.create_table(
        "retention",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("days", sa.Integer, nullable=False),
        sa.CheckConstraint("days >= 180", name="retention_is_long_enough"),
    )
    op.create_table(
        "horizon",
        sa.Column("tenant", sa.Text, primary_key=True),
        _epoch(primary_key=True),
        sa.Column("minimum", sa.BigInteger, nullable=False),
    )


def _grants() -> list[Grant]:
    return [
        # The log grows, for every tenant in one transaction; nothing else happens.
        *(Grant(COMMITTER, "INSERT", t, bound=False) for t in (*LOG, *PRIVATE)),
        *(
            Grant(COMMITTER, "SELECT", t, bound=False)
            for t in ("head", "entry", "checkpoint")
        ),
        Grant(COMMITTER, "UPDATE", "head", bound=False),
        Grant(COMMITTER, "SELECT", "erasure", "tenant, job", bound=False),
        *(
            Grant(READER, "SELECT", t)
            for t in (*LOG, "erasure", "retention", "horizon")
        ),
        *(Grant(SEARCHER, "SELECT", t) for t in (*PRIVATE, "entry", "head", "horizon")),
        *(Grant(ERASER, c, t) for t in PRIVATE for c in ("SELECT", "DELETE")),
        *(Grant(ERASER, c, "erasure") for c in ("SELECT", "INSERT")),
        # To lock the head against a committer takes a right to update it; there is
        # no row that it may become.
        Grant(ERASER, "SELECT", "head"),
        Grant(ERASER, "UPDATE", "head", "tenant", into="false"),
        *(Grant(PRUNER, "SELECT", t) for t in (*LOG, "retention", "horizon")),
        Grant(PRUNER, "UPDATE", "entry", "leaf, source, id, type, job"),
        *(
            Grant(PRUNER, c, t)
            for t in ("retention", "horizon")
            for c in ("INSERT", "UPDATE")
        ),
        # Backup reads everything, restore writes it into what is empty.
        *(
            Grant(KEEPER, c, t, bound=False)
            for t in TABLES
            for c in ("SELECT", "INSERT")
        ),
    ]
