"""The files below a folder in key order, found without following a link."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.storage.layout import Entry, Layout

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


@dataclass(frozen=True, slots=True)
class Walk:
    """The files whose keys begin with `prefix` and come after `cursor`."""

    layout: Layout
    prefix: str
    cursor: str

    def below(
        self, folder: int, head: str
    ) -> Iterator[tuple[str, os.stat_result, int]]:
        """Yield key, status and time (ns) of the files in and below a folder.

        In key order, those asked for alone.  `head` is the folder's part of the key.
        Folders sort with their slash, as they do in the keys; those that can hold
        nothing of interest stay unopened.
        """
        for key, entry in sorted(self._wanted(folder, head)):
            try:
                yield from self._inside(folder, key, entry)
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                # Deleted, or replaced, while we were looking.

    def _inside(
        self, folder: int, key: str, entry: Entry
    ) -> Iterator[tuple[str, os.stat_result, int]]:
        *parents, name = entry.path
        with ExitStack() as ending:
            for parent in parents:
                folder = ending.enter_context(opened(parent, FOLDER, folder))
            if entry.is_folder:
                deeper = ending.enter_context(opened(name, FOLDER, folder))
                yield from self.below(deeper, key)
            else:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                yield key, status, self.layout.time_at(folder, name, status)

    def _wanted(self, folder: int, head: str) -> Iterator[tuple[str, Entry]]:
        """Yield the keys of files, and of folders with a slash, that may matter."""
        for entry in self.layout.entries(folder, head):
            key = head + entry.name
            if entry.is_folder:
                key += "/"
                wanted = key.startswith(self.prefix) or self.prefix.startswith(key)
                ahead = key > self.cursor or self.cursor.startswith(key)
            else:
                wanted = key.startswith(self.prefix)
                ahead = key > self.cursor
            if wanted and ahead:
                yield key, entry
