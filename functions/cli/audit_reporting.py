"""`guise audit report`: a period on one page."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.audit_place import HOME, Database, Home, Json, Keys, Place

reporting = typer.Typer()


@reporting.command()
def report(  # noqa: PLR0913, PLR0917  # a command's options
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the page goes.")],
    tenant: Annotated[str, typer.Option(help="Whose log.")],
    since: Annotated[
        str,
        typer.Option("--from", help="A date (UTC) or an RFC 3339 time."),
    ] = "",
    until: Annotated[
        str,
        typer.Option("--to", help="As --from; it is itself not in. Else, now."),
    ] = "",
    jobs: Annotated[
        int,
        typer.Option(help="How many of the period's jobs to list.", min=1, max=10_000),
    ] = 200,
    epoch: Annotated[
        int | None,
        typer.Option(help="The log before a restore, by its number.", min=1, max=9999),
    ] = None,
    home: Home = HOME,
    database: Database = "",
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Verify a log, then write what was done in a period as a page for people.

    Without --from, the current month. The page needs no network and no script.
    """
    from functions.cli.audit_report import Wanted, write_report

    wanted = Wanted(tenant, since, until, jobs, epoch)
    write_report(Place(home, database, keys), wanted, out, json=json)
