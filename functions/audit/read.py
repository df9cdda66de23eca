"""Reading the log: tiles, bundles, proofs and pages, each as of one moment.

`epoch` is that of the log to read, the tenant's newest where none is named.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.audit import private
from functions.audit import store as sql
from functions.audit.merkle import inclusion_proof, node_hash
from functions.audit.tiles import TILE_HEIGHT, TILE_WIDTH, bundle_bytes, tile_bytes
from functions.problems import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from functions.audit.store import Entry, Selection, Store

PAGE_ENTRIES_MAX: Final = 200
_INDEX_MAX: Final = 2**63 - 1


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


class Reading:
    """One look at a tenant's log, in one transaction."""

    def __init__(self, db: Connection, tenant: str, epoch: int | None = None) -> None:
        self._db = db
        self._tenant = tenant
        self._epoch = epoch

    def newest(self) -> str:
        """Return the newest checkpoint of the newest epoch; "" of an empty log."""
        size = sql.size_of(self._db, self._tenant)
        return sql.note_of(self._db, self._tenant, size)

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint, or raise `NotFound` for an empty log."""
        return self._newest()[1]

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile, or raise `NotFound`."""
        start = _start(number)
        found = sql.hashes(
            self._db, self._tenant, level, start, start + width, self._epoch
        )
        if len(found) != width:
            raise NotFound("the log has no such tile")
        return tile_bytes(found)

    def bundle(self, number: int, width: int) -> bytes:
        """Return the first `width` entries of a bundle, or raise `NotFound`.

        A bundle of which a leaf is pruned is not there any more.
        """
        start = _start(number)
        wanted = sql.Selection(
            self._tenant, start=start, stop=start + width, epoch=self._epoch
        )
        found = sql.select_entries(self._db, wanted, width)
        minimum = sql.minimum_of(self._db, self._tenant, self._epoch)
        if start < minimum:
            raise NotFound(
                f"entries before {minimum} were dropped: their time was over"
            )
        if len(found) != width:
            raise NotFound("the log has no such entries")
        return bundle_bytes(entry.leaf for entry in found)

    def prove(self, index: int) -> Proof:
        """Return the proof of one entry, or raise `NotFound`."""
        size, note = self._newest()
        if index >= size:
            raise NotFound(f"the log has no entry {index}")
        nodes = Nodes(self._db, self._tenant, size, self._epoch)
        path = inclusion_proof(index, size, nodes)
        return Proof(index, size, nodes(0, index), tuple(path), note)

    def page(
        self, wanted: Selection, limit: int = PAGE_ENTRIES_MAX
    ) -> tuple[list[Entry], int | None]:
        """Return up to `limit` entries, and the index to go on from if there are more.

        `wanted` names tenant and epoch itself.
        """
        found = sql.select_entries(self._db, wanted, limit + 1)
        if len(found) <= limit:
            return found, None
        return found[:limit], found[limit].index

    def statement(self, job: str) -> str:
        """Return the signed statement of a job's erasure, or raise `NotFound`."""
        text = private.statement(self._db, self._tenant, job)
        if not text:
            raise NotFound("no such job is erased")
        return text

    def _newest(self) -> tuple[int, str]:
        size = sql.size_of(self._db, self._tenant, self._epoch)
        if size == 0:
            raise NotFound("the log is empty")
        return size, sql.note_of(self._db, self._tenant, size, self._epoch)


def _start(number: int) -> int:
    """Return where a tile begins, or raise `NotFound` beyond what a database counts."""
    start = number * TILE_WIDTH
    if start > _INDEX_MAX - TILE_WIDTH:
        raise NotFound("the log is not that large")
    return start


@contextmanager
def reading(store: Store, tenant: str, epoch: int | None = None) -> Iterator[Reading]:
    """Yield a look at a tenant's log."""
    with store.reading(tenant) as db:
        yield Reading(db, tenant, epoch)


def checkpoint(store: Store, tenant: str, epoch: int | None = None) -> str:
    """Return what `Reading.checkpoint` does."""
    with reading(store, tenant, epoch) as log:
        return log.checkpoint()


def tile(
    store: Store,
    tenant: str,
    level: int,
    number: int,
    width: int,
    epoch: int | None = None,
) -> bytes:
    """Return what `Reading.tile` does."""
    with reading(store, tenant, epoch) as log:
        return log.tile(level, number, width)


def bundle(
    store: Store, tenant: str, number: int, width: int, epoch: int | None = None
) -> bytes:
    """Return what `Reading.bundle` does."""
    with reading(store, tenant, epoch) as log:
        return log.bundle(number, width)


def prove(store: Store, tenant: str, index: int, epoch: int | None = None) -> Proof:
    """Return what `Reading.prove` does."""
    with reading(store, tenant, epoch) as log:
        return log.prove(index)


def page(
    store: Store, wanted: Selection, limit: int = PAGE_ENTRIES_MAX
) -> tuple[list[Entry], int | None]:
    """Return what `Reading.page` does."""
    with reading(store, wanted.tenant, wanted.epoch) as log:
        return log.page(wanted, limit)


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
