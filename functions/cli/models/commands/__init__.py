"""`guise models sign` and what follows: who vouches, who answers, who gets what."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated, Literal

import typer

from functions.cli.options import HOME, Json

release = typer.Typer(help="From a signed pack to the tenants that get it.")

Pack = Annotated[str, typer.Argument(help="A pack's id, e.g. insightface.")]
Root = Annotated[Path, typer.Option(help="Where packs and their channels lie.")]
Actor = Annotated[str, typer.Option(help="Who does this; you, unless said.")]
Tenant = Annotated[str, typer.Argument(help="A tenant's id.")]
Channel = Literal["alpha", "beta", "stable"]


@release.command()
def sign(
    folder: Annotated[Path, typer.Argument(help="A prepared pack.")],
    key: Annotated[Path, typer.Option(help="A private key, PEM: P-256, 384 or 521.")],
    role: Annotated[
        Literal["publisher", "approver"],
        typer.Option(help="Who signs: two people, two keys."),
    ],
    password_file: Annotated[
        Path | None, typer.Option(help="A file with the password of the key.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Sign a pack, as its publisher or its approver."""
    from functions.cli.models.release import sign_pack

    sign_pack(folder, key, role, password_file, json=json)


@release.command()
def accept(
    folder: Annotated[Path, typer.Argument(help="A prepared pack.")],
    reason: Annotated[str, typer.Option(help="Why; it stays in the audit log.")],
    actor: Annotated[str, typer.Option(help="Who answers for it: a login or a role.")],
    kind: Annotated[
        Literal["non-commercial-licence", "no-content-gate"],
        typer.Option(help="What is accepted."),
    ] = "non-commercial-licence",
    audit: Annotated[
        str, typer.Option(help="The audit function; this machine's own, unless said.")
    ] = "",
    keys: Annotated[
        Path | None,
        typer.Option(help="Where the key events/operator lies; the home's, else."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Where acceptances are kept; in the home, unless said."),
    ] = None,
    home: Annotated[Path, typer.Option(help="This machine's stack.")] = HOME,
    *,
    json: Json = False,
) -> None:
    """Answer on record for a pack that production refuses."""
    from functions.cli.models.release import Office, accept_pack

    office = Office(home, audit, keys or home / "keys", to or home / "acceptances")
    accept_pack(folder, kind, reason, actor, office, json=json)


@release.command()
def promote(
    pack: Pack,
    to: Annotated[Channel, typer.Option(help="The channel it goes to.")],
    version: Annotated[
        str, typer.Option(help="Needed for alpha; else what is in the one before.")
    ] = "",
    trust: Annotated[
        Path | None, typer.Option(help="Keys; both must have signed the pack.")
    ] = None,
    actor: Actor = "",
    root: Root = HOME / "models",
    *,
    json: Json = False,
) -> None:
    """Put a version into alpha, or on to beta or stable."""
    from functions.cli.models.release import Desk, promote_pack

    promote_pack(Desk(root, actor, json=json), pack, to, version, trust)


@release.command()
def rollback(
    pack: Pack,
    channel: Annotated[Channel, typer.Option(help="The channel that goes back.")],
    actor: Actor = "",
    root: Root = HOME / "models",
    *,
    json: Json = False,
) -> None:
    """Take a channel back to the version it had before."""
    from functions.cli.models.release import Desk, roll_back_pack

    roll_back_pack(Desk(root, actor, json=json), pack, channel)


@release.command()
def share(
    pack: Pack,
    channel: Annotated[Literal["alpha", "beta"], typer.Option(help="Which channel.")],
    percent: Annotated[str, typer.Option(help="Of the tenants, e.g. 2.5.")],
    actor: Actor = "",
    root: Root = HOME / "models",
    *,
    json: Json = False,
) -> None:
    """Say which part of the tenants gets a channel before stable."""
    from functions.cli.models.release import Desk, share_channel

    share_channel(Desk(root, actor, json=json), pack, channel, percent)


@release.command()
def pin(
    pack: Pack,
    tenant: Tenant,
    target: Annotated[
        str, typer.Argument(help="A version, a channel, or none: no pin.")
    ],
    actor: Actor = "",
    root: Root = HOME / "models",
    *,
    json: Json = False,
) -> None:
    """Give a tenant one version, or a channel to follow."""
    from functions.cli.models.release import Desk, pin_tenant

    pin_tenant(Desk(root, actor, json=json), pack, tenant, target)


@release.command()
def resolve(
    tenant: Annotated[str, typer.Option(help="A tenant's id.")],
    pack: Annotated[str, typer.Option(help="Needed where there are several.")] = "",
    root: Root = HOME / "models",
    *,
    json: Json = False,
) -> None:
    """Say which version of a pack a tenant gets, and why."""
    from functions.cli.models.release import resolve_tenant

    resolve_tenant(root, tenant, pack, json=json)
