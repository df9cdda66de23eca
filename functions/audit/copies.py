"""Checkpoints and erasure statements, copied create-only into a second store.

Whoever keeps the log could rewrite it and sign it anew.  What lies in a second
store, best a bucket whose objects nobody may replace or delete for years, says
what the log said before; and it outlives the database, so that a restore knows how
far the log had come and what was erased since the backup was made.

```
checkpoints/<tenant>/<epoch>/<size in 20 digits>   a signed note
erasures/<tenant>/<job>                            a signed statement
```
A thread of its own does this: no ack waits for it, and a second store that is away
costs nobody anything.  What it missed, the next checkpoint covers.
"""

from __future__ import annotations

import atexit
import logging
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.audit.notes import parse_origin
from functions.audit.tiles import Checkpoint
from functions.problems import Changed, UnknownTenant
from functions.settings import SettingsError
from functions.storage.locate import Location, open_store
from functions.tenant import Key, Tenant, job_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from functions.audit.store import Store
    from functions.metrics import Metrics
    from functions.storage.base import Store as Objects

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 10.0
"""A tenant's checkpoint is copied at most this often."""
CLOSE_SECONDS_MAX: Final = 5.0
NOTE_BYTES_MAX: Final = 131_072
ERASED_AGAIN_MS: Final = 24 * 3_600_000
"""How far back a process that starts looks for statements that nobody copied."""

_EPOCH: Final = re.compile(r"[1-9][0-9]{0,4}")
_NAME: Final = re.compile(r"[0-9]{20}")
_OVERLAP_MS: Final = 60_000
_SCHEMES: Final = ("file", "s3", "gs", "memory")
_LISTED: Final = 1_000
_SIZE_MAX: Final = 2**63


@dataclass(frozen=True, slots=True)
class Statement:
    """That the private part of a job was erased, signed."""

    tenant: str
    job: str
    at_ms: int
    text: str


def check_witness(url: str) -> None:
    """Raise `SettingsError` unless `url` names a store; opens nothing."""
    try:
        scheme = Location.parse(url).scheme
    except SettingsError as error:
        text = str(error).replace("GUISE_STORE", "GUISE_WITNESS")
        raise SettingsError(text) from error
    if scheme not in _SCHEMES:
        raise SettingsError(f"GUISE_WITNESS: no store is known for {url!r}")


def checkpoint_prefix(tenant: str, epoch: int) -> Key:
    """Return what the names of all copies of one log's checkpoints begin with."""
    return Key(f"checkpoints/{Tenant(tenant).id}/{epoch:d}/")


def checkpoint_key(note: str) -> Key:
    """Return where the copy of a checkpoint lies, or raise `VerificationError`."""
    checkpoint = Checkpoint.parse(note.rpartition("\n\n")[0] + "\n")
    prefix = checkpoint_prefix(*parse_origin(checkpoint.origin))
    return Key(f"{prefix}{checkpoint.size:020d}")


def statement_prefix(tenant: str) -> Key:
    """Return what the names of all copies of a tenant's statements begin with."""
    return Key(f"erasures/{Tenant(tenant).id}/")


def statement_key(tenant: str, job: str) -> Key:
    """Return where the copy of an erasure's statement lies."""
    return Key(f"{statement_prefix(tenant)}{job_id(job)}")


def copy(objects: Objects, key: Key, text: str) -> str:
    """Write a copy unless there is one; return `written`, `there` or `fork`.

    A fork is a copy that says something else.  Raises what a store raises.
    """
    try:
        objects.put_if_absent(key, text.encode())
    except Changed:
        there = objects.get(key, bytes_max=NOTE_BYTES_MAX).data
        return "there" if there == text.encode() else "fork"
    return "written"


def epochs(objects: Objects, tenant: str) -> list[int]:
    """Return the epochs of a tenant's log that there are copies of, in order."""
    found = _folders(objects, Key(f"checkpoints/{Tenant(tenant).id}/"))
    return sorted(int(each) for each in found if _EPOCH.fullmatch(each))


