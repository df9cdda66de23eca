"""`guise tenant rotate|envelop|shred`: the keys under which a tenant's data rest."""

from __future__ import annotations

from typing import Annotated

import typer

from functions.cli.options import HOME, Home, Json, Keys
from functions.cli.tenant.place import Actor, Audit, Id, Place, Store, Tenants

resting = typer.Typer()

Database = Annotated[
    str,
    typer.Option(help="The log's database; else GUISE_DATABASE, else the home's."),
]


@resting.command()
def rotate(
    tenant_id: Id,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    *,
    destroy_old: Annotated[
        bool,
        typer.Option(
            "--destroy-old",
            help="Destroy the older versions: backups made before do not open then.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Make a new version of a tenant's key.

    Every object's own key is wrapped under it anew.
    """
    from functions.cli.tenant.rotate import rotate as run

    place = Place(home, tenants, keys, store, json=json)
    run(place, tenant_id, destroy_old=destroy_old)


@resting.command()
def envelop(
    tenant_id: Id,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    *,
    json: Json = False,
) -> None:
    """Encrypt what lies in a tenant's folder as it is."""
    from functions.cli.tenant.rotate import envelop as run

    run(Place(home, tenants, keys, store, json=json), tenant_id)


@resting.command()
def shred(  # noqa: PLR0913  # each is an option
    tenant_id: Id,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    audit: Audit = "",
    database: Database = "",
    actor: Actor = "operator",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if open jobs are lost by it.")
    ] = False,
    json: Json = False,
) -> None:
    """Destroy a suspended tenant's keys, for good.

    Nothing of it opens any more.
    """
    from functions.cli.tenant.shred import shred as run

    place = Place(home, tenants, keys, store, audit, actor, json)
    run(place, tenant_id, database=database, yes=yes, force=force)
