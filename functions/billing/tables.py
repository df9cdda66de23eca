"""The tables of billing, as the newest migration leaves them.

Times are milliseconds since the epoch; money is whole coins, or inside the canonical
JSON of a document.  No column holds a fraction.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()

usages: Final = sa.Table(
    "usage",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    # The month whose invoice takes it up: its own, or where that was closed when it
    # came (it is `late` then) the next one.
    sa.Column("period", sa.Text, nullable=False),
    sa.Column("late", sa.Boolean, nullable=False),
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
    sa.Column("byte_hours", sa.BigInteger, nullable=False),
    sa.Column("leased_ms", sa.BigInteger),  # NULL where nobody said when it was granted
    sa.Index("usage_of_period", "tenant", "at_ms"),
)
sa.Index(
    "usage_late",
    usages.c.tenant,
    usages.c.period,
    sqlite_where=usages.c.late,
    postgresql_where=usages.c.late,
)
accounts: Final = sa.Table(
    "account",
    metadata,
    # How far a tenant's periods are closed, and how many documents it was sent.
    # Whoever counts usage shares its lock; whoever closes has it alone.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("closed", sa.Text, nullable=False, server_default=""),
    sa.Column("documents", sa.BigInteger, nullable=False, server_default="0"),
)
documents: Final = sa.Table(
    "document",
    metadata,
    # Invoices and credit notes, word for word as they were issued.  `kind` is `invoice`
    # for a period's own, even where that comes to less than nothing.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("number", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("period", sa.Text, nullable=False),
    sa.Column("refers", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("told_ms", sa.BigInteger),  # NULL until its event is delivered
    sa.Index("document_of_period", "tenant", "period"),
)
sa.Index(
    "one_invoice_a_period",
    documents.c.tenant,
    documents.c.period,
    unique=True,
    sqlite_where=documents.c.kind == "invoice",
    postgresql_where=documents.c.kind == "invoice",
)
cards: Final = sa.Table(
    "card",
    metadata,
    # What each version of a rate card or contract said when it first priced something.
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
)
grants: Final = sa.Table(
    "credit",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
credit_entries: Final = sa.Table(
    "credit_entry",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("credit", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
budgets: Final = sa.Table(
    "budget",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
