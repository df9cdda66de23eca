"""What the operator does to a tenant, on record in the tenant's own log.

Each change is an event signed with the tenant's key, answered with a receipt: who
verifies the log learns when the tenant was made, what it was allowed, when it was
stopped, and that it was deleted.  Where something is taken away the receipt comes
first, as before a swap.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Literal

from functions import events
from functions.events import TENANT_CHANGED, Event
from functions.keys import events_key
from functions.roster.spec import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.keys import KeyProvider
    from functions.roster.spec import Spec
    from functions.sink import Auditor, Receipt

Change = Literal["created", "changed", "suspended", "resumed", "deleted", "shredded"]
RECEIPT_SECONDS_MAX: Final = 30.0
_UNSAID: Final = frozenset({"name"})
"""Fields whose values are not told: a log keeps for good what may be a person's."""


def changed(
    change: Change, spec: Spec, *, actor: str, before: Spec | None = None
) -> Event:
    """Return the event that a tenant's spec has become `spec`, not yet signed.

    Its data: `change`, `actor` (a login or a role), the effective `level`, `spec`
    (SHA-256 of the spec's RFC 8785 form, hex) and `fields`: what is not as it was in
    `before`, each with its old and new value.
    """
    time = events.now()
    document = plain(spec)
    digest = hashlib.sha256(events.canonical(document)).hexdigest()
    data = {
        "change": change,
        "actor": actor,
        "level": spec.level,
        "spec": digest,
        "fields": [] if before is None else list(_unlike(plain(before), document)),
    }
    return Event(
        id=events.derived_id(TENANT_CHANGED, spec.id, change, digest, time),
        source=events.tenant_source(spec.id),
        type=TENANT_CHANGED,
        subject=spec.id,
        time=time,
        tenant=spec.id,
        data=data,
    )


def put_on_record(
    event: Event, *, keys: KeyProvider, auditor: Auditor, timeout: float
) -> Receipt:
    """Have a change recorded and return its receipt.

    Raises `NoReceipt` or `Unrecordable`: then it is not on record, and where it takes
    something away it is not to be done.
    """
    signed = events.sign(event, keys.signer(events_key(event.tenant)))
    return auditor.receipt(signed, timeout=timeout)


def _unlike(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield each field, by its path, that is in one and not the same in the other."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _unlike(old, new, f"{path}{name}.")
        elif path + name in _UNSAID:
            yield {"field": path + name}
        else:
            yield {"field": path + name, "from": old, "to": new}
