"""Where the audit log lies that a command works on, and with which keys."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path  # Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from functions.cli.databases import database_url

if TYPE_CHECKING:
    from functions.audit.store import Store
    from functions.keys import FileKeys


Database = Annotated[
    str,
    typer.Option(
        help="The log's database; else GUISE_DATABASE, else the one in --home."
    ),
]
Tenant = Annotated[str, typer.Option(help="Whose log.")]


@dataclass(frozen=True, slots=True)
class Place:
    """A log's database and keys: named, of the environment, or of a home."""

    home: Path
    database: str = ""
    keys: Path | None = None

    def url(self) -> str:
        """Return the database's URL, or raise `NotFound` where the home has none."""
        return database_url(self.database, self.home, "audit")

    def store(self) -> Store:
        """Return the opened store; the caller closes it."""
        from functions.audit.store import Store

        return Store.open(self.url())

    def key_provider(self) -> FileKeys:
        """Return the keys that sign, or only verify, checkpoints."""
        from functions.keys import FileKeys
        from functions.local.home import Home as Folder

        named = self.keys or os.environ.get("GUISE_KEYS", "")
        return FileKeys(Path(named) if named else Folder(self.home.resolve()).keys)
