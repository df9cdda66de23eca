"""The tables of the audit log, as the newest migration leaves them.

Times are milliseconds since the epoch.  `epoch` is something else: a tenant's log
begins anew, as the next epoch, when it is restored from a backup.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

DAYS_MIN: Final = 180
"""The shortest that a tenant's entries may be kept, by law."""

metadata: Final = sa.MetaData()


def _epoch() -> sa.Column[int]:
    return sa.Column(
        "epoch",
        sa.SmallInteger,
        primary_key=True,
        autoincrement=False,
        server_default="1",
    )


heads: Final = sa.Table(
    "head",
    metadata,
    # A tenant's newest epoch, and where it stands.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("epoch", sa.SmallInteger, nullable=False, server_default="1"),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
)
entries: Final = sa.Table(
    "entry",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    _epoch(),
    sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
    # A digest of tenant, source and id: for `(tenant, source, id) IN (...)` SQLite
    # would read every entry.  Unique over all epochs: once, for ever.
    sa.Column("key", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("leaf", sa.LargeBinary),  # NULL once it is pruned
    sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    sa.Index("entry_of_job", "tenant", "job", "epoch", "idx"),
)
nodes: Final = sa.Table(
    "node",
    metadata,
    # The root of the `idx`-th full tile below `level`: what tiles of level 1 and
    # up are made of.  Level 0 is the leaf hashes of the entries themselves.
    sa.Column("tenant", sa.Text, primary_key=True),
    _epoch(),
    sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
checkpoints: Final = sa.Table(
    "checkpoint",
    metadata,
    # Every checkpoint ever signed, so that a receipt is the same when asked again.
    sa.Column("tenant", sa.Text, primary_key=True),
    _epoch(),
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("note", sa.Text, nullable=False),
    # When: the entries that it is the first to cover came then, whatever they state.
    sa.Column("signed_ms", sa.BigInteger, nullable=False),
)

# Outside the log, so that it can be erased.
record_keys: Final = sa.Table(
    "record_key",
    metadata,
    # The key of one job's sidecars, wrapped under the tenant's.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)
sidecars: Final = sa.Table(
    "sidecar",
    metadata,
    # Salt and details of a job, sealed under its record key.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)
images: Final = sa.Table(
    "image",
    metadata,
    # Which jobs used exactly these bytes; the MAC is of their SHA-256.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("mac", sa.LargeBinary, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.Index("image_of_job", "tenant", "job"),
)
erasures: Final = sa.Table(
    "erasure",
    metadata,
    # The signed statement of what was erased.
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("statement", sa.Text, nullable=False),
)
retentions: Final = sa.Table(
    "retention",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("days", sa.Integer, nullable=False),
    sa.CheckConstraint(f"days >= {DAYS_MIN}", name="retention_is_long_enough"),
)
horizons: Final = sa.Table(
    "horizon",
    metadata,
    # The first index whose leaf is kept; hashes are kept for ever.
    sa.Column("tenant", sa.Text, primary_key=True),
    _epoch(),
    sa.Column("minimum", sa.BigInteger, nullable=False),
)
