"""`guise audit migrate|retention|prune|backup|restore`: what an operator does."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.audit.place import Database, Place, Tenant
from functions.cli.options import HOME, Home, Json, Keys

keeping = typer.Typer()

Witness = Annotated[
    str,
    typer.Option(
        help="The second store, as a URL; else GUISE_WITNESS, else there is none."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The file to make.")]


@keeping.command()
def migrate(home: Home = HOME, database: Database = "", *, json: Json = False) -> None:
    """Bring the log's tables to this version; twice does no harm."""
    from functions.audit.store import SCHEMA
    from functions.cli.databases import migrate_tables

    migrate_tables(Place(home, database).url(), SCHEMA, json=json)


@keeping.command()
def retention(
    tenant: Tenant,
    days: Annotated[
        int | None, typer.Option(help="Keep entries so long, at least 180 days.")
    ] = None,
    home: Home = HOME,
    database: Database = "",
    *,
    json: Json = False,
) -> None:
    """Show or set for how long a tenant's entries are kept.

    They are for ever, unless set.
    """
    from functions.cli.audit.pruning import show_retention

    show_retention(Place(home, database), tenant, days, json=json)


@keeping.command()
def prune(
    tenant: Tenant,
    home: Home = HOME,
    database: Database = "",
    *,
    json: Json = False,
) -> None:
    """Drop entries older than the tenant's retention.

    Their hashes and proofs stay.
    """
    from functions.cli.audit.pruning import prune_log

    prune_log(Place(home, database), tenant, json=json)


@keeping.command()
def backup(
    out: Out,
    witness: Witness = "",
    home: Home = HOME,
    database: Database = "",
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Write every tenant's log to one SQLite file, verified.

    Keys are not in it.
    """
    from functions.cli.audit.backups import back_up

    back_up(Place(home, database, keys), out, witness, json=json)


@keeping.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    into: Annotated[str, typer.Option(help="The URL of an empty database.")],
    witness: Witness = "",
    erasures: Annotated[
        Path | None, typer.Option(help="A file with statements of erasures.")
    ] = None,
    home: Home = HOME,
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Fill a database from a backup.

    The next epoch of every log is opened.
    """
    from functions.cli.audit.backups import bring_back

    place = Place(home, into, keys)
    bring_back(place, file, witness, erasures, json=json)
