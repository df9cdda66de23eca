"""Logs made without a database, bundles of them, and bundles that were changed."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from functions import events
from functions.audit.checking import verify_bundle
from functions.audit.export import About, export
from functions.audit.leaf import leaf_of
from functions.audit.manifest import Range
from functions.audit.merkle import HASH_BYTES, fold, leaf_hash
from functions.audit.plan import Piece
from functions.audit.proven import Tiles
from functions.audit.tiles import (
    TILE_WIDTH,
    Checkpoint,
    NoteVerifier,
    bundle_bytes,
    origin,
    sign_checkpoint,
)
from functions.events import Event
from functions.keys import MemoryKeys, events_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from functions.audit.checking import Report
    from functions.audit.logcheck import Fault
    from functions.keys import Signer

KEYS = MemoryKeys()
SIGNER = KEYS.signer("audit")
STRANGER = MemoryKeys().signer("audit")
PUBLIC = SIGNER.public_bytes()
VERIFIERS = [NoteVerifier(origin("acme"), PUBLIC)]
NOON_MS = 1_795_262_400_000
"""2026-11-21T12:00:00Z."""


def event(
    index: int, kind: str, data: Mapping[str, Any], tenant: str = "acme"
) -> Event:
    """Return what stands at `index`, signed: a second later than the one before."""
    plain = Event(
        id=f"event-{index}",
        source=events.swap_source(tenant),
        type=kind,
        time=events.rfc3339_of(NOON_MS + index * 1000),
        tenant=tenant,
        data=data,
    )
    return events.sign(plain, KEYS.signer(events_key(tenant)))


def started(index: int, job: str, tenant: str = "acme") -> bytes:
    """Return the leaf of a job's start."""
    return leaf_of(event(index, events.SWAP_STARTED, {"job": job}, tenant)).data


def ended(
    index: int, job: str, start: int | None, kind: str = events.SWAP_COMPLETED
) -> bytes:
    """Return the leaf of a job's ending, which names the entry of its start."""
    data: dict[str, Any] = {"job": job}
    if start is not None:
        data["started"] = {"index": start}
    return leaf_of(event(index, kind, data)).data


def told(size: int, first: int = 0) -> list[bytes]:
    """Return entries from `first`: starts at even indices, their endings at odd."""
    return [
        ended(index, f"job-{index // 2}", index - 1)
        if index % 2
        else started(index, f"job-{index // 2}")
        for index in range(first, first + size)
    ]


@dataclass
class Made:
    """A `LogSource` over leaves in memory, signed by whoever holds `signer`."""

    leaves: Sequence[bytes]
    tenant: str = "acme"
    epoch: int = 1
    signer: Signer = SIGNER
    rows: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Hash it all."""
        step = TILE_WIDTH * HASH_BYTES
        self.rows.append(b"".join(map(leaf_hash, self.leaves)))
        while len(self.rows[-1]) >= step:
            below = self.rows[-1]
            whole = range(0, len(below) - step + 1, step)
            self.rows.append(b"".join(fold(below[at : at + step]) for at in whole))

    @property
    def name(self) -> str:
        """Its origin."""
        return origin(self.tenant, self.epoch)

    def note(self, size: int) -> str:
        """Return the checkpoint that is signed at a size."""
        root = Tiles(self.tile, len(self.leaves)).frontier(size).root()
        return sign_checkpoint(Checkpoint(self.name, size, root), self.signer)

    def checkpoint(self) -> str:
        """Return the newest checkpoint."""
        return self.note(len(self.leaves))

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first hashes of a tile."""
        at = number * TILE_WIDTH * HASH_BYTES
        return self.rows[level][at : at + width * HASH_BYTES]

    def entries(self, number: int, width: int) -> bytes:
        """Return the first entries of a bundle."""
        start = number * TILE_WIDTH
        return bundle_bytes(self.leaves[start : start + width])

    def piece(
        self,
        wanted: Range | None = None,
        *,
        single: Iterable[int] = (),
        minimum: int = 0,
        notes: Iterable[int] = (),
    ) -> Piece:
        """Return what goes into a bundle: all of it unless a range is named."""
        return Piece(
            self,
            self.epoch,
            self.checkpoint(),
            Range(0, len(self.leaves)) if wanted is None else wanted,
            tuple(single),
            minimum,
            {size: self.note(size) for size in notes},
        )


def bundle(path: Path, *pieces: Piece, **about: Any) -> Path:
    """Write a bundle of pieces, the current log last."""
    tenant = pieces[-1].note.partition("\n")[0].split("/")[1]
    export(path, About(tenant, [PUBLIC], **about), pieces)
    return path


def check(path: Path, **options: Any) -> Report:
    """Check a bundle with the log's own key."""
    return verify_bundle(path, VERIFIERS, **options)


def files(path: Path) -> dict[str, bytes]:
    """Return what is in a bundle."""
    with zipfile.ZipFile(path) as file:
        return {info.filename: file.read(info) for info in file.infolist()}


def write(path: Path, content: Iterable[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    """Write a zip of these files, in this order."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content:
            file.writestr(name, data)
    return path


def changed(
    path: Path, changes: Mapping[str, bytes | Callable[[bytes], bytes] | None]
) -> Path:
    """Change files of a bundle, or drop those that are None, and return it."""
    content = files(path)
    for name, change in changes.items():
        if change is None:
            del content[name]
        else:
            content[name] = (
                change if isinstance(change, bytes) else change(content[name])
            )
    return write(path, content.items())


SIZE = 700
FIRST, SECOND, THIRD = "tile/entries/000", "tile/entries/001", "tile/entries/002.p/188"
LOG = Made(told(SIZE))


def fault_of(report: Report) -> Fault:
    """Return what is wrong."""
    assert report.fault is not None
    return report.fault


def broken(path: Path, match: str) -> Fault:
    """Check a bundle that must fail, for the reason that is named."""
    fault = fault_of(check(path))
    assert re.search(match, fault.text), fault
    return fault
