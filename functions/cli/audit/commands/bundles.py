"""`guise audit export|verify|keys`: the log as one file, checked without us."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.audit.place import Database, Place, Tenant
from functions.cli.options import HOME, Home, Json, Keys

bundles = typer.Typer()


@bundles.command()
def export(  # noqa: PLR0913  # a command's options
    tenant: Tenant,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the bundle goes.")],
    since: Annotated[
        str,
        typer.Option("--from", help="A date (UTC) or an RFC 3339 time."),
    ] = "",
    until: Annotated[
        str, typer.Option("--to", help="As --from; it is itself not in.")
    ] = "",
    job: Annotated[
        str, typer.Option(help="Only this job's entries, each with its proof.")
    ] = "",
    home: Home = HOME,
    database: Database = "",
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Write a log to one file that anybody can check.

    Or a period of it, or a job.
    """
    from functions.cli.audit.export import Chosen, export_bundle

    chosen = Chosen(tenant, since, until, job)
    export_bundle(Place(home, database, keys), chosen, out, json=json)


@bundles.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or one .tlog-proof file.")],
    key: Annotated[
        Path,
        typer.Option(
            help="The log's verifier keys, as `guise audit keys` prints them."
        ),
    ],
    tenant_keys: Annotated[
        Path | None,
        typer.Option(help="The tenant's event keys (.pub): check each event, too."),
    ] = None,
    leaf: Annotated[
        Path | None,
        typer.Option(help="The entry that a .tlog-proof is of, if it is not in it."),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Check a bundle without any trust in whoever made it.

    It needs neither network nor database.
    """
    from functions.cli.audit.verify import verify_file

    verify_file(bundle, key, tenant_keys, leaf, json=json)


@bundles.command("keys")
def show_keys(
    tenant: Tenant,
    home: Home = HOME,
    database: Database = "",
    keys: Keys = None,
    *,
    rotate: Annotated[
        bool,
        typer.Option("--rotate", help="First make a new key, which signs from now on."),
    ] = False,
) -> None:
    """Print the log's verifier keys, one a line.

    They are for whoever checks it.
    """
    from functions.cli.audit.export import print_keys

    print_keys(Place(home, database, keys), tenant, rotate=rotate)
