"""`guise audit migrate|retention|backup|restore`: what the operator does for years."""

from __future__ import annotations

import typer

from functions.cli.audit_place import HOME, Database, Home, Json, Place

keeping = typer.Typer()


@keeping.command()
def migrate(home: Home = HOME, database: Database = "", *, json: Json = False) -> None:
    """Bring the log's tables to this version; twice does no harm."""
    from functions.cli.audit_migrate import migrate_log

    migrate_log(Place(home, database).url(), json=json)
