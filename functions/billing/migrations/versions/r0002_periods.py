"""Periods that close, the documents they become, credits, budgets; roles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from functions.database import Grant, harden

revision = "0002"
down_revision = "0001"

READER = "guise_billing_reader"
COMMITTER = "guise_billing_committer"
CLOSER = "guise_billing_closer"
OF_TENANTS = ("usage", "account", "document", "credit", "credit_entry", "budget")
TABLES = (*OF_TENANTS, "card")
MONTH = {
    "sqlite": "strftime('%Y-%m', at_ms / 1000, 'unixepoch')",
    "postgresql": "to_char(to_timestamp(at_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM')",
}
"""The month of `at_ms`, in whole seconds: both divide whole numbers as such."""


def upgrade() -> None:
    """Give each usage its period, and make the tables that are new."""
    dialect = op.get_bind().dialect.name
    _add_period(dialect)
    _make_tables()
    op.execute("INSERT INTO account (tenant) SELECT DISTINCT tenant FROM usage")
    if dialect == "postgresql":
        harden(op.get_bind(), "guise_billing_tenant", TABLES, _grants())


def _add_period(dialect: str) -> None:
    """Add columns whose default serves the rows there are; who inserts names them."""
    period = sa.Column("period", sa.Text, nullable=False, server_default="")
    late = sa.Column("late", sa.Boolean, nullable=False, server_default=sa.false())
    stored = sa.Column("byte_hours", sa.BigInteger, nullable=False, server_default="0")
    leased = sa.Column("leased_ms", sa.BigInteger)
    for column in (period, late, stored, leased):
        op.add_column("usage", column)
    op.execute(f"UPDATE usage SET period = {MONTH[dialect]}")  # noqa: S608  # ours
    op.create_index(
        "usage_late",
        "usage",
        ["tenant", "period"],
        sqlite_where=sa.column("late"),
        postgresql_where=sa.column("late"),
    )


def _make_tables() -> None:
    op.create_table(
        "account",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("closed", sa.Text, nullable=False, server_default=""),
        sa.Column("documents", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "document",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("number", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("period", sa.Text, nullable=False),
        sa.Column("refers", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("told_ms", sa.BigInteger),
    )
    op.create_index("document_of_period", "document", ["tenant", "period"])
    op.create_index(
        "one_invoice_a_period",
        "document",
        ["tenant", "period"],
        unique=True,
        sqlite_where=sa.text("kind = 'invoice'"),
        postgresql_where=sa.text("kind = 'invoice'"),
    )
    op.create_table(
        "card",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
    )
    op.create_table(
        "credit",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "credit_entry",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("credit", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "budget",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )


def _grants() -> list[Grant]:
    return [
        # Usage is counted, for every tenant in one transaction; nothing else happens.
        *(
            Grant(COMMITTER, command, table, bound=False)
            for table in ("usage", "account")
            for command in ("INSERT", "SELECT")
        ),
        # To share the account's lock takes a right to update it; there is no row
        # that it may become.
        Grant(COMMITTER, "UPDATE", "account", "tenant", bound=False, into="false"),
        *(Grant(READER, "SELECT", table) for table in OF_TENANTS),
        Grant(READER, "SELECT", "card", bound=False),
        *(Grant(CLOSER, "SELECT", table, bound=False) for table in TABLES),
        *(
            Grant(CLOSER, "INSERT", table, bound=False)
            for table in TABLES
            if table != "usage"
        ),
        Grant(CLOSER, "UPDATE", "account", "closed, documents", bound=False),
        Grant(CLOSER, "UPDATE", "document", "told_ms", bound=False),
        Grant(CLOSER, "UPDATE", "budget", "content", bound=False),
    ]
