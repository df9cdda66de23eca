"""`guise audit report`: a period on one page."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.audit.place import Database, Place
from functions.cli.options import HOME, Home, Json, Keys

reporting = typer.Typer()


@reporting.command()
def report(  # noqa: PLR0913, PLR0917  # a command's options
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the page goes.")],
    bundle: Annotated[
        Path | None,
        typer.Argument(help="A bundle; else, the log in the database."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="A bundle's keys, as `guise audit keys` prints them."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose log.")] = "",
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
    home: Home = HOME,
    database: Database = "",
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Verify a log, then write a page of what was done.

    It is for people, and of a period: without --from, the current month, or all that a
    bundle holds.  The page needs no network and no script.
    """
    from functions.cli.audit.report import Wanted, report_bundle, report_kept

    wanted = Wanted(tenant, since, until, jobs)
    if bundle is not None:
        report_bundle(bundle, key, wanted, out, json=json)
    else:
        report_kept(Place(home, database, keys), wanted, out, json=json)
