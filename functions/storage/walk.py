"""The files below a folder in key order, found without following a link."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from functions.tenant import KEY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
# What a path answers where there is no file: nothing, a link, a file as a folder,
# a pipe or socket, a name no file could have.
ABSENT: Final = frozenset(
    {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG},
)


@contextmanager
def opened(name: str, flags: int, folder: int) -> Iterator[int]:
    """Yield a descriptor of `name` in `folder`."""
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def walk(
    folder: int,
    head: str,
    prefix: str,
    cursor: str,
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files in and below a folder in key order, those asked for alone.

    `head` is the folder's part of the key.  Folders sort with their slash, as
    they do in the keys; those that can hold nothing of interest stay unopened.
    """
    with os.scandir(folder) as entries:
        names = sorted(_listed(entries, head, prefix, cursor))
    for key in names:
        name = key[len(head) :].rstrip("/")
        try:
            if key.endswith("/"):
                with opened(name, FOLDER, folder) as deeper:
                    yield from walk(deeper, key, prefix, cursor)
            else:
                yield key, os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            # Deleted, or replaced, while we were looking.


def _listed(
    entries: Iterator[os.DirEntry[str]],
    head: str,
    prefix: str,
    cursor: str,
) -> Iterator[str]:
    """Yield the keys of files, and of folders with a slash, that may matter."""
    for entry in entries:
        key = head + entry.name
        if entry.name.startswith(".") or not speakable(key):
            continue
        if entry.is_dir(follow_symlinks=False):
            key += "/"
            wanted = key.startswith(prefix) or prefix.startswith(key)
            ahead = key > cursor or cursor.startswith(key)
        else:
            wanted = key.startswith(prefix) and entry.is_file(follow_symlinks=False)
            ahead = key > cursor
        if wanted and ahead:
            yield key


def speakable(key: str) -> bool:
    """Return whether a name found on the disk could be a key."""
    try:
        return len(key.encode()) <= KEY_BYTES_MAX
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
