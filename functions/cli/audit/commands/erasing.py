"""`guise audit search|erase`: a person's questions and rights."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.audit.place import Database, Place, Tenant
from functions.cli.options import HOME, Home, Json, Keys

erasing = typer.Typer()


Image = Annotated[
    Path | None, typer.Option(help="The image: the very file that was used.")
]
Digest = Annotated[str, typer.Option(help="The SHA-256 of the image, in its place.")]
Job = Annotated[str, typer.Option(help="The job's id.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Write the signed statement here."),
]
Store = Annotated[
    str,
    typer.Option(help="The URL of the tenants' stores; else, folders in --home."),
]
Url = Annotated[
    str, typer.Option(help="A door to erase the job by, in place of the store.")
]
TokenFile = Annotated[
    Path | None, typer.Option(help="A file with the bearer token, for --url.")
]
LogOnly = Annotated[
    bool, typer.Option("--log-only", help="Leave the tenant's store as it is.")
]


@erasing.command()
def search(
    tenant: Tenant,
    image: Image = None,
    sha256: Digest = "",
    home: Home = HOME,
    database: Database = "",
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Say which jobs used exactly this image.

    Each is proven by an entry of the log.
    """
    from functions.cli.audit.requests import search_log

    search_log(Place(home, database, keys), tenant, image, sha256, json=json)


@erasing.command()
def erase(
    tenant: Tenant,
    job: Job,
    out: Out = None,
    store: Store = "",
    url: Url = "",
    token_file: TokenFile = None,
    home: Home = HOME,
    database: Database = "",
    keys: Keys = None,
    *,
    log_only: LogOnly = False,
    json: Json = False,
) -> None:
    """Erase a job, and print a statement of it.

    In the tenant's store and beside the log.  Exits with 1 where the store could not be
    reached, and says so.
    """
    from functions.cli.audit.requests import erase_job
    from functions.cli.jobs.work import Place as Jobs

    place = Place(home, database, keys)
    jobs = None if log_only else Jobs(home, tenant, store, url, token_file)
    erase_job(place, tenant, job, jobs, out, json=json)
