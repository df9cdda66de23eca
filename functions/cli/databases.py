"""Which database a command works on, and bringing its tables to this version's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from functions.cli.terminal import print_json, say
from functions.problems import NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from functions.database import Schema


def database_url(named: str, home: Path, function: str) -> str:
    """Return what is named, else GUISE_DATABASE, else the function's in `home`.

    Raises `NotFound` where the home has none.
    """
    from functions.local.home import Home

    found = named or os.environ.get("GUISE_DATABASE", "")
    if found:
        return found
    folder = Home(home.resolve())
    if not (folder.root / f"{function}.db").is_file():
        raise NotFound(f"{home} holds no {function}.db")
    return folder.database_url(function)


def migrate_tables(url: str, schema: Schema, *, json: bool) -> None:
    """Migrate the tables at `url`, and print which versions that took.

    On PostgreSQL the login must own the tables, and may create roles where the
    server does not have them yet.
    """
    from functions.database import migrate, open_database

    engine = open_database(url)
    try:
        done = migrate(engine, schema)
    finally:
        engine.dispose()
    if json:
        print_json({"version": schema.newest, "done": done})
    elif done:
        say(f"migrated to {schema.newest}: {', '.join(done)}")
    else:
        say(f"nothing to do: the tables are of version {schema.newest}")
