"""Admission: may this tenant do this, on this ground?  No pixels are looked at."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.problems import (
    ConsentMissing,
    Forbidden,
    InvalidRequest,
    NotFound,
    TooLarge,
)
from functions.swap import gate
from functions.tenant import GATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.storage import Store
    from functions.swap.job import SwapJob

_RECORD_BYTES_MAX: Final = 65_536
_DEFAULT: Final = "default"


class ConsentRecord(msgspec.Struct, frozen=True):
    """What we need of a consent record; its other fields are the tenant's own.

    `state` follows ISO/IEC TS 27560: requested, given, refused, withdrawn, expired.
    """

    state: str


def admit(job: SwapJob, store: Store) -> dict[str, Any]:
    """Return the verdict that goes into the audit record, or raise `Refused`.

    For a swap it says by which policy the content gate will judge; see `gate_policy`.
    """
    admission = {"verdict": "admitted", "consent": _consent(job, store)}
    if job.operation == "swap":
        admission["gate"] = _gate(store)
    return admission


def gate_policy(admission: Mapping[str, Any]) -> gate.Policy | None:
    """Return the policy that an admission speaks of; None for the defaults.

    What judges is what the job was admitted by, not what the store holds a moment
    later.
    """
    said = admission["gate"]
    return None if said == _DEFAULT else msgspec.convert(said, gate.Policy)


def _gate(store: Store) -> Any:  # noqa: ANN401  # plain data
    """Return the tenant's policy as plain data; what cannot be read permits nothing."""
    try:
        data = store.get(GATE, bytes_max=_RECORD_BYTES_MAX).data
        policy = msgspec.convert(events.strict_json(data), gate.Policy)
    except NotFound:
        return _DEFAULT
    except (InvalidRequest, TooLarge, msgspec.ValidationError) as fault:
        raise Forbidden(f"{GATE} is no policy: {fault}") from fault
    return msgspec.to_builtins(policy)


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
