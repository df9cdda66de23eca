"""What a bundle says of itself: `manifest.json`, version 1.

Nothing in it is believed: `guise audit verify` holds every member to what the
bundle holds.  All positions are indices of entries; a range has no `stop` in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from functions.audit.merkle import VerificationError
from functions.audit.proven import needed
from functions.audit.tiles import TILE_WIDTH, tile_path

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION: Final = 1


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The indices from `start` up to, and without, `stop`."""

    start: int
    stop: int

    def __bool__(self) -> bool:
        """Return whether there is anything in it."""
        return self.stop > self.start

    def rounded(self, size: int) -> Range:
        """Return the whole bundles of a log of `size` entries that hold it."""
        if not self:
            return Range(0, 0)
        stop = -(-self.stop // TILE_WIDTH) * TILE_WIDTH
        return Range(self.start - self.start % TILE_WIDTH, min(size, stop))


class Times(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The earliest and the latest time that entries state, RFC 3339."""

    first: str
    last: str


class Logged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One log: a tenant's, of one epoch, at the size of its `checkpoint`.

    `wanted` is the smallest range with every entry of the period; `covered` is what
    the bundle holds for it, in whole tiles of 256.  Those of them below `minimum` are
    there as hashes alone: they are pruned.  `left_out` counts the entries before and
    after.  `single` are the entries under `proofs/`, `checkpoints` counts the notes
    under `checkpoints/`, and `times` is about the wanted entries.
    """

    epoch: int
    origin: str
    folder: str
    size: int
    wanted: Range
    covered: Range
    minimum: int
    left_out: tuple[int, int]
    single: tuple[int, ...] = ()
    checkpoints: int = 0
    times: Times | None = None

    def numbers(self) -> range:
        """Return the number of each bundle of entries that is covered."""
        stop = -(-self.covered.stop // TILE_WIDTH)
        stop = -(-self.covered.stop // TILE_WIDTH)
        return range(self.covered.start // TILE_WIDTH, stop)

    def kept(self, number: int) -> bool:
        """Return whether a covered bundle of entries is not pruned."""
        return number * TILE_WIDTH >= self.minimum

    def width(self, number: int) -> int:
        """Return how many entries a bundle has."""
        return min(TILE_WIDTH, self.size - number * TILE_WIDTH)

    def tile_name(self, level: int, number: int, width: int) -> str:
        """Return the name of a tile's file."""
        return f"{self.folder}tile/{level}/{tile_path(number, width)}"

    def entries_name(self, number: int) -> str:
        """Return the name of the file of a bundle of entries."""
        path = tile_path(number, self.width(number))
        return f"{self.folder}tile/entries/{path}"

    def proof_name(self, index: int) -> str:
        """Return the name of the file that proves a single entry."""
        return f"{self.folder}proofs/{index}.tlog-proof"

    def note_name(self, size: int) -> str:
        """Return the name of the checkpoint that was signed at a size."""
        return f"{self.folder}checkpoints/{size:020d}"

    def names(self) -> Iterator[str]:
        """Yield the name of each of its files, but for earlier checkpoints."""
        yield f"{self.folder}checkpoint"
        for tile in needed(self.size, self.covered.start, self.covered.stop):
            yield self.tile_name(*tile)
        yield from (self.entries_name(n) for n in self.numbers() if self.kept(n))
        yield from (self.proof_name(index) for index in self.single)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bundle.  `after` and `before` bound its period, `job` names its one job.

    The logs are in the order of their epochs, and the last is the current one.
    """

    version: int
    generator: str
    tenant: str
    logs: tuple[Logged, ...]
    after: str | None = msgspec.field(default=None, name="from")
    before: str | None = msgspec.field(default=None, name="to")
    job: str | None = None

    def data(self) -> bytes:
        """Return the manifest as it is written: JSON for people to read as well."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Return the manifest, or raise `VerificationError`."""
        try:
            version = msgspec.json.decode(data, type=_Version).version
            if version != VERSION:
                raise VerificationError(f"the bundle has version {version}, not 1")
            return msgspec.json.decode(data, type=cls)
        except (ValueError, RecursionError) as error:  # not UTF-8, too
            raise VerificationError(f"the manifest is malformed: {error}") from error


class _Version(msgspec.Struct, frozen=True):
    version: int
