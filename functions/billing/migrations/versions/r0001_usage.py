"""One table: usage.

What was made before there were versions is this one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "usage",
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
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
    )
    op.create_index("usage_of_period", "usage", ["tenant", "at_ms"])


COUNTS = (
    "lease_ms",
    "gpu_ms",
    "cpu_ms",
    "load_ms",
    "requests",
    "faces",
    "frames",
    "input_bytes",
    "output_bytes",
)