def tenants(objects: Objects) -> list[str]:
    """Return whose checkpoints there are copies of."""
    return list(filter(_is_tenant, _folders(objects, Key("checkpoints/"))))


def erasing_tenants(objects: Objects) -> list[str]:
    """Return of whom there are copies of statements."""
    return list(filter(_is_tenant, _folders(objects, Key("erasures/"))))


def _folders(objects: Objects, prefix: Key) -> list[str]:
    """Return the names below `prefix`, and of each no more than the first object."""
    found, cursor = [], ""
    while page := objects.list(prefix, cursor=cursor, limit=1).objects:
        name = page[0].key.removeprefix(prefix).partition("/")[0]
        found.append(name)
        cursor = f"{prefix}{name}0"  # '0' is what comes after '/'
    return found


def _is_tenant(name: str) -> bool:
    try:
        return bool(Tenant(name))
    except UnknownTenant:
        return False


def sizes(
    objects: Objects,
    tenant: str,
    epoch: int,
    after: int = -1,
) -> Iterator[int]:
    """Yield the sizes above `after` at which there are copies, in order."""
    prefix = checkpoint_prefix(tenant, epoch)
    cursor = "" if after < 0 else f"{prefix}{after:020d}"
    while True:
        page = objects.list(prefix, cursor=cursor, limit=_LISTED)
        for each in page.objects:
            if (size := _size(each.key)) is not None:
                yield size
        if not page.cursor:
            return
        cursor = page.cursor


def newest(objects: Objects, tenant: str, epoch: int, below: int = _SIZE_MAX) -> int:
    """Return the largest size under `below` of which there is a copy; -1 if none.

    A binary search: names sort as their sizes do.
    """
    prefix, least, most = checkpoint_prefix(tenant, epoch), -1, below
    while least + 1 < most:
        middle = (least + most) // 2
        cursor = "" if middle < 1 else f"{prefix}{middle - 1:020d}"
        here = _first(objects, prefix, cursor)
        if here is not None and here < below:
            least = here
        else:
            most = middle
    return least


def _first(objects: Objects, prefix: Key, cursor: str) -> int | None:
    """Return the first size behind `cursor`, whatever strangers have put between."""
    limit = 1
    while True:
        page = objects.list(prefix, cursor=cursor, limit=limit)
        for each in page.objects:
            if (size := _size(each.key)) is not None:
                return size
        if not page.cursor:
            return None
        cursor, limit = page.cursor, _LISTED


def _size(key: Key) -> int | None:
    """Return the size that the name of a copy states; None for a stranger's."""
    name = key.rpartition("/")[2]
    return int(name) if _NAME.fullmatch(name) else None


def read_copy(objects: Objects, tenant: str, epoch: int, size: int) -> str:
    """Return the copied note at `size`, or raise `NotFound`."""
    key = Key(f"{checkpoint_prefix(tenant, epoch)}{size:020d}")
    return _text(objects, key)


def statements(objects: Objects, tenant: str) -> Iterator[tuple[str, str]]:
    """Yield each job of which there is a copied statement, and its text."""
    prefix = statement_prefix(tenant)
    cursor = ""
    while True:
        page = objects.list(prefix, cursor=cursor, limit=_LISTED)
        for each in page.objects:
            yield each.key.removeprefix(prefix), _text(objects, each.key)
        if not page.cursor:
            return
        cursor = page.cursor


def _text(objects: Objects, key: Key) -> str:
    data = objects.get(key, bytes_max=NOTE_BYTES_MAX).data
    return data.decode("utf-8", errors="replace")


def erased_since(store: Store, tenant: str, at_ms: int) -> list[Statement]:
    """Return a tenant's statements of that moment and later, oldest first."""
    import sqlalchemy as sa

    from functions.audit.tables import erasures

    query = (
        sa.select(erasures)
        .where(erasures.c.tenant == tenant, erasures.c.at_ms >= at_ms)
        .order_by(erasures.c.at_ms, erasures.c.job)
    )
    with store.reading(tenant) as db:
        rows = db.execute(query).all()
    return [Statement(row.tenant, row.job, row.at_ms, row.statement) for row in rows]


