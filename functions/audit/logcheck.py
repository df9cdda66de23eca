"""Checking one log of a bundle: down from its signed checkpoint to each entry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from functions import events
from functions.audit.continued import CONTINUED
from functions.audit.facts import job_of, read_leaf
from functions.audit.merkle import (
    HASH_BYTES,
    VerificationError,
    fold,
    leaf_hash,
    verify_inclusion,
)
from functions.audit.proven import Tiles
from functions.audit.tiles import (
    TILE_WIDTH,
    ProofFile,
    open_checkpoint,
    parse_bundle,
)
from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functions.audit.archive import Archive
    from functions.audit.facts import Facts
    from functions.audit.manifest import Logged, Manifest
    from functions.audit.tiles import Checkpoint, NoteVerifier


@dataclass(frozen=True, slots=True)
class Fault:
    """What does not hold, and where: the entries from `first` to `last`.

    `job` and `type` are what the one entry says of itself.  `epoch` is 0, and the
    others are empty, where it is not about entries.
    """

    text: str
    epoch: int = 0
    first: int | None = None
    last: int | None = None
    job: str = ""
    type: str = ""


class Broken(VerificationError):
    """A fault was found."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


@dataclass(slots=True)
class Checked:
    """What is proven of one log: `entries` of its `size`, under its `root`, hex.

    `hashes` counts the covered entries that are pruned; `first` and `last` are the
    times that the wanted entries state.
    """

    epoch: int
    origin: str
    size: int
    root: str
    entries: int = 0
    hashes: int = 0
    checkpoints: int = 0
    first: str = ""
    last: str = ""
    types: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Period:
    """Milliseconds since the epoch; `before` itself is not in."""

    after: int | None
    before: int | None

    @classmethod
    def of(cls, manifest: Manifest) -> Period:
        """Return the period that a bundle is of, or raise `VerificationError`."""
        try:
            bounds = [
                None if text is None else events.milliseconds(text)
                for text in (manifest.after, manifest.before)
            ]
        except InvalidRequest as error:
            raise VerificationError("the manifest's period is not of times") from error
        return cls(*bounds)

    def __contains__(self, at: int) -> bool:
        """Return whether a moment lies in it."""
        after = self.after is None or at >= self.after
        return after and (self.before is None or at < self.before)


@dataclass(frozen=True, slots=True)
class Context:
    """What the logs of one bundle are checked with.

    `tell` is told how many more entries are done; `saw` is shown each that is proven,
    with its epoch and index.
    """

    archive: Archive
    manifest: Manifest
    period: Period
    facts: Facts
    tell: Callable[[int], None]
    saw: Callable[[int, int, bytes], None]


def about(epoch: int, index: int, event: dict[str, Any] | None, text: str) -> Broken:
    """Return the fault of one entry, which may be unreadable."""
    named = event or {}
    kind = named.get("type")
    kind, job = kind if isinstance(kind, str) else "", job_of(named)
    return Broken(Fault(f"entry {index} {text}", epoch, index, index, job, kind))


def shown(leaf: bytes) -> dict[str, Any] | None:
    """Return what an entry says, if it can be read at all."""
    try:
        return read_leaf(leaf)
    except VerificationError:
        return None


