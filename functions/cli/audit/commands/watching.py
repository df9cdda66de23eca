"""`guise audit monitor|evidence`: the log against what it said before."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.audit.place import Database, Place, Tenant
from functions.cli.options import HOME, Home, Json, Keys

watching = typer.Typer()

Key = Annotated[
    Path | None,
    typer.Option(help="A file with the log's verifier keys; else those of --keys."),
]


@watching.command()
def monitor(  # noqa: PLR0913, PLR0917  # a command's options
    tenant: Tenant,
    kept: Annotated[
        Path,
        typer.Option(
            help="Checkpoints that were kept: the monitor's own file, made when it is "
            "missing, or a folder with anything that holds some, such as receipts."
        ),
    ],
    key: Key = None,
    url: Annotated[
        str, typer.Option(help="The audit function to ask; else the database.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the bearer token, for --url.")
    ] = None,
    witness: Annotated[
        str, typer.Option(help="A second store with copies of checkpoints, as a URL.")
    ] = "",
    every: Annotated[
        float, typer.Option(min=0, help="Look again after so many seconds, for ever.")
    ] = 0,
    home: Home = HOME,
    database: Database = "",
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Hold the log to every checkpoint that was kept.

    Exit 1 if it broke its word.
    """
    from functions.cli.audit.monitor import Watch, keep_watching

    place = Place(home, database, keys)
    wanted = Watch(tenant, kept, place, key, url, token_file, witness, json=json)
    keep_watching(wanted, every)


@watching.command()
def evidence(
    file: Annotated[Path, typer.Argument(help="What the monitor wrote.")],
    key: Key = None,
    home: Home = HOME,
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Check what a file proves of a log.

    It takes the log's key and nothing else.
    """
    from functions.cli.audit.monitor import check_evidence

    check_evidence(file, Place(home, keys=keys), key, json=json)
