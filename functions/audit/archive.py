"""A bundle's file, read as what a stranger made: nothing in it is believed.

A bundle is a zip.  Its directory is read once and refused unless every name in it
is one of a bundle's own, once, of a size that such a file can have, stored plainly
or deflated, and no two lie over one another.  Nothing is ever unpacked to disk.

| name | what it is |
|---|---|
| `manifest.json` | what the bundle says it holds |
| `README.md`, `keys.txt` | for people; not trusted |
| `checkpoint`, `tile/…` | the current log, as c2sp.org/tlog-tiles |
| `checkpoints/<size in 20 digits>` | notes that the log signed at earlier sizes |
| `proofs/<index>.tlog-proof` | single entries, as c2sp.org/tlog-proof |
| `epochs/<n>/…` | an earlier log of the same tenant, with the same files |
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from functions.audit.merkle import HASH_BYTES, VerificationError
from functions.audit.tiles import (
    ENTRY_BYTES_MAX,
    LEVEL_MAX,
    NOTE_CHARACTERS_MAX,
    TILE_WIDTH,
    parse_tile_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO, Self

MANIFEST: Final = "manifest.json"
README: Final = "README.md"
KEYS: Final = "keys.txt"
FILES_MAX: Final = 262_144
"""About 33 million entries; a larger log is exported by periods."""
NAME_BYTES_MAX: Final = 128
DOCUMENT_BYTES_MAX: Final = 4_194_304
NOTE_BYTES_MAX: Final = 2 * NOTE_CHARACTERS_MAX
PROOF_BYTES_MAX: Final = 2 * NOTE_BYTES_MAX
BUNDLE_BYTES_MAX: Final = TILE_WIDTH * (2 + ENTRY_BYTES_MAX)

_END_BYTES: Final = 22
_END64_BYTES: Final = 56 + 20
_LOCAL_BYTES: Final = 30
_RECORD_BYTES: Final = 46 + NAME_BYTES_MAX + 64
_FOLDER: Final = re.compile(r"\Aepochs/[1-9][0-9]{0,4}/")
_NOTE: Final = re.compile(r"checkpoint|checkpoints/[0-9]{20}")
_PROOF: Final = re.compile(r"proofs/(?:0|[1-9][0-9]{0,18})\.tlog-proof")
_TILE: Final = re.compile(r"tile/(entries|0|[1-9][0-9]?)/(.*)")
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
# The last: a name before the file itself that is not the UTF-8 which it says it is.
_NOT_READ: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    ValueError,
)


class Archive:
    """The files in a bundle, each read whole and checked against its size.

    Raises `VerificationError` for whatever is not a bundle of ours, and `OSError`.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._zip, self._known = _opened(self._file)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    def names(self) -> Iterable[str]:
        """Return the name of each file."""
        return self._known.keys()

    def read(self, name: str) -> bytes:
        """Return a file, or raise `VerificationError`."""
        info = self._known.get(name)
        if info is None:
            raise VerificationError(f"{name} is not in the bundle")
        try:
            with self._zip.open(info) as stream:
                # Not `read()`: that inflates up to 2 GiB before it looks at the size.
                data = stream.read(info.file_size + 1)
        except _NOT_READ as error:
            raise VerificationError(f"{name} cannot be read: {error}") from error
        if len(data) != info.file_size:
            raise VerificationError(f"{name} has not the size it states")
        return data

    def text(self, name: str) -> str:
        """Return a file of UTF-8 text, or raise `VerificationError`."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise VerificationError(f"{name} is not UTF-8 text") from error


def _opened(file: BinaryIO) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    _check_end(file)
    try:
        found = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise VerificationError(f"not a bundle: {error}") from error
    known: dict[str, zipfile.ZipInfo] = {}
    for info in found.infolist():
        _check(info)
        if info.filename in known:
            raise VerificationError(f"{info.filename} is there twice")
        known[info.filename] = info
    check_places(found.infolist(), found.start_dir)
    return found, known


def _check_end(file: BinaryIO) -> None:
    """Refuse what is no zip, or has a directory larger than any bundle's.

    The library reads the whole of it before anybody can look at it.
    """
    size = file.seek(0, 2)
    if size < _END_BYTES:
        raise VerificationError("not a bundle: too short for a zip")
    file.seek(size - _END_BYTES)
    end = file.read(_END_BYTES)
    if not end.startswith(b"PK\x05\x06") or end[20:] != b"\x00\x00":
        raise VerificationError("not a bundle: no zip, or cut short, or not ours")
    listed = int.from_bytes(end[12:16], "little")
    file.seek(max(0, size - _END_BYTES - _END64_BYTES))
    end = file.read(_END64_BYTES)
    if end[-20:].startswith(b"PK\x06\x07"):  # of a zip with many files
        listed = int.from_bytes(end[40:48], "little")
    if listed > FILES_MAX * _RECORD_BYTES:
        raise VerificationError("not a bundle: its directory is too large")


def _check(info: zipfile.ZipInfo) -> None:
    """Refuse a file that no bundle has."""
    shown = ascii(info.orig_filename[:NAME_BYTES_MAX])
    if info.orig_filename != info.filename or not info.filename.isascii():
        raise VerificationError(f"{shown} is no name in a bundle")
    most = _bytes_max(info.filename)
    if not most:
        raise VerificationError(f"{shown} is no name in a bundle")
    if info.file_size > most or info.compress_size > most + 1024:
        raise VerificationError(f"{shown} has more than {most} bytes")
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        raise VerificationError(f"{shown} is encrypted, or packed in another way")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise VerificationError(f"{shown} is a link, or something not a file")


def check_places(infos: list[zipfile.ZipInfo], end: int) -> None:
    """Refuse files that lie over one another: a small zip could hold terabytes."""
    if len(infos) > FILES_MAX:
        raise VerificationError(f"over {FILES_MAX} files")
    ordered = sorted(infos, key=lambda each: each.header_offset)
    starts = [*(each.header_offset for each in ordered), end]
    if starts[0] < 0:
        raise VerificationError("not a bundle: a file lies before its beginning")
    for info, (start, following) in zip(ordered, pairwise(starts), strict=True):
        if start + _LOCAL_BYTES + len(info.filename) + info.compress_size > following:
            raise VerificationError(f"{info.filename} lies over another file")


def _bytes_max(name: str) -> int:
    """Return how many bytes the file of this name may have; 0 if there is none such."""
    if name in {MANIFEST, README, KEYS}:
        return DOCUMENT_BYTES_MAX
    rest = _FOLDER.sub("", name, count=1)
    if _NOTE.fullmatch(rest):
        return NOTE_BYTES_MAX
    if _PROOF.fullmatch(rest):
        return PROOF_BYTES_MAX
    tile = _TILE.fullmatch(rest)
    found = parse_tile_path(tile[2]) if tile else None
    if tile is None or found is None:
        return 0
    if tile[1] == "entries":
        return BUNDLE_BYTES_MAX
    return found[1] * HASH_BYTES if int(tile[1]) <= LEVEL_MAX else 0
