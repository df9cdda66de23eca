"""Writing a bundle: one file with all that an auditor needs, and no trust in us.

The same state of the log gives the same bytes: files are in a fixed order with a
fixed time, and nothing says when or where the bundle was made.  It is written beside
its place and renamed, so that there is a whole bundle or none.
"""

from __future__ import annotations

import os
import secrets
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import structs

from functions import __version__, events
from functions.audit.archive import FILES_MAX, KEYS, MANIFEST, README
from functions.audit.manifest import VERSION, Logged, Manifest, Times
from functions.audit.merkle import inclusion_proof
from functions.audit.proven import Tiles, needed
from functions.audit.readme import readme
from functions.audit.tiles import (
    TILE_WIDTH,
    NoteVerifier,
    origin,
    parse_bundle,
    proof_text,
)
from functions.problems import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from functions.audit.plan import Piece

    Progress = Callable[[int, int], None]
    """Told how many entries of how many are written."""

_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
_FILE: Final = 0o100644 << 16
_UNIX: Final = 3


@dataclass(frozen=True, slots=True)
class About:
    """What a bundle says of itself: whose it is, and the period or job it is of.

    `keys` are the raw public keys that may have signed the log.
    """

    tenant: str
    keys: Sequence[bytes]
    after: str | None = None
    before: str | None = None
    job: str | None = None


def _untold(_done: int, _all: int) -> None:
    """Tell nobody."""


def export(
    path: Path,
    about: About,
    pieces: Sequence[Piece],
    *,
    progress: Progress = _untold,
) -> Manifest:
    """Write the bundle of `pieces`, the current log last, to `path`.

    Raises what their sources raise, `TooLarge` where it would be no bundle any more,
    and `OSError`.
    """
    files = sum(piece.wanted.stop - piece.wanted.start for piece in pieces)
    if 2 * files // TILE_WIDTH > FILES_MAX // 2:
        raise TooLarge("a bundle has at most 16 million entries: name a period")
    with _beside(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        writer = _Writer(file, progress, pieces)
        last = len(pieces) - 1
        logs = [
            writer.add_log(about.tenant, piece, "" if at == last else None)
            for at, piece in enumerate(pieces)
        ]
        manifest = Manifest(
            version=VERSION,
            generator=f"guise {__version__}",
            tenant=about.tenant,
            logs=tuple(logs),
            after=about.after,
            before=about.before,
            job=about.job,
        )
        writer.add(KEYS, _lines(about, logs))
        writer.add(README, readme(manifest).encode())
        writer.add(MANIFEST, manifest.data())
    return manifest


def _lines(about: About, logs: Iterable[Logged]) -> bytes:
    """Return the verifier keys: a line for each key and log."""
    lines = [NoteVerifier(log.origin, key).line for log in logs for key in about.keys]
    return "".join(f"{line}\n" for line in lines).encode()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield where to write; it becomes `path`, durably, unless something is raised."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Writer:
    """A zip while logs are written into it."""

    def __init__(
        self, file: zipfile.ZipFile, progress: Progress, pieces: Sequence[Piece]
    ) -> None:
        self._file = file
        self._progress = progress
        covered = [each.wanted.rounded(each.size) for each in pieces]
        self._all = sum(each.stop - each.start for each in covered)
        self._done = 0

    def add(self, name: str, data: bytes, *, packed: bool = True) -> None:
        """Write one file."""
        info = zipfile.ZipInfo(name, _LONG_AGO)
        info.create_system, info.external_attr = _UNIX, _FILE
        info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        self._file.writestr(info, data)

    def add_log(self, tenant: str, piece: Piece, folder: str | None) -> Logged:
        """Write one log, and return what the manifest says of it."""
        size, epoch = piece.size, piece.epoch
        covered = piece.wanted.rounded(size)
        logged = Logged(
            epoch=epoch,
            origin=origin(tenant, epoch),
            folder=f"epochs/{epoch}/" if folder is None else folder,
            size=size,
            wanted=piece.wanted,
            covered=covered,
            minimum=piece.minimum,
            left_out=(covered.start, size - covered.stop),
            single=piece.single,
            checkpoints=len(piece.notes),
        )
        self.add(f"{logged.folder}checkpoint", piece.note.encode())
        for earlier, note in sorted(piece.notes.items()):
            self.add(logged.note_name(earlier), note.encode())
        tiles = Tiles(piece.source.tile, size)
        for level, number, width in needed(size, covered.start, covered.stop):
            name = logged.tile_name(level, number, width)
            self.add(name, tiles.tile(level, number), packed=False)
        for index in piece.single:
            self._add_single(logged, piece, tiles, index)
        return structs.replace(logged, times=self._add_entries(logged, piece))

    def _add_single(
        self, logged: Logged, piece: Piece, tiles: Tiles, index: int
    ) -> None:
        """Write one entry with its proof, as a file that needs nothing else."""
        number, offset = divmod(index, TILE_WIDTH)
        data = piece.source.entries(number, logged.width(number))
        path = inclusion_proof(index, logged.size, tiles.node)
        text = proof_text(index, path, piece.note, parse_bundle(data)[offset])
        self.add(logged.proof_name(index), text.encode())

    def _add_entries(self, logged: Logged, piece: Piece) -> Times | None:
        """Write the entries that are covered; return the times of those wanted."""
        times = _Between()
        for number in logged.numbers():
            width = logged.width(number)
            if logged.kept(number):
                data = piece.source.entries(number, width)
                self.add(logged.entries_name(number), data)
                for index, leaf in enumerate(parse_bundle(data), number * TILE_WIDTH):
                    if logged.wanted.start <= index < logged.wanted.stop:
                        times.see(leaf)
            self._done += width
            self._progress(self._done, self._all)
        return times.times()


class _Stated(msgspec.Struct):
    time: str


class _Between:
    """The earliest and the latest of the times that entries state."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(_Stated).decode
        self._first: tuple[int, str] | None = None
        self._last: tuple[int, str] | None = None

    def see(self, leaf: bytes) -> None:
        """Look at an entry; what states no time is the verifier's to find."""
        try:
            text = self._decode(leaf).time
            at = events.milliseconds(text)
        except (ValueError, InvalidRequest, RecursionError):
            return
        if self._first is None or at < self._first[0]:
            self._first = at, text
        if self._last is None or at > self._last[0]:
            self._last = at, text

    def times(self) -> Times | None:
        """Return both, or None where nothing was seen."""
        if self._first is None or self._last is None:
            return None
        return Times(self._first[1], self._last[1])
