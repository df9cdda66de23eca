"""`guise jobs …`: what becomes of jobs, and what a person can do about it."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.options import HOME, Home, Json

jobs = typer.Typer(
    no_args_is_help=True, help="Jobs: what became of them, and another try."
)

Job = Annotated[str, typer.Argument(help="The job's id.")]
Tenant = Annotated[str, typer.Option(help="Whose jobs.")]
Store = Annotated[
    str,
    typer.Option(help="The URL of the tenants' stores; else, folders in --home."),
]
Url = Annotated[
    str,
    typer.Option(help="A door to ask in place of the store; list, show and cancel."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="A file with the bearer token, for --url."),
]


@jobs.command("list")
def list_(
    home: Home = HOME,
    tenant: Tenant = "demo",
    store: Store = "",
    url: Url = "",
    token_file: TokenFile = None,
    *,
    only_open: Annotated[
        bool, typer.Option("--open", help="Those not ended, or not told of yet.")
    ] = False,
    only_dead: Annotated[
        bool, typer.Option("--dead", help="Those with events that nobody takes.")
    ] = False,
    json: Json = False,
) -> None:
    """List jobs in the order of their ids; --json prints one a line."""
    from functions.cli.jobs.work import Place, list_jobs

    place = Place(home, tenant, store, url, token_file, json=json)
    list_jobs(place, only_open=only_open, only_dead=only_dead)


@jobs.command()
def show(
    job: Job,
    home: Home = HOME,
    tenant: Tenant = "demo",
    store: Store = "",
    url: Url = "",
    token_file: TokenFile = None,
    *,
    json: Json = False,
) -> None:
    """Show how a job stands, and what of it could not be delivered."""
    from functions.cli.jobs.work import Place, show_job

    show_job(Place(home, tenant, store, url, token_file, json=json), job)


@jobs.command()
def retry(
    job: Job,
    home: Home = HOME,
    tenant: Tenant = "demo",
    store: Store = "",
    *,
    json: Json = False,
) -> None:
    """Try a job again.

    Ask for it again, send its dead letters, or run a failed one as a new job.
    """
    from functions.cli.jobs.work import Place, retry_job

    retry_job(Place(home, tenant, store, json=json), job)


@jobs.command()
def cancel(
    job: Job,
    home: Home = HOME,
    tenant: Tenant = "demo",
    store: Store = "",
    url: Url = "",
    token_file: TokenFile = None,
    *,
    json: Json = False,
) -> None:
    """End a job as cancelled, unless it has ended; print how it ended."""
    from functions.cli.jobs.work import Place, cancel_job

    cancel_job(Place(home, tenant, store, url, token_file, json=json), job)


@jobs.command()
def sweep(
    home: Home = HOME,
    tenant: Tenant = "demo",
    store: Store = "",
    *,
    json: Json = False,
) -> None:
    """Bring on what is stuck, and delete what is kept no longer.

    `up` does both.
    """
    from functions.cli.jobs.work import Place, sweep_jobs

    sweep_jobs(Place(home, tenant, store, json=json))
