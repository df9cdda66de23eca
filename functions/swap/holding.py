"""How much a tenant's store holds, held against its quota.

The sweeper counts, and leaves its word in the tenant's store, signed with the tenant's
key: `policy/stored.json`.  Door and worker go by it at admission, and call nobody, as
with a budget.  While there is room it is counted once an hour, while there is none
once a minute: so whoever erases something is let in again soon.  Like a budget it is a
brake and no wall: what comes between two counts is in.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.keys import events_key
from functions.problems import (
    Forbidden,
    InvalidRequest,
    NotFound,
    OverStorage,
    TooLarge,
    Unavailable,
)
from functions.tenant import STORED, Key

if TYPE_CHECKING:
    from functions.keys import KeyProvider
    from functions.storage import Store
    from functions.swap.journal import Books
    from functions.tenant import Tenant

KIND: Final = "dev.guise.tenant.stored.v1"
"""What the word says it is; it is sent to nobody."""
GIB: Final = 2**30
ROOM_SECONDS: Final = 3_600
FULL_SECONDS: Final = 60
_EVERYTHING: Final = Key("")
_BYTES_MAX: Final = 65_536
_FAULTS: Final = (InvalidRequest, Forbidden, TooLarge, msgspec.ValidationError)


class Held(msgspec.Struct, frozen=True):
    """What a store held when it was counted: bytes in so many objects."""

    bytes: int
    objects: int


class _Kept(msgspec.Struct, frozen=True):
    event: dict[str, Any]


def look(books: Books) -> Held | None:
    """Count what the store holds if that is due, and leave word of it.

    Returns None where there is no quota, or it is not due yet.
    """
    quota = books.storage_gib
    if quota is None or not _is_due(books, quota * GIB):
        return None
    held = _count(books.store)
    data = {"bytes": held.bytes, "objects": held.objects}
    event = books.signed("stored", KIND, data, uuid.uuid4().hex)
    books.store.put(STORED, msgspec.json.encode(_Kept(events.as_dict(event))))
    return held


def refuse_full(
    tenant: Tenant, store: Store, provider: KeyProvider, quota_gib: int
) -> None:
    """Raise `OverStorage` where the store held its quota when it was last counted.

    Not counted yet is not full.  Raises `Unavailable` for a word that is none of ours.
    """
    try:
        held, _ = _said(tenant, store, provider)
    except NotFound:
        return
    except _FAULTS as fault:
        raise Unavailable(internal=f"{tenant.id}: {STORED}: {fault}") from fault
    if held.bytes >= quota_gib * GIB:
        raise OverStorage(
            f"the store holds {held.bytes / GIB:.1f} of {quota_gib} GiB: "
            "erase something, or have the quota raised"
        )


def _is_due(books: Books, limit: int) -> bool:
    try:
        held, counted = _said(books.tenant, books.store, books.keys)
    except (NotFound, *_FAULTS):
        return True  # what is no word of ours is written over
    wait = FULL_SECONDS if held.bytes >= limit else ROOM_SECONDS
    return not 0 <= time.time() - counted < wait


def _said(tenant: Tenant, store: Store, provider: KeyProvider) -> tuple[Held, float]:
    """Return what was counted, and when (epoch)."""
    data = store.get(STORED, bytes_max=_BYTES_MAX).data
    kept = msgspec.convert(events.strict_json(data), _Kept)
    event = events.from_dict(kept.event)
    if (event.type, event.tenant) != (KIND, tenant.id):
        raise Forbidden("it is about something else")
    events.verify(event, provider.verifiers(events_key(tenant.id)))
    held = msgspec.convert(event.data, Held)
    return held, events.milliseconds(event.time) / 1000


def _count(store: Store) -> Held:
    objects = size = 0
    cursor = ""
    while True:
        page = store.list(_EVERYTHING, cursor=cursor)
        objects += len(page.objects)
        size += sum(info.size for info in page.objects)
        cursor = page.cursor
        if not cursor:
            return Held(size, objects)
