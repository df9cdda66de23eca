"""A tenant's ring of keys in a folder, safe against crashes and against haste.

Whoever writes an object holds a shared lock on the file of the version it is wrapped
under, so that no version is destroyed below a writer: `retire` waits for the last.
A ring that was shredded keeps a tombstone, and is never made anew.
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
import secrets
import threading
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.envelopes.guard import Unguarded
from functions.keys import destroy_file, put_durably
from functions.problems import Failed, Gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from functions.envelopes.guard import Guard
    from functions.tenant import Tenant

KEY_BYTES: Final = 32
NAMES_KEY_BYTES: Final = 64
"""AES-256-SIV (RFC 5297) takes two keys of 32 bytes."""
NAMES: Final = "names"
SUFFIX: Final = ".key"
TOMBSTONE: Final = "shredded"
LOCK: Final = ".lock"
CACHED_SECONDS: Final = 300.0
"""How long an unwrapped key is held before its guard is asked again."""
_CACHED_MAX: Final = 4_096
_LOOK_SECONDS: Final = 1.0
_VERSION: Final = re.compile(r"([1-9][0-9]{0,8})\.key")
_UNGUARDED: Final = Unguarded()


class KeyMissing(Failed):
    """A tenant has no ring, or its ring not this version; no second try makes one."""

    @property
    def slug(self) -> str:
        """The stable name that clients may switch on: which key, is for the log."""
        return "failed"


@dataclass(frozen=True, slots=True)
class Kek:
    """A key-encryption key and its version, 1 or more."""

    version: int
    key: bytes


@dataclass(frozen=True, slots=True)
class _Cached:
    stamp: tuple[int, int]
    key: bytes
    until: float


class Envelopes:
    """The rings of every tenant, each in a folder below `folder` by its id."""

    def __init__(
        self,
        folder: Path,
        guard: Guard = _UNGUARDED,
        *,
        clock: Callable[[], float] = time.monotonic,
        cached_seconds: float = CACHED_SECONDS,
    ) -> None:
        self._folder = folder
        self._guard = guard
        self._clock = clock
        self._cached_seconds = cached_seconds
        self._cached: dict[tuple[str, str], _Cached] = {}

    def names(self, tenant: Tenant) -> bytes:
        """Return the 64-byte key of the names of a tenant's objects.

        Raises `KeyMissing` where there is no ring, `Gone` where it was shredded.
        """
        return self._key(tenant, NAMES, NAMES_KEY_BYTES)

    def key(self, tenant: Tenant, version: int) -> bytes:
        """Return the 32 bytes of one version; raises as `names`."""
        return self._key(tenant, str(version), KEY_BYTES)

    def versions(self, tenant: Tenant) -> list[int]:
        """Return the versions there are, the newest last; raises `Gone`."""
        try:
            found = os.listdir(self._ring(tenant))  # noqa: PTH208  # names alone
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Failed(internal=f"the ring of {tenant.id}: {error}") from error
        if TOMBSTONE in found:
            self._forget(tenant)
            raise _gone(tenant)
        matches = map(_VERSION.fullmatch, found)
        return sorted(int(match[1]) for match in matches if match)

    def is_shredded(self, tenant: Tenant) -> bool:
        """Return whether the ring was destroyed, or its destruction begun."""
        return (self._ring(tenant) / TOMBSTONE).exists()

    def is_ended(self, tenant: Tenant) -> bool:
        """Return whether the ring was destroyed to its last file."""
        ring = self._ring(tenant)
        return self.is_shredded(tenant) and not _keys_in(ring)

    def make(self, tenant: Tenant) -> None:
        """Make the tenant's ring unless it is there; raises `Gone`."""
        ring = self._ring(tenant)
        ring.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked(tenant):
            if self.versions(tenant):
                return
            # The first version comes last: without one there is no ring yet.
            if not self._path(tenant, NAMES).exists():
                self._write(tenant, NAMES, secrets.token_bytes(NAMES_KEY_BYTES))
            self._write(tenant, "1", secrets.token_bytes(KEY_BYTES))

    @contextmanager
    def writing(self, tenant: Tenant) -> Iterator[Kek]:
        """Yield the newest key, whose version stays as long as it is held."""
        while True:
            version = self._newest(tenant)
            with self._holding(tenant, version, fcntl.LOCK_SH) as held:
                # Between the look and the lock another may have come.
                if held and self._newest(tenant) == version:
                    yield Kek(version, self.key(tenant, version))
                    return

    def rotate(self, tenant: Tenant) -> int:
        """Make a new version, which wraps from now on, and return it.

        When it returns, nobody writes under an older one any more.
        """
        with self._locked(tenant):
            older = self.versions(tenant)
            newest = self._newest(tenant) + 1
            self._guard.rotate(tenant)
            # What was wrapped under the guard's older version is to need it no more.
            self._write(tenant, NAMES, self.names(tenant))
            self._write(tenant, str(newest), secrets.token_bytes(KEY_BYTES))
        for version in older:
            with self._holding(tenant, version, fcntl.LOCK_EX):
                pass
        return newest

    def retire(self, tenant: Tenant, version: int) -> None:
        """Destroy a version that is not the newest, once nobody writes under it."""
        with self._locked(tenant):
            if version == self._newest(tenant):
                raise ValueError(f"{version} is the newest version of {tenant.id}")
            with self._holding(tenant, version, fcntl.LOCK_EX) as held:
                if held:
                    destroy_file(self._path(tenant, str(version)))
            self._cached.pop((tenant.id, str(version)), None)

    def shred(self, tenant: Tenant) -> int:
        """Destroy every key of the tenant, for ever; return how many there were.

        The tombstone comes first: cut off at any point, the ring is never used
        again, and to shred it again does the rest.
        """
        ring = self._ring(tenant)
        ring.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked(tenant):
            if not self.is_shredded(tenant):
                put_durably(ring / TOMBSTONE, b"%d\n" % time.time(), mode=0o600)
            keys = _keys_in(ring)
            for path in keys:
                destroy_file(path)
            self._forget(tenant)
        return len(keys) + self._guard.destroy(tenant)

    def _newest(self, tenant: Tenant) -> int:
        versions = self.versions(tenant)
        if not versions:
            raise KeyMissing(internal=f"{tenant.id} has no ring of keys")
        return versions[-1]

    def _key(self, tenant: Tenant, name: str, size: int) -> bytes:
        """Return a key, from memory for as long as its file is as it was."""
        path = self._path(tenant, name)
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            known = self._cached.get((tenant.id, name))
            if known and known.stamp == stamp and self._clock() < known.until:
                return known.key
            wrapped = base64.b64decode(path.read_bytes(), validate=False)
        except FileNotFoundError as error:
            self._cached.pop((tenant.id, name), None)
            if self.is_shredded(tenant):
                self._forget(tenant)
                raise _gone(tenant) from error
            raise KeyMissing(internal=f"{tenant.id} has no key {name!r}") from error
        except (OSError, ValueError) as error:
            raise Failed(internal=f"the key {name!r} of {tenant.id}: {error}") from None
        key = self._guard.unwrap(tenant, name, wrapped)
        if len(key) != size:
            raise Failed(
                internal=f"the key {name!r} of {tenant.id} has not {size} bytes"
            )
        if len(self._cached) >= _CACHED_MAX:
            self._cached.clear()
        until = self._clock() + self._cached_seconds
        self._cached[tenant.id, name] = _Cached(stamp, key, until)
        _JANITOR.mind(self)
        return key

    def drop(self) -> float | None:
        """Drop the keys whose time is over; return for how long others have one."""
        now, left = self._clock(), None
        for place, known in tuple(self._cached.items()):
            if known.until <= now:
                self._cached.pop(place, None)
            else:
                left = min(known.until - now, left or known.until - now)
        return left

    def _forget(self, tenant: Tenant) -> None:
        for place in tuple(self._cached):
            if place[0] == tenant.id:
                self._cached.pop(place, None)

    def _write(self, tenant: Tenant, name: str, key: bytes) -> None:
        wrapped = base64.b64encode(self._guard.wrap(tenant, name, key))
        put_durably(self._path(tenant, name), wrapped + b"\n", mode=0o600)

    @contextmanager
    def _locked(self, tenant: Tenant) -> Iterator[None]:
        """Hold the ring against everybody else who would change it."""
        try:
            lock = (self._ring(tenant) / LOCK).open("wb")
        except FileNotFoundError as error:
            raise KeyMissing(internal=f"{tenant.id} has no ring of keys") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _holding(self, tenant: Tenant, version: int, kind: int) -> Iterator[bool]:
        """Hold one version's file; yield whether it is there."""
        # Over NFS an exclusive lock asks for a file that may be written.
        flags = os.O_RDWR if kind == fcntl.LOCK_EX else os.O_RDONLY
        path = self._path(tenant, str(version))
        try:
            file = os.open(path, flags | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(file, kind)
            yield os.fstat(file).st_nlink > 0
        finally:
            os.close(file)

    def _ring(self, tenant: Tenant) -> Path:
        return self._folder / tenant.id

    def _path(self, tenant: Tenant, name: str) -> Path:
        return self._ring(tenant) / (name + SUFFIX)


class _Janitor:
    """Drops what its time is over for, also where nobody asks any more.

    One thread for all of a process, for as long as anything is held.
    """

    def __init__(self) -> None:
        self._minded: weakref.WeakSet[Envelopes] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """Forget a thread that is another process's, and a lock that it may hold."""
        self._lock, self._thread = threading.Lock(), None

    def mind(self, envelopes: Envelopes) -> None:
        """See to it that its keys are dropped in time."""
        with self._lock:
            self._minded.add(envelopes)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="envelopes", daemon=True
                )
                self._thread.start()

    def _work(self) -> None:
        while (left := self._dropped()) is not None:
            time.sleep(left)

    def _dropped(self) -> float | None:
        """Drop what is over; return how long to wait, None where nothing is held."""
        with self._lock:
            held = [left for each in self._minded if (left := each.drop()) is not None]
            if not held:
                self._thread = None
                return None
        return min(*held, _LOOK_SECONDS)


_JANITOR: Final = _Janitor()


def _keys_in(ring: Path) -> list[Path]:
    """Return the files of a ring that hold keys, or once did."""
    try:
        return [each for each in ring.iterdir() if each.name not in {LOCK, TOMBSTONE}]
    except FileNotFoundError:
        return []


def _gone(tenant: Tenant) -> Gone:
    return Gone("the tenant's keys are destroyed", internal=f"{tenant.id} is shredded")
