"""What Alembic runs for every command on the audit log's tables."""

from functions.database import run_migrations

run_migrations()
