"""Reading the log: tiles, bundles, proofs and pages, each as of one moment.

`epoch` is that of the log to read, the tenant's newest where none is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.audit import store as sql
from functions.audit.merkle import inclusion_proof, node_hash
from functions.audit.tiles import TILE_HEIGHT, TILE_WIDTH, bundle_bytes, tile_bytes
from functions.problems import NotFound

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from functions.audit.store import Entry, Selection, Store

PAGE_ENTRIES_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Proof:
    """That `leaf_hash` stands at `index` in the log of the signed `checkpoint`.

    `path` is the RFC 6962 audit path, from the leaf's sibling upwards.
    """

    index: int
    size: int
    leaf_hash: bytes
    path: tuple[bytes, ...]
    checkpoint: str


def checkpoint(store: Store, tenant: str, epoch: int | None = None) -> str:
    """Return the newest signed checkpoint, or raise `NotFound` for an empty log."""
    with store.reading(tenant) as db:
        return _newest(db, tenant, epoch)[1]


def tile(
    store: Store,
    tenant: str,
    level: int,
    number: int,
    width: int,
    epoch: int | None = None,
) -> bytes:
    """Return the first `width` hashes of a tile, or raise `NotFound`."""
    start = number * TILE_WIDTH
    with store.reading(tenant) as db:
        found = sql.hashes(db, tenant, level, start, start + width, epoch)
    if len(found) != width:
        raise NotFound("the log has no such tile")
    return tile_bytes(found)


def bundle(
    store: Store, tenant: str, number: int, width: int, epoch: int | None = None
) -> bytes:
    """Return the first `width` entries of a bundle, or raise `NotFound`.

    A bundle of which a leaf is pruned is not there any more.
    """
    start = number * TILE_WIDTH
    wanted = sql.Selection(tenant, start=start, stop=start + width, epoch=epoch)
    with store.reading(tenant) as db:
        found = sql.select_entries(db, wanted, width)
        minimum = sql.minimum_of(db, tenant, epoch)
    if start < minimum:
        raise NotFound(f"entries before {minimum} were dropped: their time was over")
    if len(found) != width:
        raise NotFound("the log has no such entries")
    return bundle_bytes(entry.leaf for entry in found)


def prove(store: Store, tenant: str, index: int, epoch: int | None = None) -> Proof:
    """Return the proof of one entry, or raise `NotFound`."""
    with store.reading(tenant) as db:
        size, note = _newest(db, tenant, epoch)
        if index >= size:
            raise NotFound(f"the log has no entry {index}")
        nodes = Nodes(db, tenant, size, epoch)
        path = inclusion_proof(index, size, nodes)
        return Proof(index, size, nodes(0, index), tuple(path), note)


def page(
    store: Store,
    wanted: Selection,
    limit: int = PAGE_ENTRIES_MAX,
) -> tuple[list[Entry], int | None]:
    """Return up to `limit` entries, and the index to go on from if there are more."""
    with store.reading(wanted.tenant) as db:
        found = sql.select_entries(db, wanted, limit + 1)
    if len(found) <= limit:
        return found, None
    return found[:limit], found[limit].index


def _newest(db: Connection, tenant: str, epoch: int | None) -> tuple[int, str]:
    size = sql.size_of(db, tenant, epoch)
    if size == 0:
        raise NotFound("the log is empty")
    return size, sql.note_of(db, tenant, size, epoch)


class Nodes:
    """Roots of perfect subtrees, folded from tiles; each tile is read once."""

    def __init__(
        self, db: Connection, tenant: str, size: int, epoch: int | None = None
    ) -> None:
        self._db = db
        self._tenant = tenant
        self._size = size
        self._epoch = epoch
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def __call__(self, height: int, index: int) -> bytes:
        """Return the root of height `height` over the `index`-th such subtree."""
        level, above = divmod(height, TILE_HEIGHT)
        span = 1 << above
        number, offset = divmod(index * span, TILE_WIDTH)
        row = self._tile(level, number)[offset : offset + span]
        while len(row) > 1:
            row = [node_hash(*pair) for pair in zip(row[::2], row[1::2], strict=True)]
        return row[0]

    def _tile(self, level: int, number: int) -> list[bytes]:
        if (level, number) not in self._tiles:
            start = number * TILE_WIDTH
            stop = min(start + TILE_WIDTH, self._size >> (TILE_HEIGHT * level))
            self._tiles[level, number] = sql.hashes(
                self._db, self._tenant, level, start, stop, self._epoch
            )
        return self._tiles[level, number]
