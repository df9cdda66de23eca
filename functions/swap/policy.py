"""Admission: may this tenant do this, on this ground?  No pixels are looked at.

A budget is what billing last said of it, signed, in the tenant's own store: nobody
is called.  No such object is no budget, and one of another month binds nobody: what
this month has come to is for billing to say, as soon as there is any.  One that is
not billing's signed word lets nothing run, and ends no job either: either somebody
wrote who may not, or a key is missing here, and both are for the operator to mend.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events, keys
from functions.problems import (
    ConsentMissing,
    Forbidden,
    InvalidRequest,
    NotFound,
    OverBudget,
    TooLarge,
    Unavailable,
)
from functions.swap import gate, holding
from functions.tenant import BUDGET, GATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.keys import KeyProvider
    from functions.roster import Spec
    from functions.roster.spec import Policy
    from functions.storage import Store
    from functions.swap.job import SwapJob
    from functions.tenant import Tenant

_RECORD_BYTES_MAX: Final = 65_536
_DEFAULT: Final = "default"


class ConsentRecord(msgspec.Struct, frozen=True):
    """What we need of a consent record; its other fields are the tenant's own.

    `state` follows ISO/IEC TS 27560: requested, given, refused, withdrawn, expired.
    """

    state: str


class BudgetState(msgspec.Struct, frozen=True):
    """What admission goes by of what billing says of a budget.

    `period` is a month in UTC, `limit` decimal text in `currency`; `exhausted` says
    that the limit is reached, and `hard` that nothing runs then.
    """

    period: str
    currency: str
    limit: str
    hard: bool
    exhausted: bool


class _Kept(msgspec.Struct, frozen=True):
    event: dict[str, Any]


def admit(
    job: SwapJob, store: Store, provider: KeyProvider, spec: Spec | None = None
) -> dict[str, Any]:
    """Return the verdict that goes into the audit record, or raise `Refused`.

    `spec` has the operator's policy; without one, what lies in the tenant's store is
    all there is.  For a swap the verdict says by which policy the content gate will
    judge; see `gate_policy`.  Raises `Unavailable` where it cannot be told what the
    budget is.
    """
    if spec is not None:
        spec.admit()
        _permitted(job, spec.policy)
        if spec.quotas.storage_gib is not None:
            quota = spec.quotas.storage_gib
            holding.refuse_full(job.tenant, store, provider, quota)
    _within_budget(job.tenant, store, provider)
    admission = {"verdict": "admitted", "consent": _consent(job, store)}
    if job.operation == "swap":
        admission["gate"] = _gate(store, spec.policy if spec else None)
    return admission


def _permitted(job: SwapJob, policy: Policy) -> None:
    if job.operation not in policy.operations:
        raise Forbidden(f"the tenant may not {job.operation}")
    consent = job.request.consent
    if consent is None:
        return
    if consent.basis not in policy.consent.bases:
        raise ConsentMissing(f"the basis {consent.basis!r} is none of this tenant's")
    if policy.consent.record and consent.record is None:
        raise ConsentMissing("each consent of this tenant names its record")


def _within_budget(tenant: Tenant, store: Store, provider: KeyProvider) -> None:
    try:
        data = store.get(BUDGET, bytes_max=_RECORD_BYTES_MAX).data
        state = _said_by_billing(data, tenant, provider)
    except NotFound:
        return
    except (InvalidRequest, Forbidden, TooLarge, msgspec.ValidationError) as fault:
        raise Unavailable(internal=f"{tenant.id}: {BUDGET}: {fault}") from fault
    if state.hard and state.exhausted and state.period == events.now()[:7]:
        limit = f"{state.limit} {state.currency}"
        raise OverBudget(f"the budget of {limit} for {state.period} is used up")


def _said_by_billing(data: bytes, tenant: Tenant, provider: KeyProvider) -> BudgetState:
    kept = msgspec.convert(events.strict_json(data), _Kept)
    event = events.from_dict(kept.event)
    if (event.type, event.tenant) != (events.BUDGET_CHANGED, tenant.id):
        raise Forbidden("it is about something else")
    events.verify(event, provider.verifiers(keys.BILLING))
    return msgspec.convert(event.data, BudgetState)


def gate_policy(admission: Mapping[str, Any]) -> gate.Policy | None:
    """Return the policy that an admission speaks of; None for the defaults.

    What judges is what the job was admitted by, not what the store holds a moment
    later.
    """
    said = admission["gate"]
    return None if said == _DEFAULT else msgspec.convert(said, gate.Policy)


def _gate(store: Store, operators: Policy | None) -> Any:  # noqa: ANN401  # plain data
    """Return by which policy is judged, as plain data: the tenant's, or a stricter.

    What cannot be read permits nothing.
    """
    own = _own_gate(store)
    if operators is not None and operators.gate != "tenant":
        ceiling = None if operators.gate == "default" else operators.gate.max
        own = gate.under(ceiling, own)
    return _DEFAULT if own is None else msgspec.to_builtins(own)


def _own_gate(store: Store) -> gate.Policy | None:
    try:
        data = store.get(GATE, bytes_max=_RECORD_BYTES_MAX).data
        return msgspec.convert(events.strict_json(data), gate.Policy)
    except NotFound:
        return None
    except (InvalidRequest, TooLarge, msgspec.ValidationError) as fault:
        raise Forbidden(f"{GATE} is no policy: {fault}") from fault


def _consent(job: SwapJob, store: Store) -> dict[str, Any] | None:
    consent = job.request.consent
    if consent is None:
        return None  # not asked for: parsing has refused a swap without
    if consent.record is None:
        if consent.basis == "consent":
            raise ConsentMissing("the basis 'consent' names its record")
        return {"basis": consent.basis}
    key = job.tenant.consent(consent.record)
    try:
        data = store.get(key, bytes_max=_RECORD_BYTES_MAX).data
        record = msgspec.convert(events.strict_json(data), ConsentRecord)
    except NotFound as error:
        raise ConsentMissing(f"{key} does not exist") from error
    except (InvalidRequest, msgspec.ValidationError) as error:
        raise ConsentMissing(f"{key} is no consent record with a state") from error
    if record.state != "given":
        raise ConsentMissing(f"the consent in {key} is {record.state}, not given")
    digest = hashlib.sha256(data).hexdigest()
    return {"basis": consent.basis, "id": key, "sha256": digest, "state": record.state}
