"""From a request to an accepted job: admitted, its inputs pinned, written once.

What is accepted rests in `jobs/<job>/request.json`.  Accepting the same thing
again finds it; accepting something else under the same job id is refused.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import structs

from functions import events
from functions.commitments import commitment, sidecar_of
from functions.problems import (
    Changed,
    Conflict,
    Gone,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    Refused,
    TooLarge,
)
from functions.swap import ledger, outbox
from functions.swap.job import Request, SwapJob, encode_request
from functions.swap.ledger import decoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from functions.commitments import Role, Sidecar
    from functions.settings import Limits
    from functions.storage import Store
    from functions.tenant import Key, Tenant

_CHUNK_BYTES: Final = 1024 * 1024
_ANEW: Final = "a new one takes a new id or key"


class Pinned(msgspec.Struct, frozen=True):
    """One input as it was when the job was accepted; `sha256` is hex."""

    generation: int
    sha256: str
    size: int


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of `jobs/<job>/request.json`.

    `salt` (hex) is what the commitments in the audit log are made with; erasing
    this object makes them say nothing about any image.  `retries` names the failed
    job that this one runs again.
    """

    job: str
    actor: str
    accepted: str
    digest: str
    salt: str
    request: Request
    inputs: dict[str, Pinned]
    admission: dict[str, Any]
    retries: str = ""

    def commitment(self, key: Key) -> str:
        """Return the salted commitment to one input: HMAC-SHA-256, hex."""
        return commitment(self.salt, self.inputs[key].sha256)

    def sidecar(self, job: SwapJob) -> Sidecar:
        """Return what opens every commitment in the job's `started`, for audit."""
        return sidecar_of(self.salt, self._images(job))

    def _images(self, job: SwapJob) -> Iterator[tuple[Role, str]]:
        for key in job.sources:
            yield "source", self.inputs[key].sha256
        yield "target", self.inputs[job.target].sha256
        for key in job.references:
            yield "reference", self.inputs[key].sha256


def accept(
    job: SwapJob,
    admission: dict[str, Any],
    store: Store,
    limits: Limits,
    *,
    received: Mapping[Key, bytes] | None = None,
) -> Accepted:
    """Pin an admitted job's inputs, and make it durable; or raise `Refused`.

    `received` are inputs that came along with the request; they are stored here,
    and gone again when the job is refused.  Once this returns, the job will end:
    the mark in the outbox is what the sweeper goes by, should whoever accepted it
    die.
    """
    received = received or {}
    earlier = _earlier(job, store)
    if earlier is not None:
        return _same(job, earlier, received, store, limits)
    named = [key for key in job.inputs if key not in received]
    inputs = {key: _pin(key, store, limits) for key in named}
    stored = []
    # Before the first image: were we to die here, the sweeper would find them.
    outbox.mark(job.tenant, job.id, store)
    try:
        for key, data in received.items():
            inputs[key] = _receive(key, data, store)
            stored.append(key)
        return _write(job, admission, inputs, store)
    except IdempotencyConflict:
        raise  # the images are those of the job that stands
    except Refused:
        for key in stored:
            store.delete(key)
        store.delete(job.tenant.outbox(job.id))
        raise


def withdraw(job: SwapJob, store: Store, *, received: Iterable[Key]) -> None:
    """Take back what `accept` has written; may be repeated.

    The mark goes last: it is what somebody else would find the rest by.
    """
    for key in (job.tenant.pinned(job.id), *received, job.tenant.outbox(job.id)):
        store.delete(key)


def _earlier(job: SwapJob, store: Store) -> Accepted | None:
    """Return what was accepted under this id before, or raise `Gone` if nothing is."""
    ending = ledger.record(job.tenant, job.id, store)
    if ending is not None and (ending.outcome == ledger.ERASED or ending.expired):
        how = "erased" if ending.outcome == ledger.ERASED else "ended long ago"
        raise Gone(f"the job was {how}; {_ANEW}")
    try:
        return load(job.tenant, job.id, store)
    except NotFound:
        if ending is not None:  # refused before it was accepted, and ended as that
            raise IdempotencyConflict(
                f"{job.id} was refused before, and no job ends twice; {_ANEW}"
            ) from None
        return None


