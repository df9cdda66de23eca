"""What Alembic runs for every command on billing's tables."""

from functions.database import run_migrations

run_migrations()
