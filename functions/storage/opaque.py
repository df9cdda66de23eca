"""Names on the disk that say nothing: each part of a key, encrypted for itself.

AES-256-SIV (RFC 5297) is deterministic, so that a name is found without a list of
them; the associated data are the folders above, so that the same part is called
otherwise elsewhere.  A part is padded to 32 bytes before, and is in base64 after, in
pieces where it is too long for one name of a file: all but the last are folders whose
names end with a tilde.
"""

from __future__ import annotations

import base64
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.storage.envelope import TIME_BYTES, time_in
from functions.storage.layout import Entry, Plain, speakable
from functions.storage.walk import FOLDER, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    from functions.tenant import Key

MORE: Final = "~"
PIECE_CHARACTERS: Final = 240
"""Of a name: file systems take 255 bytes."""
PADDED_BYTES: Final = 32
_PIECES_MAX: Final = 4
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OURS: Final = re.compile(r"[A-Za-z0-9_-]{64,240}~?")
_PLAIN: Final = Plain()


def is_opaque(name: str) -> bool:
    """Return whether a file or folder may be called so by us."""
    return _OURS.fullmatch(name) is not None


def files_in(folder: Path) -> Iterator[Path]:
    """Yield every file in a store's folder that lies under a name of ours."""
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():  # noqa: PTH208  # names alone
        if not is_opaque(name):
            continue
        place = folder / name
        if place.is_file():
            yield place
        for inner, _, files in os.walk(place):
            yield from (Path(inner, each) for each in files)


class Opaque:
    """A `Layout` whose names are encrypted, and whose files say their own time."""

    def __init__(self, names: Callable[[], bytes]) -> None:
        self._names = names

    def parts(self, key: Key) -> list[str]:
        """Return the folders and the file of a key, or raise `InvalidRequest`."""
        cipher = _cipher(self._names())
        found: list[str] = []
        head = ""
        for part in _PLAIN.parts(key):
            found += _pieces(_encrypted(cipher, head, part))
            head += part + "/"
        return found

    def entries(self, folder: int, head: str) -> Iterator[Entry]:
        """Yield what is in a folder and is ours."""
        cipher = _cipher(self._names())
        for path, is_folder in _whole(folder, ()):
            text = "".join(path).replace(MORE, "")
            name = _decrypted(cipher, head, text)
            if name is not None and speakable(head + name):
                yield Entry(name, path, is_folder)

    def time_at(self, folder: int, name: str, status: os.stat_result) -> int:
        """Return when the object in a file was written."""
        with opened(name, _READ, folder) as file:
            return self.time_of(file, status)

    def time_of(self, file: int, status: os.stat_result) -> int:
        """Return when the object in an open file was written.

        One that says nothing of it is damaged, and is found by its file's own time.
        """
        found = time_in(os.pread(file, TIME_BYTES, 0))
        return status.st_mtime_ns if found is None else found

    def stamp(self, file: int, time_ns: int) -> None:
        """Refuse: only who has an object's key can write its header."""
        raise OSError(errno.ENOTSUP, f"no header for {file} at {time_ns}")


def _whole(
    folder: int, before: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the path of every file and folder whose name is complete."""
    with os.scandir(folder) as found:
        entries = [
            (each.name, each.is_dir(follow_symlinks=False))
            for each in found
            if is_opaque(each.name)
            and (
                each.is_dir(follow_symlinks=False)
                or each.is_file(follow_symlinks=False)
            )
        ]
    for name, is_folder in entries:
        if not name.endswith(MORE):
            yield (*before, name), is_folder
        elif is_folder and len(before) < _PIECES_MAX:
            try:
                with opened(name, FOLDER, folder) as deeper:
                    yield from _whole(deeper, (*before, name))
            except FileNotFoundError:  # while we were looking
                continue


def _cipher(key: bytes) -> AESSIV:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(key)


def _encrypted(cipher: AESSIV, head: str, part: str) -> str:
    data = part.encode()
    padded = data.ljust(-(-len(data) // PADDED_BYTES) * PADDED_BYTES, b"\0")
    sealed = cipher.encrypt(padded, [_bound(head)])
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _decrypted(cipher: AESSIV, head: str, text: str) -> str | None:
    from cryptography.exceptions import InvalidTag

    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return cipher.decrypt(sealed, [_bound(head)]).rstrip(b"\0").decode()
    except (InvalidTag, ValueError):
        return None


def _bound(head: str) -> bytes:
    return f"guise name v1\0{head}".encode()


def _pieces(text: str) -> list[str]:
    starts = range(0, len(text), PIECE_CHARACTERS)
    found = [text[start : start + PIECE_CHARACTERS] for start in starts]
    return [*(piece + MORE for piece in found[:-1]), found[-1]]
