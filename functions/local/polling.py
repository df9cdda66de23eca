"""The bucket watcher: a new object under `requests/` becomes the storage event.

In production a bucket notifies.  Nobody can reach this machine, so it looks: one
listing of `requests/` a second and tenant, of several tenants at once, as most of
it is waiting.  An object is whole when it is listed.  Which generation of it became
an event is noted as for files; see `uploads`.  A store in a folder whose objects are
encrypted is looked at so too: only the store itself can tell their names.
"""

from __future__ import annotations

import hashlib
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

from functions.local.gcs import Upload, finalized
from functions.local.manifests import namespace_of
from functions.local.uploads import CANNOT
from functions.problems import Gone, Refused
from functions.storage.base import StoreDenied
from functions.tenant import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from functions.local.broker import Broker
    from functions.storage import Info, Stores
    from functions.tenant import Tenant

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
AT_ONCE_MAX: Final = 8
"""Stores that are listed at a time."""
ANNOUNCED_MAX: Final = 64
"""Objects of one tenant announced in one look: the other tenants' turn comes soon."""
_FAULT_PAUSE_SECONDS: Final = 10.0
_NS: Final = 1_000_000_000
_GENERATIONS: Final = 2**63
"""What the queue can hold."""


class BucketWatch:
    """The `requests/` of one tenant's store, wherever that is."""

    def __init__(self, tenant: Tenant, stores: Stores, broker: Broker) -> None:
        self._tenant = tenant
        self._stores = stores
        self._bucket, self._prefix = stores.place(tenant)
        self._broker = broker
        # Tenants may share a bucket: what was seen is of a prefix.
        self._where = f"{self._bucket}/{self._prefix}"
        self._known = broker.queue.generations(self._where)
        self._not_before = float("-inf")
        self._announcements_left = 0

    def look(self) -> None:
        """Announce what is new.  A fault is logged, and tried again a little later."""
        if time.monotonic() < self._not_before:
            return
        self._announcements_left = ANNOUNCED_MAX
        try:
            self._forget({info.key for info in self._taken()})
        except (Gone, StoreDenied) as problem:  # shredded, or shut: it says why itself
            log.error("the uploads of %s cannot be taken: %s", self._tenant.id, problem)  # noqa: TRY400  # no traceback says more
            self._not_before = time.monotonic() + _FAULT_PAUSE_SECONDS
        except Exception:  # whatever it is, it must not end the others' turn
            log.exception("the uploads of %s cannot be taken", self._tenant.id)
            self._not_before = time.monotonic() + _FAULT_PAUSE_SECONDS

    def _taken(self) -> Iterator[Info]:
        """Yield every object there is, of which so many are announced."""
        cursor = ""
        store = self._stores.of(self._tenant)
        while True:
            page = store.list(REQUESTS, cursor=cursor)
            for info in page.objects:
                is_known = self._known.get(info.key) == _short(info.generation)
                if not is_known and self._announcements_left:
                    self._announcements_left -= 1
                    self._announce(info)
                yield info
            cursor = page.cursor
            if not cursor:
                return

    def _announce(self, info: Info) -> None:
        seen = _short(info.generation)
        upload = Upload(
            self._bucket,
            self._prefix + info.key,
            info.generation,
            info.size,
            None,
            updated_ns=int(info.updated * _NS),
        )
        try:
            self._broker.publish(
                finalized(upload),
                namespace=namespace_of(self._tenant.id),
                seen=(self._where, info.key, seen),
            )
        except Refused as problem:
            log.error(CANNOT, info.key, self._tenant.id, problem)  # noqa: TRY400  # no traceback says more
        self._known[info.key] = seen

    def _forget(self, present: set[str]) -> None:
        """Forget objects that are gone, so that what is remembered has a bound."""
        gone = self._known.keys() - present
        if gone:
            self._broker.queue.forget(self._where, gone)
            for name in gone:
                del self._known[name]


class BucketUploads:
    """Every tenant's watch; `look` is for a timer to call."""

    def __init__(
        self, stores: Stores, tenants: Collection[Tenant], broker: Broker
    ) -> None:
        self._stores = stores
        self._broker = broker
        self._pool = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="look")
        self._watches: dict[Tenant, BucketWatch] = {}
        self._looking: dict[BucketWatch, Future[None]] = {}
        self.serve(tenants)

    def serve(self, tenants: Collection[Tenant]) -> None:
        """Watch these from now on; whom it watched already it goes on watching."""
        known = self._watches
        self._watches = {
            each: known.get(each) or BucketWatch(each, self._stores, self._broker)
            for each in tenants
        }

    def look(self) -> None:
        """Look once at every tenant's requests.

        A store that takes long to answer is not waited for, nor asked again before.
        """
        self._looking = {
            watch: looking
            for watch, looking in self._looking.items()
            if not looking.done()
        }
        for watch in self._watches.values():
            if watch not in self._looking:
                self._looking[watch] = self._pool.submit(watch.look)
        wait(self._looking.values(), POLL_SECONDS)

    def close(self) -> None:
        """Look no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _short(generation: int) -> int:
    """Return what stands for a generation where only 63 bits fit: S3's are longer."""
    if generation < _GENERATIONS:
        return generation
    digest = hashlib.sha256(str(generation).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
