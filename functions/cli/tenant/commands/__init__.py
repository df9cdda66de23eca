"""`guise tenant …`: who the tenants are, what each may have, and each one's end."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated, Literal

import typer

from functions.cli.options import HOME, Home, Json, Keys
from functions.cli.tenant.commands.files import files
from functions.cli.tenant.commands.keys import resting
from functions.cli.tenant.place import Actor, Audit, Id, Place, Store, Tenants

tenant = typer.Typer(
    no_args_is_help=True,
    help="Tenants: who they are, what each may have, and each one's end.",
)
tenant.add_typer(resting)
tenant.add_typer(files)

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A field of the spec, e.g. quotas.concurrency=8; repeat it."
    ),
]


From = Annotated[
    Path | None, typer.Option("--from", help="A file with the spec, as YAML.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="A file; else it is printed.")
]


@tenant.command()
def create(  # noqa: PLR0913  # each is an option
    tenant_id: Id,
    source: From = None,
    *,
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
    tier: Annotated[
        Literal["trial", "standard", "premium"] | None,
        typer.Option(help="Its share of the pooled device; standard unless said."),
    ] = None,
    region: Annotated[str, typer.Option(help="Where alone it is served.")] = "",
    data: Annotated[
        int | None, typer.Option(min=0, max=2, help="How far its data is apart.")
    ] = None,
    model: Annotated[
        int | None, typer.Option(min=0, max=2, help="How far its models are.")
    ] = None,
    compute: Annotated[
        int | None, typer.Option(min=0, max=2, help="How far its worker is.")
    ] = None,
    sets: Set = None,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    audit: Audit = "",
    actor: Actor = "operator",
    json: Json = False,
) -> None:
    """Make a tenant: spec, keys, store and the first entry of its log."""
    from functions.cli.tenant.making import create as run
    from functions.cli.tenant.making import parse_fields

    said = {
        "name": name or None,
        "tier": tier,
        "region": region or None,
        "isolation.data": data,
        "isolation.model": model,
        "isolation.compute": compute,
    }
    fields = {path: value for path, value in said.items() if value is not None}
    place = Place(home, tenants, keys, store, audit, actor, json)
    run(place, tenant_id, source, fields | parse_fields(sets or []))


@tenant.command()
def prepare(
    tenant_id: Id,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    *,
    json: Json = False,
) -> None:
    """Make the key of who is to be a tenant.

    A cluster's audit must have it first.
    """
    from functions.cli.tenant.making import prepare as run

    run(Place(home, tenants, keys, store, json=json), tenant_id)


@tenant.command("list")
def list_(
    home: Home = HOME,
    tenants: Tenants = None,
    *,
    json: Json = False,
) -> None:
    """List every tenant there ever was; --json prints one a line."""
    from functions.cli.tenant.show import list_all

    list_all(Place(home, tenants, json=json))


@tenant.command()
def show(
    tenant_id: Id,
    home: Home = HOME,
    tenants: Tenants = None,
    store: Store = "",
    *,
    json: Json = False,
) -> None:
    """Show a tenant's spec, its level, and what is used."""
    from functions.cli.tenant.show import show as run

    run(Place(home, tenants, store=store, json=json), tenant_id)


@tenant.command()
def apply(
    source: Annotated[Path, typer.Argument(help="A spec, as YAML.")],
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    audit: Audit = "",
    actor: Actor = "operator",
    *,
    json: Json = False,
) -> None:
    """Make a tenant, or change one, as a file says."""
    from functions.cli.tenant.making import apply as run

    run(Place(home, tenants, keys, store, audit, actor, json), source)


@tenant.command()
def edit(  # noqa: PLR0913  # each is an option
    tenant_id: Id,
    sets: Set = None,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    audit: Audit = "",
    actor: Actor = "operator",
    *,
    json: Json = False,
) -> None:
    """Change a tenant's spec: by --set, else in $EDITOR."""
    from functions.cli.tenant.making import edit as run
    from functions.cli.tenant.making import parse_fields

    place = Place(home, tenants, keys, store, audit, actor, json)
    run(place, tenant_id, parse_fields(sets or []))


@tenant.command()
def render(
    tenant_ids: Annotated[
        list[str] | None, typer.Argument(help="Tenants' ids.", metavar="[ID]...")
    ] = None,
    cluster: Annotated[
        Path, typer.Option(help="The cluster, as knative/cluster.example.yml has it.")
    ] = Path("cluster.yml"),
    packs: Annotated[
        Path, typer.Option(help="Where packs and their channels lie.")
    ] = HOME / "models",
    home: Home = HOME,
    tenants: Tenants = None,
    *,
    everybody: Annotated[
        bool, typer.Option("--all", help="Every tenant, and what the pool knows of.")
    ] = False,
) -> None:
    """Print a tenant's objects for `kubectl apply -f -`."""
    from functions.cli.tenant.render import render_tenants

    place = Place(home, tenants)
    render_tenants(place, tenant_ids or [], cluster, packs, everybody=everybody)


@tenant.command()
def token(  # noqa: PLR0913  # each is an option
    tenant_id: Id,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it is for: swap:write, swap:read, audit:read, billing:read, "
            "audit:erase; repeat it. Unless said, all but audit:erase."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long.")] = 30,
    subject: Annotated[
        str, typer.Option(help="The person or program that uses it.")
    ] = "developer",
    out: Out = None,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    *,
    json: Json = False,
) -> None:
    """Issue a bearer token, where the keys are this machine's own."""
    from functions.cli.tenant.token import token as run

    place = Place(home, tenants, keys, json=json)
    scopes = scope or []
    run(place, tenant_id, scopes=scopes, days=days, subject=subject, out=out)


@tenant.command()
def suspend(
    tenant_id: Id,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    audit: Audit = "",
    actor: Actor = "operator",
    *,
    json: Json = False,
) -> None:
    """Let nothing new begin; reading, erasing, log and bills go on."""
    from functions.cli.tenant.ending import suspend as run

    run(Place(home, tenants, keys, store, audit, actor, json), tenant_id)


@tenant.command()
def resume(
    tenant_id: Id,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    audit: Audit = "",
    actor: Actor = "operator",
    *,
    json: Json = False,
) -> None:
    """Let new things begin again."""
    from functions.cli.tenant.ending import resume as run

    run(Place(home, tenants, keys, store, audit, actor, json), tenant_id)


@tenant.command()
def delete(  # noqa: PLR0913  # each is an option
    tenant_id: Id,
    home: Home = HOME,
    tenants: Tenants = None,
    keys: Keys = None,
    store: Store = "",
    audit: Audit = "",
    actor: Actor = "operator",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    json: Json = False,
) -> None:
    """Delete a suspended tenant but for its log and bills."""
    from functions.cli.tenant.ending import delete as run

    run(Place(home, tenants, keys, store, audit, actor, json), tenant_id, yes=yes)
