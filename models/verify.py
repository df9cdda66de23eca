"""Prove that a folder is the pack its manifest describes.  Light, and fast.

This lies on the cold start: it reads each file once, and imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import stat
from typing import TYPE_CHECKING

from models import manifest, signature
from models.errors import ModelError, PackRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader
    from pathlib import Path

    from models.manifest import File, Pack
    from models.signature import Role, Trust

__all__ = [
    "ModelError",
    "PackRefused",
    "compare",
    "signatures",
    "verify",
    "verify_as",
]


def verify(folder: Path, *, full: bool = True, trust: Trust | None = None) -> Pack:
    """Return the manifest of the pack in `folder`, once everything in it is proved.

    Every file must be there, be a plain file, and have its size and SHA-256; nothing
    else may be there but the two signatures.  `full=False` leaves the digests out
    and checks the rest, for a folder that something else already vouches for (a
    signed image layer).  With `trust` the signatures are checked first; without it
    they are not looked at, and nothing of `cryptography` is imported.

    Raises:
        PackRefused: the folder is not that pack; the message names the file.
    """
    pack = _manifest(folder)
    files = {file.name for file in pack.files}
    _refuse_strangers(folder, {manifest.NAME, *signature.NAMES.values(), *files})
    if trust is not None:
        signature.check(pack, signatures(folder), trust)
    for file in pack.files:
        _check(folder, file, full=full)
    return pack


def compare(folder: Path, files: Iterable[File]) -> None:
    """Hold these files of a pack against what its manifest says of them.

    Raises:
        PackRefused: one has another size or SHA-256; the message names it.
    """
    for file in files:
        _check(folder, file, full=True)


def verify_as(
    folder: Path, name: str, version: str, *, trust: Trust | None = None
) -> Pack:
    """Verify, and refuse a whole pack that lies in another one's place.

    Raises:
        PackRefused: as `verify`.
    """
    pack = verify(folder, trust=trust)
    if (pack.id, pack.version) != (name, version):
        raise PackRefused(f"{manifest.NAME}: it is {pack.id} {pack.version}")
    return pack


def signatures(folder: Path) -> dict[Role, bytes]:
    """Return the signature files that lie in `folder`, unchecked.

    Raises:
        PackRefused: one is there and cannot be read; the message names it.
    """
    found: dict[Role, bytes] = {}
    for role, name in signature.NAMES.items():
        if os.path.lexists(folder / name):
            with _opened(folder, name) as file:
                found[role] = file.read(signature.BYTES_MAX + 1)
    return found


def _manifest(folder: Path) -> Pack:
    with _opened(folder, manifest.NAME) as file:
        return manifest.decode(file.read(manifest.BYTES_MAX + 1))


def _refuse_strangers(folder: Path, known: set[str]) -> None:
    for name in sorted(path.name for path in folder.iterdir()):
        if name not in known:
            raise PackRefused(f"{name}: not in the manifest")


def _check(folder: Path, expected: File, *, full: bool) -> None:
    with _opened(folder, expected.name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != expected.bytes:
            raise PackRefused(f"{expected.name}: {size} bytes, not {expected.bytes}")
        if full:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if not hmac.compare_digest(digest, expected.sha256):
                raise PackRefused(f"{expected.name}: its SHA-256 is {digest}")


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[BufferedReader]:
    """Open a plain file, and blame it for whatever fails while it is open."""
    try:
        with open(folder / name, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PackRefused(f"{name}: not a plain file")
            yield file
    except OSError as error:
        raise PackRefused(f"{name}: {_reason(error)}") from error


def _open(path: str, flags: int) -> int:
    """Open without following a link, and without waiting for a pipe's writer."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _reason(error: OSError) -> str:
    known = {errno.ELOOP: "a symbolic link", errno.ENOENT: "missing"}
    return known.get(error.errno or 0, error.strerror or "unreadable")
