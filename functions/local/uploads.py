"""The upload watcher: a new file under `requests/` becomes the storage event.

It looks often at each folder's modification time, which moves when a file is
created, removed or renamed into it, and reads the folder only then; every two
seconds it reads it anyway, for files written over in place.  Nothing here needs
a kernel interface that containers and network file systems lack.

A file is finished when it is whole JSON (no beginning of an object is), or when
it has not changed for half a second.  Which generation of it became an event is
noted in the transaction that queues the event: once, and over restarts.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from functions.local.gcs import Upload, finalized
from functions.local.manifests import namespace_of
from functions.problems import Refused
from functions.tenant import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from functions.local.broker import Broker

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.05
READ_SECONDS: Final = 2.0
SETTLED_SECONDS: Final = 0.5
CANNOT: Final = "%r of %s cannot be announced: %s; write it anew, or by another name"
"""Which upload, whose it is and why: what changes has another generation."""
HASHED_BYTES_MAX: Final = 64 * 1024
"""Larger files are announced without digests, when they have settled."""
TAKEN_MAX: Final = 16
"""Files of one tenant read in one look: the other tenants' turn comes soon."""
_FAULT_PAUSE_SECONDS: Final = 2.0
_UNFINISHED: Final = (".tmp", ".part", "~")
# File systems stamp time this coarsely: a second change within it may leave no
# trace, and who copies a file may set its time just after its bytes.
_TICK_NS: Final = 50_000_000
# From 1970 to 2262: what an event can name and the queue can hold.
_GENERATIONS: Final = range(1, 2**63)


class Watch:
    """The `requests/` folder of one tenant, whose bucket is the tenant's id."""

    def __init__(self, folder: Path, bucket: str, broker: Broker) -> None:
        self._folder = folder / REQUESTS
        self._bucket = bucket
        self._broker = broker
        self._known = broker.queue.generations(bucket)
        self._unfinished: dict[str, tuple[os.stat_result, float]] = {}
        self._changed_ns = 0
        self._read_at = float("-inf")
        self._not_before = float("-inf")
        self._takes_left = 0

    def look(self) -> None:
        """Announce what is new.  A fault is logged, and tried again a little later."""
        now = time.monotonic()
        if now < self._not_before:
            return
        try:
            if self._is_due(now):
                self._read(now)
        except FileNotFoundError:
            pass  # no folder, nothing in it
        except Exception:  # whatever it is, it must not end the others' turn
            log.exception("the uploads of %s cannot be taken", self._bucket)
            self._not_before = now + _FAULT_PAUSE_SECONDS

    def _is_due(self, now: float) -> bool:
        """Return whether the folder may hold something new."""
        changed_ns = self._folder.stat().st_mtime_ns
        moved = changed_ns != self._changed_ns
        fresh = time.time_ns() - changed_ns < _TICK_NS
        self._changed_ns = 0 if fresh else changed_ns
        due = now - self._read_at >= READ_SECONDS
        return moved or due or bool(self._unfinished)

    def _read(self, now: float) -> None:
        self._read_at = now
        self._takes_left = TAKEN_MAX
        present = set()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if _is_upload(entry):
                    present.add(entry.name)
                    self._consider(entry, now)
        self._forget(present)

    def _consider(self, entry: os.DirEntry[str], now: float) -> None:
        name = f"{REQUESTS}{entry.name}"
        status = entry.stat(follow_symlinks=False)
        if self._known.get(name) == status.st_mtime_ns:
            return
        before, since = self._unfinished.get(name, (None, now))
        if before is None or _differs(before, status):
            since = now
        self._unfinished[name] = (status, since)
        settled = now - since >= SETTLED_SECONDS
        quiet = time.time_ns() - status.st_ctime_ns >= _TICK_NS
        # What is left over is unfinished still, so the next look comes to it.
        if (quiet or settled) and self._takes_left:
            self._takes_left -= 1
            self._take(entry, name, settled=settled)

    def _take(self, entry: os.DirEntry[str], name: str, *, settled: bool) -> None:
        upload = self._upload(entry, name)
        if upload is None or not (settled or _is_whole(upload.data)):
            return
        if upload.generation in _GENERATIONS:
            self._announce(upload)
        else:
            log.error(CANNOT, name, self._bucket, "changed before 1970 or after 2262")
        self._known[name] = upload.generation
        self._unfinished.pop(name, None)

    def _announce(self, upload: Upload) -> None:
        key = (self._bucket, upload.name, upload.generation)
        namespace = namespace_of(self._bucket)
        try:
            self._broker.publish(finalized(upload), namespace=namespace, seen=key)
        except Refused as problem:
            log.error(CANNOT, upload.name, self._bucket, problem)  # noqa: TRY400  # no traceback says more

    def _upload(self, entry: os.DirEntry[str], name: str) -> Upload | None:
        """Return the file as it is, None if it changed while it was read."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(entry.path, flags), "rb") as file:
            before = os.fstat(file.fileno())
            data = self._read_open(file, before.st_size)
            after = os.fstat(file.fileno())
        if _differs(before, after):
            return None
        return Upload(self._bucket, name, after.st_mtime_ns, after.st_size, data)

    def _read_open(self, file: BinaryIO, size: int) -> bytes | None:
        return None if size > HASHED_BYTES_MAX else file.read(HASHED_BYTES_MAX)

    def _forget(self, present: set[str]) -> None:
        """Forget files that are gone, so that what is remembered has a bound."""
        here = {f"{REQUESTS}{name}" for name in present}
        for name in set(self._unfinished) - here:
            del self._unfinished[name]
        gone = set(self._known) - here
        if gone:
            self._broker.queue.forget(self._bucket, gone)
            for name in gone:
                del self._known[name]


class Uploads:
    """Every tenant's watch; `look` is for a timer to call."""

    def __init__(self, tenants: Path, buckets: Collection[str], broker: Broker) -> None:
        self._tenants = tenants
        self._broker = broker
        self._watches: dict[str, Watch] = {}
        self.serve(buckets)

    def serve(self, buckets: Collection[str]) -> None:
        """Watch these from now on; whom it watched already it goes on watching."""
        known = self._watches
        self._watches = {
            each: known.get(each) or Watch(self._tenants / each, each, self._broker)
            for each in buckets
        }

    def look(self) -> None:
        """Look once at every tenant's requests."""
        for watch in self._watches.values():
            watch.look()


def _is_upload(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name.endswith(_UNFINISHED):
        return False
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return False  # no event can carry this name
    return stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)


def _differs(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mtime_ns, one.st_size) != (other.st_mtime_ns, other.st_size)


def _is_whole(data: bytes | None) -> bool:
    if data is None:
        return False
    try:
        return isinstance(msgspec.json.decode(data), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
