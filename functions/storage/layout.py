"""How keys and generations lie on a disk; `Plain` shows both as they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from functions.problems import InvalidRequest
from functions.tenant import KEY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.tenant import Key


class Entry(NamedTuple):
    """A file or folder by its part of the key, and where it lies below its parent."""

    name: str
    path: tuple[str, ...]
    is_folder: bool


class Layout(Protocol):
    """What a store in a folder asks about its disk."""

    def parts(self, key: Key) -> list[str]:
        """Return the folders and the file of a key, or raise `InvalidRequest`."""

    def entries(self, folder: int, head: str) -> Iterator[Entry]:
        """Yield what is in a folder whose keys begin with `head`, in no order."""

    def time_at(self, folder: int, name: str, status: os.stat_result) -> int:
        """Return when a file was written, in nanoseconds since the epoch."""

    def time_of(self, file: int, status: os.stat_result) -> int:
        """Return when an open file was written, in nanoseconds since the epoch."""

    def stamp(self, file: int, time_ns: int) -> None:
        """Say of an open file when it was written."""


class Plain:
    """A folder for each part of a key but the last; a file's time is its own."""

    def parts(self, key: Key) -> list[str]:
        """Return the parts of a key, none of which leads anywhere but down.

        A `Tenant` makes no other keys; this is the last door before the disk.
        """
        parts = key.split("/")
        hidden = any(not part or part.startswith(".") for part in parts)
        if hidden or "\0" in key or not speakable(key):
            raise InvalidRequest(internal=f"{key!r} is no key")
        return parts

    def entries(self, folder: int, head: str) -> Iterator[Entry]:
        """Yield what is in a folder and could be of a key."""
        with os.scandir(folder) as found:
            for each in found:
                if each.name.startswith(".") or not speakable(head + each.name):
                    continue
                if each.is_dir(follow_symlinks=False):
                    yield Entry(each.name, (each.name,), is_folder=True)
                elif each.is_file(follow_symlinks=False):
                    yield Entry(each.name, (each.name,), is_folder=False)

    def time_at(self, folder: int, name: str, status: os.stat_result) -> int:  # noqa: ARG002  # the status says all
        """Return the file's modification time."""
        return status.st_mtime_ns

    def time_of(self, file: int, status: os.stat_result) -> int:  # noqa: ARG002  # as above
        """Return the file's modification time."""
        return status.st_mtime_ns

    def stamp(self, file: int, time_ns: int) -> None:
        """Set the file's modification time."""
        os.utime(file, ns=(time_ns, time_ns))


def speakable(key: str) -> bool:
    """Return whether a name found on the disk could be a key."""
    try:
        return len(key.encode()) <= KEY_BYTES_MAX
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
