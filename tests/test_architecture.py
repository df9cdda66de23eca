"""The map of the architecture shows every room, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
MAP = (REPOSITORY / "docs/architecture.md").read_text("utf-8")
FOLDERS = ("functions", "knative", "models", "tools")
UNNAMED = {"__init__", "__main__", "env"}
"""Faces of packages, and what Alembic wants to be called so."""
WHOLE = {"standins", "versions"}
"""Folders that the map names as one."""


def modules() -> set[str]:
    """Return the names of the modules that the map is of."""
    return {
        path.stem
        for folder in FOLDERS
        for path in (REPOSITORY / folder).rglob("*.py")
        if path.parent.name not in WHOLE and path.stem not in UNNAMED
    }


def test_every_module_is_on_the_map() -> None:
    """Whoever looks for one learns there what it is for."""
    named = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`\n]+)`", MAP))))
    assert modules() - named == set()


def test_every_room_on_the_map_is_there() -> None:
    """A table's first column names what there is: modules, folders, their files."""
    there = modules() | {
        part
        for folder in FOLDERS
        for path in (REPOSITORY / folder, *(REPOSITORY / folder).rglob("*"))
        for part in (path.name, path.stem)
    }
    rows = MAP.partition("## Rooms")[2].partition("## Contracts")[0]
    first = [line.split("|")[1] for line in rows.splitlines() if line.startswith("| ")]
    named = {
        part
        for cell in first
        for name in re.findall(r"`([^`]+)`", cell)
        for part in name.strip("/").split("/")
    }
    assert named - there == set()
