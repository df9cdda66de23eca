"""`guise keys …`: the keys of an installation, which no tenant has."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import Annotated

import typer

keys = typer.Typer(
    no_args_is_help=True, help="Keys of an installation: made, and where each goes."
)


@keys.callback()
def _topic() -> None:
    """Keep `make` a command of its own, though there is no other yet."""


@keys.command()
def make(
    folder: Annotated[Path, typer.Argument(help="Where they are put.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(help="audit, billing, events/operator; all unless said."),
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make keys that are not there yet.

    It tells which file goes into which Secret.
    """
    from functions.cli.keys.making import make as run

    run(folder, names or [], json=json)
