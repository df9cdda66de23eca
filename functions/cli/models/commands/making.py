"""`guise models import` and `prepare`: from weights the operator has to a pack."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated

import typer

from functions.cli.options import Json  # noqa: TC001  # Typer reads the annotations

ROOT = Path(".guise") / "models"

making = typer.Typer(help="From weights to a pack.")

Folders = Annotated[
    list[Path],
    typer.Argument(help="Folders with weights: of insightface, or loose files."),
]
Pack = Annotated[
    str | None,
    typer.Option(help="Which pack; without it, the richest that the files make."),
]
Version = Annotated[
    str | None, typer.Option(help="The pack's version, instead of the catalogue's.")
]
Into = Annotated[Path, typer.Option("--into", help="Where packs lie.")]
Private = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SHA256", help="Take a build of your own for a model; repeat it."
    ),
]
Fp16 = Annotated[
    bool, typer.Option("--fp16", help="Halve the large networks: float16, for GPUs.")
]


@making.command("import")
def import_(
    folders: Folders,
    pack: Pack = None,
    version: Version = None,
    into: Into = ROOT,
    accept_private: Private = None,
    *,
    fp16: Fp16 = False,
    json: Json = False,
) -> None:
    """Make a pack of weights you have, each known by its SHA-256."""
    from functions.cli.models.packs import bring_pack, wished

    wish = wished(pack, version, accept_private or (), halved=fp16)
    bring_pack(folders, into, wish, anew=False, json=json)


@making.command()
def prepare(
    folders: Folders,
    pack: Pack = None,
    version: Version = None,
    into: Into = ROOT,
    accept_private: Private = None,
    *,
    fp16: Fp16 = False,
    json: Json = False,
) -> None:
    """Make a pack once more, and say whether it is the same.

    Byte for byte, that is.
    """
    from functions.cli.models.packs import bring_pack, wished

    wish = wished(pack, version, accept_private or (), halved=fp16)
    bring_pack(folders, into, wish, anew=True, json=json)
