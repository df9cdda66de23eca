"""Options that commands of every topic have, and say in the same words."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated

import typer

HOME = Path(".guise")

Home = Annotated[
    Path,
    typer.Option("--home", help="Where everything of this machine's stack lies."),
]
Keys = Annotated[
    Path | None,
    typer.Option(help="The folder of keys; else GUISE_KEYS, else the one in --home."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
