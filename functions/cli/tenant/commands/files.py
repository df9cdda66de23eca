"""`guise tenant put|get|ls`: a tenant's objects, through its own store."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.options import HOME, Home, Json, Keys
from functions.cli.tenant.place import Id, Place, Store, Tenants

files = typer.Typer()

Object = Annotated[
    str, typer.Argument(metavar="KEY", help="The object, e.g. uploads/a.jpg.")
]


@files.command()
def put(
    tenant_id: Id,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What to write.")],
    key: Object,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    *,
    json: Json = False,
) -> None:
    """Write a file into a tenant's store.

    It is encrypted where the tenant's data are.
    """
    from functions.cli.tenant.objects import put as run

    run(Place(home, tenants, keys, store, json=json), tenant_id, source, key)


@files.command()
def get(
    tenant_id: Id,
    key: Object,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A file; else it goes to standard output."),
    ] = None,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
) -> None:
    """Read an object out of a tenant's store."""
    from functions.cli.tenant.objects import get as run

    run(Place(home, tenants, keys, store), tenant_id, key, out)


@files.command()
def ls(
    tenant_id: Id,
    prefix: Annotated[
        str, typer.Argument(help="What their names begin with, e.g. uploads/.")
    ] = "",
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    *,
    json: Json = False,
) -> None:
    """List a tenant's objects: bytes and name.

    --json prints one a line.
    """
    from functions.cli.tenant.objects import ls as run

    run(Place(home, tenants, keys, store, json=json), tenant_id, prefix)
