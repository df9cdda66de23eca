"""`guise audit migrate`: the log's tables, brought to this version's."""

from __future__ import annotations

from functions.cli.terminal import print_json, say


def migrate_log(url: str, *, json: bool) -> None:
    """Migrate the tables at `url`, and print which versions that took.

    On PostgreSQL the login must own the tables, and may create roles where the
    server does not have them yet.
    """
    from functions.audit.store import SCHEMA
    from functions.database import migrate, open_database

    engine = open_database(url)
    try:
        done = migrate(engine, SCHEMA)
    finally:
        engine.dispose()
    if json:
        print_json({"version": SCHEMA.newest, "done": done})
    elif done:
        say(f"migrated to {SCHEMA.newest}: {', '.join(done)}")
    else:
        say(f"nothing to do: the tables are of version {SCHEMA.newest}")