def _write(
    job: SwapJob,
    admission: dict[str, Any],
    inputs: Mapping[Key, Pinned],
    store: Store,
) -> Accepted:
    accepted = Accepted(
        job=job.id,
        actor=job.actor,
        accepted=events.now(),
        digest=job.digest({key: pinned.sha256 for key, pinned in inputs.items()}),
        salt=secrets.token_hex(32),
        request=job.request,
        inputs={str(key): pinned for key, pinned in inputs.items()},
        admission=admission,
    )
    try:
        store.put_if_absent(job.tenant.pinned(job.id), msgspec.json.encode(accepted))
    except Changed:
        winner = load(job.tenant, job.id, store)
        if winner.digest != accepted.digest:
            raise _another(job.id) from None
        return winner
    return accepted


def _same(
    job: SwapJob,
    earlier: Accepted,
    received: Mapping[Key, bytes],
    store: Store,
    limits: Limits,
) -> Accepted:
    """Return what was accepted if this asks for the same of the same bytes."""
    digests = {}
    for key in job.inputs:
        if key in received:
            digests[key] = hashlib.sha256(received[key]).hexdigest()
            continue
        try:
            digests[key] = _pin(key, store, limits).sha256
        except NotFound:  # deleted since: what it was is on record
            pinned = earlier.inputs.get(key)
            digests[key] = pinned.sha256 if pinned else ""
    if job.digest(digests) != earlier.digest:
        raise _another(job.id)
    return earlier


def _another(job: str) -> IdempotencyConflict:
    return IdempotencyConflict(f"{job} is another request; {_ANEW}")


def _receive(key: Key, data: bytes, store: Store) -> Pinned:
    """Store an image that came with the request; a racing twin stores the same."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        generation = store.put_if_absent(key, data)
    except Changed:
        current = store.get(key)
        if hashlib.sha256(current.data).hexdigest() != digest:
            raise IdempotencyConflict("the same key came with another image") from None
        generation = current.generation
    return Pinned(generation, digest, len(data))


def _pin(key: Key, store: Store, limits: Limits) -> Pinned:
    info = store.head(key)
    if info.size > limits.image_bytes_max:
        raise TooLarge(f"{key} is over {limits.image_bytes_max} bytes")
    digest = hashlib.sha256()
    with store.open(key) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return Pinned(info.generation, digest.hexdigest(), info.size)


def renew(failed: Accepted, job: str, tenant: Tenant, store: Store) -> Accepted:
    """Accept as `job` what `failed` asked for, of the inputs pinned then.

    Once only: again, it finds what it accepted.  Raises `IdempotencyConflict` where
    `job` is something else.
    """
    fresh = structs.replace(
        failed,
        job=job,
        accepted=events.now(),
        salt=secrets.token_hex(32),
        retries=failed.job,
    )
    outbox.mark(tenant, job, store)
    try:
        store.put_if_absent(tenant.pinned(job), msgspec.json.encode(fresh))
    except Changed:
        fresh = load(tenant, job, store)
        if fresh.retries != failed.job:
            raise _another(job) from None
    return fresh


def load(tenant: Tenant, job: str, store: Store) -> Accepted:
    """Return what was accepted as `job`, or raise `NotFound`."""
    try:
        data = store.get(tenant.pinned(job)).data
    except NotFound:
        raise NotFound("no such job") from None
    return decoded(data, Accepted)


def job_of(accepted: Accepted, tenant: Tenant, limits: Limits) -> SwapJob:
    """Return the accepted request as a job, or raise `InvalidRequest`."""
    job = SwapJob.parse(
        encode_request(accepted.request),
        job=accepted.job,
        tenant=tenant,
        actor=accepted.actor,
        limits=limits,
    )
    if missing := [key for key in job.inputs if key not in accepted.inputs]:
        raise InvalidRequest(f"{missing[0]} was not pinned when it was accepted")
    return job


def fetch(job: SwapJob, accepted: Accepted, store: Store) -> dict[Key, bytes]:
    """Return the bytes of every input exactly as pinned, or raise `Refused`."""
    return {key: _exactly(key, accepted.inputs[key], store) for key in job.inputs}


def _exactly(key: Key, pinned: Pinned, store: Store) -> bytes:
    try:
        data = store.get(key, bytes_max=pinned.size).data
    except NotFound:
        raise Gone(f"{key} was deleted after the job was accepted") from None
    except TooLarge:
        data = b""
    # The digest alone decides: the same bytes written again are the same input.
    if hashlib.sha256(data).hexdigest() != pinned.sha256:
        raise Conflict(f"{key} was changed after the job was accepted")
    return data
