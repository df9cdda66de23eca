"""What is kept beside the log until its erasure, and the keys it is kept under.

Pure: from an event and keys to bytes, and back.  All keys come from one secret of
the function, which lies where its signing key does and not in the database:

* `wrap`, of each tenant: encrypts the record key of each job;
* `index`, of each tenant: the exact-image index holds HMAC-SHA-256 under it of an
  image's SHA-256, so that an index without the secret is no index;
* the record key, drawn for each job: encrypts the job's sidecars.

AES-256-GCM with a nonce of 12 random bytes in front; the associated data name the
tenant, the job and what it is, so that no row passes for another.
"""

from __future__ import annotations

import hmac
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from functions.commitments import (
    SEALED,
    SIDECAR,
    Sidecar,
    commitment,
    committed,
    derived,
    open_result,
    sidecar_of,
)
from functions.events import SWAP_COMPLETED, SWAP_STARTED
from functions.problems import Failed, InvalidRequest, Problem

if TYPE_CHECKING:
    from functions.audit.store import Private
    from functions.events import Event
    from functions.keys import KeyProvider

logger = logging.getLogger(__name__)

SECRET: Final = "audit"  # noqa: S105  # a name
"""The name of the secret that all keys here are derived from."""
STARTED: Final = "started"
ENDED: Final = "ended"

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """One tenant's keys."""

    tenant: str
    index: bytes
    wrap: bytes

    @classmethod
    def of(cls, keys: KeyProvider, tenant: str) -> TenantKeys:
        """Return a tenant's keys; `Failed` where there is no secret."""
        secret = keys.secret(SECRET)
        index, wrap = (
            derived(secret, f"guise {purpose} v1 {tenant}".encode())
            for purpose in ("index", "wrap")
        )
        return cls(tenant, index, wrap)

    def mac(self, sha256: str) -> bytes:
        """Return what the index has for an image of this digest (hex)."""
        return hmac.digest(self.index, bytes.fromhex(sha256), "sha256")

    def wrapped(self, job: str, record_key: bytes) -> bytes:
        """Return a job's record key, encrypted."""
        return _sealed(self.wrap, record_key, self._name(job, "key"))

    def unwrapped(self, job: str, wrapped: bytes) -> bytes:
        """Return a job's record key, or raise `Failed`."""
        return _opened(self.wrap, wrapped, self._name(job, "key"))

    def sealed(self, job: str, kind: str, record_key: bytes, said: Sidecar) -> bytes:
        """Return a job's sidecar, encrypted; `kind` is `started` or `ended`."""
        return _sealed(record_key, msgspec.json.encode(said), self._name(job, kind))

    def opened(self, job: str, kind: str, record_key: bytes, data: bytes) -> Sidecar:
        """Return a job's sidecar, or raise `Failed`."""
        text = _opened(record_key, data, self._name(job, kind))
        return msgspec.json.decode(text, type=Sidecar)

    def _name(self, job: str, kind: str) -> bytes:
        return f"guise {kind} v1 {self.tenant} {job}".encode()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a job has in the tables: its wrapped record key, and its sidecars."""

    wrapped: bytes
    sidecars: dict[str, bytes]

    def started(self, job: str, keys: TenantKeys) -> tuple[bytes, Sidecar | None]:
        """Return the record key, and what opens the commitments of `started`."""
        record_key = keys.unwrapped(job, self.wrapped)
        data = self.sidecars.get(STARTED)
        if data is None:
            return record_key, None
        return record_key, keys.opened(job, STARTED, record_key, data)


def begun(event: Event, keys: KeyProvider) -> Private | None:
    """Return what a `started` brings along; None where it brings nothing.

    Raises `InvalidRequest` unless it opens the commitments that are signed: each of
    them, and no other.  What a job used cannot be left out.
    """
    text = event.extensions.get(SIDECAR)
    if event.type != SWAP_STARTED or text is None:
        return None
    said, job = Sidecar.parse(text), event.data.get("job")
    if not job or not isinstance(job, str):
        raise InvalidRequest(f"{SIDECAR}: of no job")
    if _commitments(said) != committed(event.data):
        raise InvalidRequest(f"{SIDECAR}: does not open the event's commitments")
    tenant_keys = TenantKeys.of(keys, event.tenant)
    return _private(tenant_keys, job, STARTED, os.urandom(_KEY_BYTES), said)


def has_result(event: Event) -> bool:
    """Return whether an event brings the digest of a result along."""
    return event.type == SWAP_COMPLETED and SEALED in event.extensions


def ended(event: Event, kept: Kept | None, keys: KeyProvider) -> Private | None:
    """Return what an ending brings along; None, with a warning, if it does not open.

    `kept` is what its job's `started` brought.  An ending is recorded whatever
    comes with it: what it says has happened.
    """
    try:
        return _ended(event, kept, keys)
    except Problem as fault:
        logger.warning("%s of %s is not indexed: %r", event.id, event.tenant, fault)
        return None


def _ended(event: Event, kept: Kept | None, keys: KeyProvider) -> Private:
    job = str(event.data.get("job", ""))
    if kept is None:
        raise InvalidRequest("its job has no sidecar")
    tenant_keys = TenantKeys.of(keys, event.tenant)
    record_key, begun = kept.started(job, tenant_keys)
    if begun is None:
        raise InvalidRequest("its job's sidecar holds no salt")
    digest = open_result(begun.salt, job, event.extensions[SEALED])
    said = sidecar_of(begun.salt, [("result", digest)])
    if _commitments(said) != committed(event.data):
        raise InvalidRequest(f"{SEALED}: does not open the event's commitment")
    return _private(tenant_keys, job, ENDED, record_key, said)


def _private(
    keys: TenantKeys, job: str, kind: str, record_key: bytes, said: Sidecar
) -> Private:
    from functions.audit.store import Private, Sealed

    return Private(
        keys.wrapped(job, record_key),
        (Sealed(kind, keys.sealed(job, kind, record_key, said)),),
        tuple((keys.mac(each.sha256), each.role) for each in said.images),
    )


def _commitments(said: Sidecar) -> set[tuple[str, str]]:
    return {(each.role, commitment(said.salt, each.sha256)) for each in said.images}


def _sealed(key: bytes, data: bytes, name: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data, name)


def _opened(key: bytes, sealed: bytes, name: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce, data = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, data, name)
    except (InvalidTag, ValueError) as error:
        raise Failed(internal=f"{name.decode()} does not open") from error