class LogCheck:
    """One log while it is checked; `checked` is what is known of it so far."""

    def __init__(
        self, context: Context, logged: Logged, keys: Sequence[NoteVerifier]
    ) -> None:
        self._context = context
        self._logged = logged
        self._keys = keys
        self._tiles = Tiles(self._read_tile, logged.size)
        self._failing: list[int] = []
        self._earliest: int | None = None
        self._latest: int | None = None
        self.note = context.archive.text(f"{logged.folder}checkpoint")
        self.checkpoint = self._signed(self.note, logged.size)
        name, root = self.checkpoint.origin, self.checkpoint.root.hex()
        self.checked = Checked(logged.epoch, name, logged.size, root)

    def check(self, sizes: Sequence[int]) -> None:
        """Check the log, and the notes it signed at `sizes`.

        Raises `VerificationError`.
        """
        for size in sizes:
            self._check_note(size)
        whole = self._tiles.prove(self._logged.size, self.checkpoint.root)
        if not whole:
            self._failing.append(self._logged.size)
        self._check_singles()
        for number in self._logged.numbers():
            self._check_bundle(number)
        if not whole:
            raise self._range(0, "the tiles do not lead to the signed root")
        if self._failing:
            raise self._range(
                max((size for size in sizes if size < self._failing[0]), default=0),
                "the log signed two histories: its checkpoint of "
                f"{self._failing[0]} entries is not of this one",
            )
        self._check_times()

    # --- checkpoints ---------------------------------------------------------

    def _signed(self, note: str, size: int) -> Checkpoint:
        """Return a checkpoint that one of the trusted keys signed."""
        logged = self._logged
        if not self._keys:
            raise VerificationError(f"no key of {logged.origin} was given")
        found = open_checkpoint(note, self._keys)
        if found.size != size:
            raise VerificationError(
                f"a checkpoint is of {found.size} entries, where {size} are claimed"
            )
        return found

    def _check_note(self, size: int) -> None:
        name = self._logged.note_name(size)
        found = self._signed(self._context.archive.text(name), size)
        self.checked.checkpoints += 1
        if not self._tiles.prove(size, found.root):
            self._failing.append(size)

    # --- tiles and entries ---------------------------------------------------

    def _read_tile(self, level: int, number: int, width: int) -> bytes:
        name = self._logged.tile_name(level, number, width)
        row = self._context.archive.read(name)
        if len(row) != width * HASH_BYTES:
            raise VerificationError(f"{name} has not {width} hashes")
        return row

    def _check_bundle(self, number: int) -> None:
        """Check one bundle of entries, or the hashes that are left of it."""
        width, start = self._logged.width(number), number * TILE_WIDTH
        row = self._tiles.tile(0, number)
        proven = self._tiles.proven(0, number)
        if not self._logged.kept(number):
            if proven < width:
                raise self._range(start + proven, "the hashes do not lead to the root")
            self.checked.hashes += width
        else:
            name = self._logged.entries_name(number)
            leaves = parse_bundle(self._context.archive.read(name))
            hashes = b"".join([leaf_hash(leaf) for leaf in leaves])
            if hashes != row or proven < width:
                raise self._wrong(number, leaves, hashes, row)
            for index, leaf in enumerate(leaves, start):
                self._see(index, leaf)
            self.checked.entries += width
        self._context.tell(width)

    def _wrong(
        self, number: int, leaves: list[bytes], hashes: bytes, row: bytes
    ) -> Broken:
        """Return what is wrong with a bundle: the first entry, or the narrowest range.

        `hashes` are of its `leaves`, and `row` is what the tile has.
        """
        start, proven = number * TILE_WIDTH, self._tiles.proven(0, number)
        epoch, same = self._logged.epoch, _alike(hashes, row)
        if same < proven and same == len(leaves):
            return about(epoch, start + same, None, "is missing")
        if same < proven or (len(hashes) > len(row) and same == proven):
            event = shown(leaves[same])
            text = "is not what the log holds in this place"
            return about(epoch, start + same, event, text)
        if len(hashes) == len(row) and _folds(hashes, self._tiles.above(0, number)):
            name = self._logged.tile_name(0, number, self._logged.width(number))
            text = f"{name} was changed; the entries are the log's"
            return Broken(Fault(text, epoch, start + same, start + same))
        return self._range(
            start + proven,
            "these entries, or the hashes over them, are not what was signed",
            self._tiles.unproven_until(number),
        )

    def _range(self, first: int, text: str, until: int | None = None) -> Broken:
        """Return a fault of the entries from `first`, as narrow as notes make it."""
        ends = [size for size in self._failing if size > first]
        end = min([until or self._logged.size, self._logged.size, *ends])
        return Broken(Fault(text, self._logged.epoch, first, end - 1))

    def _see(self, index: int, leaf: bytes) -> None:
        """Look at what a proven entry says."""
        event = None
        try:
            event = read_leaf(leaf)
            self._context.facts.see(index, event)
            self._check_time(index, event)
        except VerificationError as error:
            raise about(self._logged.epoch, index, event, str(error)) from error
        self._context.saw(self._logged.epoch, index, leaf)

    def _check_singles(self) -> None:
        """Check the entries that stand alone, each with a proof of its own."""
        job, checkpoint = self._context.manifest.job, self.checkpoint
        for index in self._logged.single:
            text = self._context.archive.text(self._logged.proof_name(index))
            event = None
            try:
                proof = ProofFile.parse(text)
                if (proof.index, proof.checkpoint) != (index, self.note):
                    raise VerificationError("has the proof of something else")  # noqa: TRY301 - one way out
                hashed = leaf_hash(proof.extra)
                size, root = checkpoint.size, checkpoint.root
                verify_inclusion(hashed, index, size, proof.path, root)
                event = read_leaf(proof.extra)
                self._context.facts.see_single(index, event)
                if job and event["type"] != CONTINUED and job_of(event) != job:
                    raise VerificationError("is of another job")  # noqa: TRY301 - one way out
            except VerificationError as error:
                raise about(self._logged.epoch, index, event, str(error)) from error
            self._context.saw(self._logged.epoch, index, proof.extra)
            self.checked.entries += 1

    # --- times ---------------------------------------------------------------

    def _check_time(self, index: int, event: dict[str, Any]) -> None:
        """Hold the range to the period: the smallest that has all of it."""
        try:
            at = events.milliseconds(event["time"])
        except InvalidRequest as error:
            raise VerificationError("states no time") from error
        wanted, inside = self._logged.wanted, at in self._context.period
        if not wanted.start <= index < wanted.stop:
            if inside:
                raise VerificationError("is of the period, and outside of its range")
            return
        if not inside and index in (wanted.start, wanted.stop - 1):
            raise VerificationError("bounds the range, and is not of the period")
        if self._earliest is None or at < self._earliest:
            self._earliest, self.checked.first = at, event["time"]
        if self._latest is None or at > self._latest:
            self._latest, self.checked.last = at, event["time"]

    def _check_times(self) -> None:
        times = self._logged.times
        said = (times.first, times.last) if times else ("", "")
        if said != (self.checked.first, self.checked.last):
            raise VerificationError("the manifest's times are not those of the entries")


def _alike(hashes: bytes, row: bytes) -> int:
    """Return how many hashes are the same, from the first."""
    most = min(len(hashes), len(row)) // HASH_BYTES
    for at in range(most):
        here = slice(at * HASH_BYTES, (at + 1) * HASH_BYTES)
        if hashes[here] != row[here]:
            return at
    return most


def _folds(hashes: bytes, root: bytes) -> bool:
    return bool(root) and fold(hashes) == root
