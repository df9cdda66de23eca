"""What a leaf of the log holds, and which events become one.

A leaf is the RFC 8785 form of the event: its attributes, its data, and the
signature of who sent it.  It depends on nothing else, so that whoever holds the
event can compute its leaf hash, and whoever holds the leaf can check the event's
signature.  Events carry salted commitments to images, never images, digests of
images, or a person's name.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.audit.merkle import leaf_hash
from functions.audit.tiles import ENTRY_BYTES_MAX
from functions.events import Event
from functions.problems import InvalidRequest
from functions.tenant import job_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.audit.store import Private

CONFLICT: Final = "dev.guise.audit.conflict.v1"
ERASED: Final = "dev.guise.audit.erased.v1"
ERASURES: Final = frozenset({events.SWAP_ERASED, ERASED})
"""What says of a job that it is gone: see `says_erased`."""
EXPIRED: Final = "expired"
"""The outcome of what the tenant's retention took from its store: nobody asked."""
RECORDED: Final = frozenset(
    {
        events.SWAP_STARTED,
        events.SWAP_COMPLETED,
        events.SWAP_FAILED,
        events.SWAP_REFUSED,
        events.SWAP_ERASED,
        events.MODELS_ACCEPTED,
        events.TENANT_CHANGED,
    },
)
RECEIPTED: Final = frozenset(
    {events.SWAP_STARTED, events.MODELS_ACCEPTED, events.TENANT_CHANGED}
)
"""What somebody waits for the receipt of."""

DEPTH_MAX: Final = 64
"""How deep an entry's data may be nested: every verifier must be able to read it."""
_ID: Final = re.compile(r"[!-~]{1,128}")
_SIGNED: Final = ("source", "id", "type", "subject", "time", "tenant", "data")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry before it has a place: its bytes, and what it is found by.

    `at_ms` is the event's own time in milliseconds since the epoch.  `private` is
    written with it and no part of it: that can be erased.
    """

    tenant: str
    source: str
    id: str
    type: str
    job: str
    at_ms: int
    data: bytes
    private: Private | None = None

    @property
    def key(self) -> bytes:
        """What names it for ever: a digest of tenant, source and id."""
        return key_of(self.tenant, self.source, self.id)

    @property
    def hash(self) -> bytes:
        """Its RFC 6962 leaf hash."""
        return leaf_hash(self.data)


def leaf_of(event: Event, private: Private | None = None) -> Leaf:
    """Return the leaf of an event, or raise `InvalidRequest`.

    `private` goes with it to the database, and into no hash.
    """
    if not _ID.fullmatch(event.id):
        raise InvalidRequest("an event's id has 1 to 128 visible ASCII characters")
    names = (*_SIGNED, "sig", "sigkid")
    data = events.canonical({name: getattr(event, name) for name in names})
    if len(data) > ENTRY_BYTES_MAX:
        raise InvalidRequest(f"an entry has at most {ENTRY_BYTES_MAX} bytes")
    if data.count(b"[") + data.count(b"{") > DEPTH_MAX:  # it might be
        _check_depth(event.data)
    return Leaf(
        tenant=event.tenant,
        source=event.source,
        id=event.id,
        type=event.type,
        job=_job(event.data),
        at_ms=events.milliseconds(event.time),
        data=data,
        private=private,
    )


def _check_depth(data: Mapping[str, Any]) -> None:
    here: list[Any] = [data]
    for _ in range(DEPTH_MAX):
        inner = (each.values() if isinstance(each, dict) else each for each in here)
        here = [one for each in inner for one in each if isinstance(one, (dict, list))]
        if not here:
            return
    raise InvalidRequest(f"an event's data is nested over {DEPTH_MAX} deep")


def says_the_same(one: bytes, other: bytes) -> bool:
    """Return whether two leaves state the same, whatever key signed them when.

    Of two erasures of one job by audit, at once or after a crash, the first counts.
    """
    if one == other:
        return True
    first, second = _statement(one), _statement(other)
    own = (ERASED, _source(str(first["tenant"])))
    ours = all((each["type"], each["source"]) == own for each in (first, second))
    return ours or first == second


def erased(tenant: str, job: str, actor: str) -> Event:
    """Return audit's own event that a job was erased; `actor` asked for it."""
    return Event(
        id=events.derived_id(ERASED, tenant, job),
        source=_source(tenant),
        type=ERASED,
        subject=job,
        time=events.now(),
        tenant=tenant,
        data={"job": job, "actor": actor},
    )


def says_erased(kind: str, data: Mapping[str, Any]) -> bool:
    """Return whether an entry says that somebody had a job erased.

    What expired is gone from the tenant's store alone.  What opens its commitments
    is evidence, and stays until it is erased or the log's own retention is over.
    """
    return kind in ERASURES and data.get("outcome") != EXPIRED


def conflict(offered: Leaf, index: int) -> Leaf:
    """Return the entry which says that `offered` contradicts the entry at `index`.

    Its id depends on what was offered, so that the same lie is recorded once.
    """
    data = {
        "source": offered.source,
        "id": offered.id,
        "type": offered.type,
        "job": offered.job,
        "index": index,
        "leaf_hash": offered.hash.hex(),
    }
    return leaf_of(
        Event(
            id=_conflict_id(offered),
            source=_source(offered.tenant),
            type=CONFLICT,
            time=events.now(),
            tenant=offered.tenant,
            data=data,
        ),
    )


def conflict_key(offered: Leaf) -> bytes:
    """Return the key of the entry that would record `offered` as a contradiction."""
    return key_of(offered.tenant, _source(offered.tenant), _conflict_id(offered))


def key_of(tenant: str, source: str, ident: str) -> bytes:
    """Return the 32 bytes that stand for tenant, source and id."""
    return hashlib.sha256(msgspec.json.encode((tenant, source, ident))).digest()


def _source(tenant: str) -> str:
    return f"/tenants/{tenant}/audit"


def _conflict_id(offered: Leaf) -> str:
    digest = offered.hash.hex()
    return events.derived_id(CONFLICT, offered.source, offered.id, digest)


def _statement(leaf: bytes) -> dict[str, Any]:
    document = msgspec.json.decode(leaf)
    return {name: document[name] for name in _SIGNED}


def _job(data: Mapping[str, Any]) -> str:
    job = data.get("job", "")
    if not isinstance(job, str):
        raise InvalidRequest("a job id is text")
    return job_id(job) if job else ""
