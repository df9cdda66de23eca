"""The shelf packs lie on: `root/<pack>/<version>`, read-only, whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import PackRefused
from models.verify import verify_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def stands(
    folder: Path, name: str, version: str, report: Callable[[str], None]
) -> bool:
    """Say whether the pack is there and whole; report why one that is there is not."""
    try:
        verify_as(folder, name, version)
    except PackRefused as error:
        if folder.exists():
            report(f"making {name} {version} anew: {error}")
        return False
    report(f"{name} {version} is there")
    return True


@contextlib.contextmanager
def building(root: Path, name: str, version: str) -> Iterator[Path]:
    """Give a hidden empty folder beside where the pack belongs; it never stays."""
    home = root / name
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=home))
    try:
        yield folder
    finally:
        _remove(folder)


def place(built: Path, folder: Path, yields: Callable[[], bool]) -> bool:
    """Give the finished pack in `built` its name; say whether it is the one there.

    Where a folder has the name already, `yields` says whether it may stay; if not, it
    is taken away.
    """
    _settle(built)
    while not _published(built, folder):
        if yields():
            return False
        _set_aside(folder)
    return True


def _settle(folder: Path) -> None:
    """Write everything through to the disk, and let nobody write to it again."""
    for path in folder.iterdir():
        path.chmod(0o444)
        _fsync(path)
    folder.chmod(0o555)
    _fsync(folder)


def _published(built: Path, folder: Path) -> bool:
    """Give the finished folder its name, unless the name is taken."""
    try:
        built.rename(folder)
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
            raise
        return False
    _fsync(folder.parent)
    return True


def _set_aside(old: Path) -> None:
    """Take a pack away, in one step for whoever is reading."""
    away = Path(tempfile.mkdtemp(prefix=".broken-", dir=old.parent))
    with contextlib.suppress(FileNotFoundError):  # another was quicker
        old.rename(away)
    _remove(away)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    if folder.exists():
        folder.chmod(0o755)
        shutil.rmtree(folder)
