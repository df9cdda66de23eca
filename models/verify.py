"""Prove that a folder is the pack its manifest describes.  Light, and fast.

This lies on the cold start: it reads each file once, and imports nothing heavy.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from models import manifest
from models.errors import ModelError, PackRefused

if TYPE_CHECKING:
    from pathlib import Path

    from models.manifest import File, Pack

__all__ = ["ModelError", "PackRefused", "verify"]


def verify(folder: Path, *, full: bool = True) -> Pack:
    """Return the manifest of the pack in `folder`, once everything in it is proved.

    Every file must be there, be a plain file, and have its size and SHA-256; nothing
    else may be there.  `full=False` leaves the digests out and checks the rest, for
    a folder that something else already vouches for (a signed image layer).

    Raises:
        PackRefused: the folder is not that pack; the message names the file.
    """
    pack = _manifest(folder)
    _refuse_strangers(folder, {file.name for file in pack.files})
    for file in pack.files:
        _check(folder, file, full=full)
    return pack


def _manifest(folder: Path) -> Pack:
    with _open(folder, manifest.NAME) as file:
        return manifest.decode(file.read(manifest.BYTES_MAX + 1))


def _refuse_strangers(folder: Path, known: set[str]) -> None:
    for name in sorted(os.listdir(folder)):
        if name not in known and name != manifest.NAME:
            raise PackRefused(f"{name}: not in the manifest")


def _check(folder: Path, expected: File, *, full: bool) -> None:
    with _open(folder, expected.name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != expected.bytes:
            raise PackRefused(f"{expected.name}: {size} bytes, not {expected.bytes}")
        if full:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if not hmac.compare_digest(digest, expected.sha256):
                raise PackRefused(f"{expected.name}: its SHA-256 is {digest}")


def _open(folder: Path, name: str) -> BinaryIO:
    """Open a plain file: never through a link, never waiting on a pipe."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(folder / name, flags), "rb")
    except OSError as error:
        raise PackRefused(f"{name}: {_reason(error)}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise PackRefused(f"{name}: not a plain file")
    return file


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a symbolic link"
    return "missing" if error.errno == errno.ENOENT else os.strerror(error.errno or 0)
