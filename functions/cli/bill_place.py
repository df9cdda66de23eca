"""Where the ledger lies that a command works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from functions.cli.databases import database_url

if TYPE_CHECKING:
    from functions.billing.ledger import Ledger

HOME = Path(".guise")

Home = Annotated[
    Path,
    typer.Option("--home", help="Where everything of this machine's stack lies."),
]
Database = Annotated[
    str,
    typer.Option(
        help="The ledger's database; else GUISE_DATABASE, else the one in --home."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Place:
    """A ledger's database: named, of the environment, or of a home."""

    home: Path
    database: str = ""

    def url(self) -> str:
        """Return the database's URL, or raise `NotFound` where the home has none."""
        return database_url(self.database, self.home, "billing")

    def ledger(self) -> Ledger:
        """Return the opened ledger; the caller closes it."""
        from functions.billing.ledger import Ledger

        return Ledger.open(self.url())
