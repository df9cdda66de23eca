"""`guise bill budget`: what a tenant means to spend in a month."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.bill.place import Database, Place
from functions.cli.options import HOME, Home, Json, Keys

budgeting = typer.Typer()

Rates = Annotated[
    Path | None,
    typer.Option(help="The rate cards; else GUISE_RATES, else those that come along."),
]


@budgeting.command()
def budget(  # noqa: PLR0913  # each is an option
    tenant: Annotated[str, typer.Option(help="Whose.")] = "demo",
    limit: Annotated[
        str, typer.Option(help="For each month, e.g. 100.00; else the budget is shown.")
    ] = "",
    alerts: Annotated[
        str, typer.Option(help="Per cent of the limit at which you are told.")
    ] = "50,80,100",
    store: Annotated[
        str,
        typer.Option(help="The tenants' stores; else GUISE_STORE, else the home's."),
    ] = "",
    keys: Keys = None,
    rates: Rates = None,
    home: Home = HOME,
    database: Database = "",
    *,
    hard: Annotated[
        bool,
        typer.Option("--hard", help="Let nothing new run once the limit is reached."),
    ] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Take the budget away.")] = False,
    json: Json = False,
) -> None:
    """Show, set or lift a tenant's budget.

    It is written where the door reads it, too.
    """
    from functions.cli.bill.budget import Wanted, run

    wanted = Wanted(tenant, limit, alerts, hard=hard, lift=lift, json=json)
    run(Place(home, database), wanted, store=store, keys=keys, rates=rates)
