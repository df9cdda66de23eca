"""`guise bill reconcile`: the ledger against the GPUs' own word."""

from __future__ import annotations

from typing import Annotated

import typer

from functions.cli.bill.place import Database, Place
from functions.cli.options import HOME, Home, Json

reconciling = typer.Typer()


@reconciling.command("reconcile")
def reconcile(
    seconds: Annotated[
        int, typer.Option(min=1, max=3600, help="How long to look at the GPUs.")
    ] = 60,
    grace: Annotated[
        int,
        typer.Option(min=0, max=3600, help="How long to wait for the usage of it."),
    ] = 10,
    tolerance: Annotated[
        int, typer.Option(min=0, max=100, help="Per cent that may stay unexplained.")
    ] = 5,
    home: Home = HOME,
    database: Database = "",
    *,
    json: Json = False,
) -> None:
    """Compare leased device time with what the GPUs say.

    It is busy, idle or unexplained.  Exit 0: they agree. 1: more is unexplained than
    tolerated, or devices were leased beyond what there is of them. 3: there is no GPU
    here that could be asked.
    """
    from functions.cli.bill.reconcile import Look, run

    look = Look(Place(home, database), seconds, grace, tolerance, json=json)
    raise typer.Exit(run(look))
