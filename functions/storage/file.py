"""A store in a folder, safe against crashes, races and planted symbolic links.

A write goes to a temporary file, is synced, and takes its place by `rename` (or
by `link`, which fails where there is one already); then the folder is synced.
A file's generation is its modification time in nanoseconds, which every write
moves forward under a lock, so that a file somebody copied in by hand has one too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from functions.problems import Changed, InvalidRequest, NotFound, TooLarge, Unavailable
from functions.storage.base import Info, Object, Page
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPORARY: Final = ".tmp"
LOCKS: Final = ".locks"
_LOCK_FILES: Final = 64
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY_SECONDS_MAX: Final = 3600


class FileStore:
    """A `Store` in the folder `root`, which is made when it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for folder in (root, root / TEMPORARY, root / LOCKS):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        """Return the object, or raise `NotFound` or `TooLarge`."""
        with self._reading(key) as (file, info):
            if bytes_max is not None and info.size > bytes_max:
                raise TooLarge(f"{key} is over {bytes_max} bytes")
            return Object(file.read(), info.generation)

    @contextmanager
    def open(self, key: Key) -> Iterator[BinaryIO]:
        """Yield a stream of the object's bytes, or raise `NotFound`."""
        with self._reading(key) as (file, _):
            yield file

    def head(self, key: Key) -> Info:
        """Return what is known of the object, or raise `NotFound`."""
        with self._reading(key) as (_, info):
            return info

    def put(self, key: Key, data: bytes) -> int:
        """Write the object whatever was there."""
        return self._write(key, data, expected=None)

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Write the object if there is none, or raise `Changed`."""
        return self._write(key, data, expected=0)

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        """Write over exactly `generation`, or raise `Changed`."""
        return self._write(key, data, expected=generation)

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""
        self._delete(key, expected=None)

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`."""
        self._delete(key, expected=generation)

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        found: list[Info] = []
        for key, path in sorted(self._walk(prefix)):
            if not key.startswith(prefix) or key <= cursor:
                continue
            if len(found) == limit:
                return Page(tuple(found), found[-1].key)
            try:
                status = path.lstat()
            except FileNotFoundError:  # deleted while we were looking
                continue
            if stat.S_ISREG(status.st_mode):
                found.append(_info(key, status))
        return Page(tuple(found), "")

    def sweep(self) -> int:
        """Delete what a crash left in the temporary folder; return how many."""
        old = time.time() - _TEMPORARY_SECONDS_MAX
        left = [
            path
            for path in (self._root / TEMPORARY).iterdir()
            if path.lstat().st_mtime < old
        ]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def _walk(self, prefix: Key) -> Iterator[tuple[Key, Path]]:
        """Yield every file in the deepest folder that `prefix` names."""
        top = self._root / prefix.rpartition("/")[0]
        for folder, _, names in os.walk(top):
            relative = os.path.relpath(folder, self._root)
            head = "" if relative == "." else f"{relative}/"
            if head.startswith("."):
                continue
            for name in names:
                if not name.startswith("."):
                    yield Key(f"{head}{name}"), self._root / head / name

    @contextmanager
    def _folder(self, key: Key, *, make: bool) -> Iterator[tuple[int, str]]:
        """Yield a descriptor of the key's folder, and the file's name in it.

        Each step is opened relative to the one before, and none may be a link:
        a link that a tenant planted in a shared folder leads nowhere.
        """
        *parents, name = key.split("/")
        current = os.open(self._root, _FOLDER)
        try:
            for part in parents:
                if make:
                    _make_folder(part, current)
                deeper = os.open(part, _FOLDER, dir_fd=current)
                os.close(current)
                current = deeper
            yield current, name
        finally:
            os.close(current)

    @contextmanager
    def _reading(self, key: Key) -> Iterator[tuple[BinaryIO, Info]]:
        try:
            with self._folder(key, make=False) as (folder, name):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                file = os.fdopen(os.open(name, flags, dir_fd=folder), "rb")
        except OSError as error:
            raise _problem(key, error) from error
        with file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NotFound(f"{key} does not exist")
            yield file, _info(key, status)

    def _write(self, key: Key, data: bytes, *, expected: int | None) -> int:
        temporary = self._root / TEMPORARY / secrets.token_hex(16)
        try:
            _write_synced(temporary, data)
            with self._locked(key), self._folder(key, make=True) as (folder, name):
                current = self._expect(key, expected)
                generation = max(time.time_ns(), current + 1)
                os.utime(temporary, ns=(generation, generation))
                # A file system may keep fewer digits than it was given.
                generation = temporary.stat().st_mtime_ns
                _take_place(temporary, folder, name, new=expected == 0)
                return generation
        except FileExistsError as error:
            raise Changed(internal=f"{key} is there") from error
        except OSError as error:
            raise _problem(key, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _delete(self, key: Key, *, expected: int | None) -> None:
        try:
            with self._locked(key), self._folder(key, make=False) as (folder, name):
                self._expect(key, expected)
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except FileNotFoundError:
            if expected:
                raise Changed(internal=f"{key} is gone") from None
        except OSError as error:
            raise _problem(key, error) from error

    def _expect(self, key: Key, expected: int | None) -> int:
        """Return the current generation (0: none) if it is the expected one."""
        try:
            current = self.head(key).generation
        except NotFound:
            current = 0
        if expected is not None and current != expected:
            raise Changed(internal=f"{key}: {current}, not {expected}")
        return current

    @contextmanager
    def _locked(self, key: Key) -> Iterator[None]:
        """Hold the lock that this key shares with a few others.

        POSIX record locks would work over NFS too but belong to the process,
        not the thread; `flock` is emulated there by the client since Linux 2.6.12.
        """
        number = hashlib.sha256(key.encode()).digest()[0] % _LOCK_FILES
        path = self._root / LOCKS / f"{number:02d}"
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _info(key: Key, status: os.stat_result) -> Info:
    return Info(key, status.st_size, status.st_mtime_ns, status.st_mtime)


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    os.fsync(parent)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _take_place(temporary: Path, folder: int, name: str, *, new: bool) -> None:
    if new:
        os.link(temporary, name, dst_dir_fd=folder)
    else:
        os.rename(temporary, name, dst_dir_fd=folder)
    os.fsync(folder)


def _problem(key: Key, error: OSError) -> Exception:
    """Return what an error of the operating system means to a caller."""
    # ELOOP and ENOTDIR are what O_NOFOLLOW answers to a link; ENXIO is a pipe.
    if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return NotFound(f"{key} does not exist")
    if error.errno in (errno.ENAMETOOLONG, errno.EISDIR):
        return InvalidRequest(f"{key} cannot be a file here")
    return Unavailable(internal=f"{key}: {error}")
