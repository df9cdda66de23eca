"""Admission: may this tenant do this, on this ground?  No pixels are looked at."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.problems import ConsentMissing, InvalidRequest, NotFound

if TYPE_CHECKING:
    from functions.storage import Store
    from functions.swap.job import SwapJob

_RECORD_BYTES_MAX: Final = 65_536


class ConsentRecord(msgspec.Struct, frozen=True):
    """What we need of a consent record; its other fields are the tenant's own.

    `state` follows ISO/IEC TS 27560: requested, given, refused, withdrawn, expired.
    """

    state: str


def admit(job: SwapJob, store: Store) -> dict[str, Any]:
    """Return the verdict that goes into the audit record, or raise `Refused`."""
    return {"verdict": "admitted", "consent": _consent(job, store)}


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
