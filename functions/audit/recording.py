"""Which events are recorded, by whose word, and what comes of one besides its entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions import events
from functions.audit import sidecar
from functions.audit.leaf import RECORDED, says_erased
from functions.keys import events_key
from functions.problems import InvalidRequest, UnknownTenant

if TYPE_CHECKING:
    from functions.audit.log import Appended, Log
    from functions.audit.store import Private
    from functions.events import Event
    from functions.keys import KeyProvider
    from functions.tenant import Tenant


def record(
    event: Event,
    tenant: Tenant,
    log: Log,
    keys: KeyProvider,
) -> Appended | None:
    """Append an event that came to `tenant`'s door; `None` for a mere wake-up.

    Raises `InvalidRequest` (400), `Forbidden` (403), `Unavailable` (503).
    """
    if event.type in events.WAKE_UPS:
        return None
    if event.type not in RECORDED:
        raise InvalidRequest(f"audit does not record {event.type}")
    if (event.tenant, event.source) != (tenant.id, _source(event.type, tenant)):
        raise UnknownTenant(internal=f"{event.source!r} at {tenant.id}'s door")
    events.verify(event, keys.verifiers(events_key(tenant.id)))
    appended = log.append(event, _private(event, log, keys))
    job = event.data.get("job")
    if says_erased(event.type, event.data) and job and not appended.conflict:
        from functions.audit.erasing import erase

        erase(log, keys, tenant.id, job, actor="")
    return appended


def _private(event: Event, log: Log, keys: KeyProvider) -> Private | None:
    """Return what comes with an event to be kept beside its entry."""
    if not sidecar.has_result(event):
        return sidecar.begun(event, keys)
    from functions.audit import private

    job = str(event.data.get("job", ""))
    with log.store.searching(event.tenant) as db:
        kept = private.kept(db, event.tenant, [job]).get(job)
    return sidecar.ended(event, kept, keys)


def _source(kind: str, tenant: Tenant) -> str:
    """Return who sends events of `kind` to a tenant's door: the operator at its own.

    What the operator does to a tenant is in the tenant's log, signed with its key.
    """
    if (kind == events.MODELS_ACCEPTED) != (tenant.id == events.OPERATOR):
        raise UnknownTenant(internal=f"{kind} at {tenant.id}'s door")
    if tenant.id == events.OPERATOR:
        return events.operator_source()
    if kind == events.TENANT_CHANGED:
        return events.tenant_source(tenant.id)
    return events.swap_source(tenant.id)