@dataclass(frozen=True, slots=True)
class _Erased:
    """Up to when a tenant's statements are copied, and which of the last ones."""

    until_ms: int
    jobs: frozenset[str] = frozenset()


class Copies:
    """The thread that copies; `take` tells it of checkpoints and returns at once.

    A process does not know what the one before it had no time to copy.  A tenant's
    next checkpoint covers every one that is missing; of statements, those of the
    last day are looked at anew when a tenant is first heard of.
    """

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        *,
        opener: Callable[[str], Objects] = open_store,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        check_witness(url)
        self._url = url
        self._metrics = metrics
        self._opener = opener
        self._pause_seconds = pause_seconds
        self._objects: Objects | None = None
        self._changed = threading.Condition()
        self._wanted: dict[str, str] = {}
        self._again: set[str] = set()
        self._closed = False
        self._begun_ms = int(time.time() * 1000)
        self._erased: dict[str, _Erased] = {}
        self._thread: threading.Thread | None = None

    def start(self, store: Callable[[], Store]) -> None:
        """Begin; `store` is asked for the log's store."""
        self._thread = threading.Thread(target=self._run, args=(store,), daemon=True)
        self._thread.start()
        # Gunicorn's worker leaves by way of `sys.exit` when it is told to end.
        atexit.register(self.close)

    def take(self, notes: Mapping[str, str]) -> None:
        """Remember each tenant's newest checkpoint; waits for no store."""
        with self._changed:
            self._wanted |= notes
            self._changed.notify_all()

    def close(self) -> None:
        """Copy what is left, once, and end; waits no longer than it may."""
        atexit.unregister(self.close)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS_MAX)

    def _run(self, store: Callable[[], Store]) -> None:
        while self._waited():
            closing = self._closed
            self._copy_all(store)
            if closing:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._pause_seconds)

    def _waited(self) -> bool:
        """Wait for something to do; return whether there is any."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._again or self._closed)
            return bool(self._wanted or self._again)

    def _copy_all(self, store: Callable[[], Store]) -> None:
        """Copy what is wanted; what does not get through stays wanted."""
        with self._changed:
            notes, self._wanted = self._wanted, {}
            tenants, self._again = self._again | notes.keys(), set()
        left = dict(notes)
        try:
            for tenant, note in notes.items():
                self._copy(checkpoint_key(note), note)
                del left[tenant]
            for tenant in sorted(tenants):
                self._copy_statements(store(), tenant)
            # The statement of an erasure is written a moment after its entry.
            tenants = set(notes)
        except Exception as error:  # it is tried again, and nobody waits for it
            logger.warning("a copy into the second store failed", exc_info=error)
            self._metrics.count("audit_copies", outcome="failed")
        with self._changed:
            self._wanted = left | self._wanted
            self._again |= tenants

    def _copy_statements(self, store: Store, tenant: str) -> None:
        """Copy what was erased since the last time, and somewhat before that.

        Of two erasures the one with the earlier time may be committed later.
        """
        before = self._erased.get(tenant, _Erased(self._begun_ms - ERASED_AGAIN_MS))
        found = erased_since(store, tenant, before.until_ms - _OVERLAP_MS)
        for each in found:
            if each.job not in before.jobs:
                self._copy(statement_key(tenant, each.job), each.text)
        until_ms = max((each.at_ms for each in found), default=before.until_ms)
        self._erased[tenant] = _Erased(until_ms, frozenset(each.job for each in found))

    def _copy(self, key: Key, text: str) -> None:
        if self._objects is None:
            self._objects = self._opener(self._url)
        outcome = copy(self._objects, key, text)
        if outcome == "fork":
            logger.critical("FORK: the copy at %s says something else: %r", key, text)
        self._metrics.count("audit_copies", outcome=outcome)
