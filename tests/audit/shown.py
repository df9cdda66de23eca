"""A log as it is shown to a reader: honest, or made by somebody with the log's key."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from functions.audit.merkle import leaf_hash, node_hash, tree_root
from functions.audit.notes import open_kept
from functions.audit.tiles import (
    TILE_WIDTH,
    Checkpoint,
    NoteVerifier,
    bundle_bytes,
    origin,
    sign_checkpoint,
    tile_bytes,
)
from functions.keys import MemoryKeys
from functions.problems import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.audit.notes import Kept
    from functions.keys import Signer

KEYS = MemoryKeys()
SIGNER = KEYS.signer("audit")
VERIFIERS = [NoteVerifier("guise.audit/acme", SIGNER.public_bytes())]


@dataclass(frozen=True)
class Shown:
    """A `LogSource` over leaves in memory; `size` and `root` are what it signs."""

    leaves: Sequence[bytes] = ()
    tenant: str = "acme"
    epoch: int = 1
    signer: Signer = field(default=SIGNER)
    root: bytes | None = None

    def checkpoint(self) -> str:
        """Return the newest signed note."""
        if not self.leaves:
            raise NotFound("the log is empty")
        root = self.root or tree_root(map(leaf_hash, self.leaves))
        name = origin(self.tenant, self.epoch)
        return sign_checkpoint(Checkpoint(name, len(self.leaves), root), self.signer)

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first hashes of a tile."""
        row = [leaf_hash(each) for each in self.leaves]
        for _ in range(8 * level):
            pairs = zip(row[::2], row[1::2], strict=False)
            row = [node_hash(*pair) for pair in pairs]
        start = number * TILE_WIDTH
        return tile_bytes(row[start : start + width])

    def entries(self, number: int, width: int) -> bytes:
        """Return the first entries of a bundle."""
        start = number * TILE_WIDTH
        return bundle_bytes(self.leaves[start : start + width])

    def at(self, size: int) -> Shown:
        """Return the log as it was at an earlier size."""
        return replace(self, leaves=self.leaves[:size])

    def kept(self, where: str = "") -> Kept:
        """Return its checkpoint as somebody keeps it."""
        return open_kept(self.checkpoint(), VERIFIERS, where)


def leaves(number: int, text: str = "entry") -> list[bytes]:
    """Return entries of a log."""
    return [f"{text} {each}".encode() for each in range(number)]
