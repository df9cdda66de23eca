"""What the catalogue offers, and what of it lies here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from models import catalogue
from models.errors import PackRefused
from models.verify import verify_as

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

State = Literal["absent", "verified", "refused"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one pack, in the catalogue or under the root.

    `digest` is the pack's when it verifies; `reason` says why when it is refused.
    `licence` is empty and `commercial` false where nobody vouches for either.
    """

    id: str
    version: str
    folder: Path
    offered: bool
    state: State
    licence: str = ""
    commercial: bool = False
    digest: str = ""
    reason: str = ""


def inventory(root: Path) -> tuple[Entry, ...]:
    """Return every pack of the catalogue and every pack under `root`, by name.

    Each one that is there is verified in full.  Nothing is fetched or written.
    """
    offers = {
        (pack.id, pack.version): (pack.licence, offered.commercial(pack))
        for offered in (catalogue.load(),)
        for pack in offered.packs
    }
    there = sorted({*offers, *_folders(root)})
    return tuple(_entry(root, *key, offers.get(key)) for key in there)


def _folders(root: Path) -> Iterator[tuple[str, str]]:
    """Yield pack and version of every folder; those in the making begin with a dot."""
    for folder in root.glob("[!.]*/[!.]*"):
        yield folder.parent.name, folder.name


def _entry(
    root: Path, name: str, version: str, offer: tuple[str, bool] | None
) -> Entry:
    """Say what is there; `offer` is licence and whether it may be used for commerce."""
    licence, commercial = offer or ("", False)
    folder = root / name / version
    try:
        pack = verify_as(folder, name, version)
    except PackRefused as error:
        there = os.path.lexists(folder)
        return Entry(
            id=name,
            version=version,
            folder=folder,
            offered=offer is not None,
            state="refused" if there else "absent",
            licence=licence,
            commercial=commercial,
            reason=str(error) if there else "",
        )
    return Entry(
        id=name,
        version=version,
        folder=folder,
        offered=offer is not None,
        state="verified",
        licence=pack.licence,
        commercial=pack.commercial,
        digest=pack.pack_digest,
    )
