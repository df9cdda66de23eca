"""A store in a folder, safe against crashes, races and planted symbolic links.

A write goes to a temporary file, is synced, and takes its place by `rename` (or
by `link`, which fails where there is one already); then the folder is synced.
A file's generation is its modification time in nanoseconds, which every write
moves forward under a lock, so that a file somebody copied in by hand has one too.

Tenants may be able to write into the folder by other ways than this one.  So no
path is ever walked: each part is opened relative to the one before, and a link
there leads nowhere.  Only the way to the root itself is the operator's to choose.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import math
import os
import secrets
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from functions.problems import Changed, InvalidRequest, NotFound, TooLarge, Unavailable
from functions.storage.base import Info, Object, Page, pieces
from functions.storage.layout import Plain
from functions.storage.walk import ABSENT, FOLDER, Walk, opened
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from functions.storage.layout import Layout

    Stamp = Callable[[int, int], None]
    """What says of an open file when (ns) it was written."""

TEMPORARY: Final = ".tmp"
LOCKS: Final = ".locks"
_LOCK_FILES: Final = 64
_ROOT: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A pipe that somebody planted would block whoever opens it.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_AMEND: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TEMPORARY_SECONDS_MAX: Final = 3600
_PLAIN: Final = Plain()
# What a path answers to a write where there can be no file.
_NO_FILE: Final = frozenset(
    {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG},
)


class FileStore:
    """A `Store` in the folder `root`.

    The first write makes the folder when it is missing; reading never does, so
    that events which name tenants nobody has heard of leave nothing behind.
    """

    def __init__(self, root: Path, *, layout: Layout = _PLAIN) -> None:
        self._root = root
        self._layout = layout

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        """Return the object, or raise `NotFound` or `TooLarge`."""
        with _wrapped(key), self.reading(key) as (file, info):
            if bytes_max is not None and info.size > bytes_max:
                raise TooLarge(f"{key} is over {bytes_max} bytes")
            return Object(file.read(info.size), info.generation)

    @contextmanager
    def open(self, key: Key) -> Iterator[BinaryIO]:
        """Yield a stream of the object's bytes, or raise `NotFound`."""
        with self.reading(key) as (file, _):
            yield file

    def head(self, key: Key) -> Info:
        """Return what is known of the object, or raise `NotFound`."""
        with self.reading(key) as (_, info):
            return info

    def put(self, key: Key, data: bytes) -> int:
        """Write the object whatever was there."""
        return self.write(key, (data,), expected=None)

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Write the object if there is none, or raise `Changed`."""
        return self.write(key, (data,), expected=0)

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        """Write over exactly `generation`, or raise `Changed`."""
        return self.write(key, (data,), expected=generation)

    def put_from(
        self,
        key: Key,
        stream: BinaryIO,
        *,
        bytes_max: int | None = None,
        generation: int | None = None,
    ) -> int:
        """Write all that `stream` gives as one object."""
        found = pieces(key, stream, bytes_max)
        return self.write(key, found, expected=generation)

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""
        self._delete(key, expected=None)

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`."""
        self._delete(key, expected=generation)

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        head = prefix[: prefix.rfind("/") + 1]
        found: list[Info] = []
        with suppress(NotFound), _wrapped(prefix):
            parents = self._layout.parts(Key(head[:-1])) if head else []
            with self._at(*parents) as top:
                files = Walk(self._layout, prefix, cursor).below(top, head)
                found.extend(
                    _info(Key(name), status, time_ns)
                    for name, status, time_ns in islice(files, limit + 1)
                )
        page = tuple(found[:limit])
        return Page(page, page[-1].key if len(found) > limit else "")

    def sweep(self, seconds: float = _TEMPORARY_SECONDS_MAX) -> int:
        """Delete what a crash left, so long ago, as a temporary file; return how many.

        With 0 also what is written just now, which is then `Unavailable`.
        """
        old = time.time() - seconds if seconds else math.inf
        swept = 0
        with _wrapped(Key(TEMPORARY)), self._own(TEMPORARY) as folder:
            for name in os.listdir(folder):  # noqa: PTH208  # of a descriptor
                # Another sweeper was faster, or it is nothing of ours.
                with suppress(OSError):
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if status.st_mtime < old:
                        os.unlink(name, dir_fd=folder)
                        swept += 1
        return swept

    @contextmanager
    def _at(self, *parts: str, make: bool = False) -> Iterator[int]:
        """Yield a descriptor of the folder `parts` below the root."""
        current = os.open(self._root, _ROOT)
        try:
            for part in parts:
                if make:
                    _make_folder(part, current)
                deeper = os.open(part, FOLDER, dir_fd=current)
                os.close(current)
                current = deeper
            yield current
        finally:
            os.close(current)

    @contextmanager
    def _own(self, name: str) -> Iterator[int]:
        """Yield a descriptor of a folder of our own, made when it is missing."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._at(name, make=True) as folder:
            yield folder

    @contextmanager
    def reading(self, key: Key) -> Iterator[tuple[BinaryIO, Info]]:
        """Yield a stream of the object's bytes and what is known of it."""
        with self._opened(key, _READ) as (file, status):
            info = _info(key, status, self._layout.time_of(file, status))
            with io.BufferedReader(_Reading(file, closefd=False)) as stream:
                yield stream, info

    @contextmanager
    def amending(self, key: Key) -> Iterator[int]:
        """Yield a descriptor of the object's file, which nobody replaces meanwhile.

        What is written through it is neither whole nor synced unless the caller
        sees to that.  Raises `NotFound`.
        """
        with self._locked(key), self._opened(key, _AMEND) as (file, _):
            yield file

    @contextmanager
    def _opened(self, key: Key, flags: int) -> Iterator[tuple[int, os.stat_result]]:
        *parents, name = self._layout.parts(key)
        with _wrapped(key), self._at(*parents) as folder:
            file = os.open(name, flags, dir_fd=folder)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise NotFound(f"{key} does not exist")
            yield file, status
        finally:
            os.close(file)

    def write(
        self,
        key: Key,
        found: Iterable[bytes],
        *,
        expected: int | None,
        stamp: Stamp | None = None,
    ) -> int:
        """Write what is found as one object, over exactly `expected` if it is given.

        `stamp` says when it was written, in the layout's place.
        """
        stamp = stamp or self._layout.stamp
        *parents, name = self._layout.parts(key)
        with ExitStack() as ending:
            with _refusing(key):
                scratch = ending.enter_context(self._own(TEMPORARY))
                file, temporary = ending.enter_context(_temporary(scratch))
            for piece in found:  # whose faults are not the disk's
                with _refusing(key):
                    _append(file, piece)
            with _refusing(key):
                _settle(file, stamp)
            with (
                _refusing(key),
                self._locked(key),
                self._at(*parents, make=True) as folder,
            ):
                current = _expect(key, self._generation(folder, name), expected)
                generation = self._grown(file, current, stamp)
                if expected == 0:
                    _link(scratch, temporary, folder, name)
                else:
                    os.rename(temporary, name, src_dir_fd=scratch, dst_dir_fd=folder)
                os.fsync(folder)
                return generation

    def _delete(self, key: Key, *, expected: int | None) -> None:
        *parents, name = self._layout.parts(key)
        try:
            with self._locked(key), self._at(*parents) as folder:
                _expect(key, self._generation(folder, name), expected)
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except OSError as error:
            if error.errno not in ABSENT | {errno.EISDIR}:
                raise Unavailable(internal=f"{key}: {error}") from error
            if expected:
                raise Changed(internal=f"{key} is gone") from error

    def _generation(self, folder: int, name: str) -> int:
        """Return the generation of the file `name`, 0 where there is none."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return 0
            return _generation_of(self._layout.time_at(folder, name, status))
        except FileNotFoundError:
            return 0

    def _grown(self, file: int, current: int, stamp: Stamp) -> int:
        """Return the file's generation, moved past `current` if it is not yet."""
        step = 1
        while (generation := self._generation_in(file)) <= current:
            # A file system may keep fewer digits than it is given: up to 2 s on FAT.
            if step > 10 * 10**9:
                raise OSError(errno.ERANGE, "the file's time cannot move on")
            stamp(file, current + step)
            os.fsync(file)
            step *= 10
        return generation

    def _generation_in(self, file: int) -> int:
        return _generation_of(self._layout.time_of(file, os.fstat(file)))

    @contextmanager
    def _locked(self, key: Key) -> Iterator[None]:
        """Hold the lock that this key shares with a few others.

        POSIX record locks would work over NFS too but belong to the process,
        not the thread; `flock` is emulated there by the client since Linux 2.6.12.
        """
        number = hashlib.sha256(key.encode()).digest()[0] % _LOCK_FILES
        with (
            self._own(LOCKS) as folder,
            opened(f"{number:02d}", _LOCK, folder) as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _Reading(io.FileIO):
    """A file whose disk may fail at any piece of it."""

    def readinto(self, buffer: Any, /) -> int | None:  # noqa: ANN401  # as FileIO has it
        """Read up to as many bytes as there is room."""
        with _failing():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        """Read all that is left."""
        with _failing():
            return super().readall()


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(internal=f"a file cannot be read: {error}") from error


@contextmanager
def _wrapped(key: Key) -> Iterator[None]:
    """Turn what the system answers to a reader into what a store answers."""
    try:
        yield
    except OSError as error:
        if error.errno in ABSENT:
            raise NotFound(f"{key} does not exist") from error
        raise Unavailable(internal=f"{key}: {error}") from error


@contextmanager
def _temporary(folder: int) -> Iterator[tuple[int, str]]:
    """Yield a new file in `folder`, and its name; remove the name."""
    name = secrets.token_hex(16)
    file = os.open(name, _WRITE, 0o666, dir_fd=folder)
    try:
        yield file, name
    finally:
        os.close(file)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _append(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _settle(file: int, stamp: Stamp) -> None:
    """Make what was written durable, and give it its time."""
    # Before the sync, so that a power cut cannot take the generation back.
    stamp(file, time.time_ns())
    os.fsync(file)


def _generation_of(time_ns: int) -> int:
    # An archive may unpack files of 1970; 0 would say that there is none.
    return max(time_ns, 1)


def _expect(key: Key, current: int, expected: int | None) -> int:
    if expected is not None and current != expected:
        raise Changed(internal=f"{key}: {current}, not {expected}")
    return current


def _link(scratch: int, temporary: str, folder: int, name: str) -> None:
    try:
        os.link(temporary, name, src_dir_fd=scratch, dst_dir_fd=folder)
    except FileExistsError as error:
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EISDIR, "no file, but something") from error
        # Put there, by hand, a moment ago.
        raise Changed(internal=f"{name} is there") from error


@contextmanager
def _refusing(key: Key) -> Iterator[None]:
    """Turn what the system answers to a writer into what a store answers."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_FILE:
            raise InvalidRequest(f"{key} cannot be a file here") from error
        raise Unavailable(internal=f"{key}: {error}") from error


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    os.fsync(parent)


def _info(key: Key, status: os.stat_result, time_ns: int) -> Info:
    return Info(key, status.st_size, _generation_of(time_ns), time_ns / 10**9)
