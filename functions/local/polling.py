"""The bucket watcher: a new object under `requests/` becomes the storage event.

In production a bucket notifies.  Nobody can reach this machine, so it looks: one
listing of `requests/` a second and tenant.  An object is whole when it is listed.
Which generation of it became an event is noted as for files; see `uploads`.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Final

from functions.local.gcs import Upload, finalized
from functions.local.manifests import namespace_of
from functions.problems import Problem, Refused
from functions.tenant import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functions.local.broker import Broker
    from functions.storage import Info, Stores
    from functions.tenant import Tenant

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
_FAULT_PAUSE_SECONDS: Final = 10.0
_NS: Final = 1_000_000_000
_GENERATIONS: Final = 2**63
"""What the queue can hold."""


class BucketWatch:
    """The `requests/` of one tenant's store, wherever that is."""

    def __init__(self, tenant: Tenant, stores: Stores, broker: Broker) -> None:
        self._tenant = tenant
        self._store = stores.of(tenant)
        self._bucket, self._prefix = stores.place(tenant)
        self._broker = broker
        # Tenants may share a bucket: what was seen is of a prefix.
        self._where = f"{self._bucket}/{self._prefix}"
        self._known = broker.queue.generations(self._where)
        self._not_before = float("-inf")

    def look(self) -> None:
        """Announce what is new.  A fault is logged, and tried again a little later."""
        if time.monotonic() < self._not_before:
            return
        try:
            self._forget({info.key for info in self._taken()})
        except Problem:
            log.exception("the uploads of %s cannot be taken", self._tenant.id)
            self._not_before = time.monotonic() + _FAULT_PAUSE_SECONDS

    def _taken(self) -> Iterator[Info]:
        """Yield every object there is, announced."""
        cursor = ""
        while True:
            page = self._store.list(REQUESTS, cursor=cursor)
            for info in page.objects:
                if self._known.get(info.key) != _short(info.generation):
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
        except Refused:
            log.exception("%s cannot be announced", info.key)
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
        self, stores: Stores, tenants: Sequence[Tenant], broker: Broker
    ) -> None:
        self._watches = [BucketWatch(each, stores, broker) for each in tenants]

    def look(self) -> None:
        """Look once at every tenant's requests."""
        for watch in self._watches:
            watch.look()


def _short(generation: int) -> int:
    """Return what stands for a generation where only 63 bits fit: S3's are longer."""
    if generation < _GENERATIONS:
        return generation
    digest = hashlib.sha256(str(generation).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
