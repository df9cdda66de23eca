"""The account of one attempt: it cannot start unrecorded or end unrecorded."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import structs

from functions import __version__, events, keys
from functions.commitments import SEALED, SIDECAR, commitment, seal_result
from functions.metrics import Metrics
from functions.problems import (
    Cancelled,
    Changed,
    Failed,
    NoReceipt,
    Problem,
    Refused,
    Unavailable,
)
from functions.sink import Unrecordable
from functions.swap import ledger, outbox
from functions.swap.counting import Stages, count_ending, count_stages
from functions.swap.lease import Meter, coarse_bytes, decimal_seconds
from functions.swap.ledger import Record
from functions.swap.tidying import tidy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.events import Event
    from functions.keys import KeyProvider
    from functions.roster import Retention
    from functions.settings import Limits
    from functions.sink import Auditor, Receipt, Sink
    from functions.storage import Store
    from functions.swap.gate import Gate
    from functions.swap.intake import Accepted
    from functions.swap.job import SwapJob
    from functions.swap.ledger import Claim, Output
    from functions.tenant import Tenant
    from functions.warm import Warm

log = logging.getLogger(__name__)

T = TypeVar("T")

ENDINGS: Final[Mapping[str, str]] = {
    ledger.COMPLETED: events.SWAP_COMPLETED,
    ledger.REFUSED: events.SWAP_REFUSED,
    ledger.FAILED: events.SWAP_FAILED,
    ledger.CANCELLED: events.SWAP_FAILED,
    ledger.ERASED: events.SWAP_ERASED,
}


@dataclass(frozen=True, slots=True)
class Books:
    """Where one tenant's jobs are written down, and who is told.

    `retention` is for how long the operator lets the tenant keep things, and
    `storage_gib` how much.
    """

    tenant: Tenant
    store: Store
    keys: KeyProvider
    auditor: Auditor
    sink: Sink
    limits: Limits
    metrics: Metrics = field(default_factory=Metrics)
    retention: Retention | None = None
    storage_gib: int | None = None

    def signed(
        self,
        job: str,
        kind: str,
        data: Mapping[str, Any],
        *distinct: str,
        extensions: Mapping[str, str] | None = None,
    ) -> Event:
        """Return an event about `job` with a derived id and the tenant's signature.

        The signature does not cover `extensions`.
        """
        tenant = self.tenant.id
        event = events.Event(
            id=events.derived_id(tenant, job, kind, *distinct),
            source=events.swap_source(tenant),
            type=kind,
            subject=tenant if kind == events.USAGE_RECORDED else job,
            time=events.now(),
            tenant=tenant,
            data=data,
            extensions=extensions or {},
        )
        return events.sign(event, self.keys.signer(keys.events_key(tenant)))

    def deliver(self, ending: Record) -> bool:
        """Send the ending's events, and return whether that is settled.

        What does not go now, the sweeper sends; what never will is noted, and
        counted.
        """
        came_of_it = outbox.deliver(
            ending,
            tenant=self.tenant,
            store=self.store,
            sink=self.sink,
            limits=self.limits,
        )
        self.metrics.count("deliveries", outcome=came_of_it)
        if came_of_it == outbox.DEAD:
            log.error("%s of %s cannot be delivered", ending.job, self.tenant.id)
        return came_of_it != outbox.LATER


@dataclass(slots=True)
class Entry:
    """What the body of `account` finds out; `ending` is there once it has ended."""

    receipt: Receipt
    faces: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] | None = None
    meter: Meter = field(default_factory=Meter)
    device: Mapping[str, str] | None = None
    model_digest: str = ""
    vetted: Mapping[str, str] = field(default_factory=dict)
    load_ms: int = 0
    cpu_ns: int = 0
    input_bytes: int = 0
    output: Output | None = None
    provenance: dict[str, Any] | None = None
    gate: Gate | None = None
    ending: Record | None = None
    stages: Stages = field(default_factory=Stages)

    def waited_for(self, loading: Warm[T]) -> T:
        """Return what is being loaded; how long that took this job is never billed."""
        began = time.monotonic_ns()
        loaded = loading.get()
        self.load_ms += (time.monotonic_ns() - began) // 1_000_000
        return loaded

    def note(
        self, device: Mapping[str, str], model_digest: str, vetted: Mapping[str, str]
    ) -> None:
        """Note on what, with which models, under what licence the work is done."""
        self.device, self.model_digest, self.vetted = device, model_digest, vetted

    def ended(self) -> Record:
        """Return how the job ended; only after `account` has."""
        if self.ending is None:
            raise Failed(internal="asked for an ending before there was one")
        return self.ending

    def cancelled(self, ended: str, job: SwapJob) -> dict[str, Any] | None:
        """Return the data of `usage.recorded` for a job cancelled at `ended`.

        Of its device and its CPU, what the lease took up to then, and nothing else:
        None where that is nothing.
        """
        before = self.meter.up_to(events.milliseconds(ended))
        if not before.lease_ms:
            return None
        part = replace(self, meter=before, cpu_ns=before.cpu_ns, output=None)
        data = part.usage(job)
        return None if data is None else {**data, "requests": 0}

    def usage(self, job: SwapJob) -> dict[str, Any] | None:
        """Return the data of `usage.recorded`; None if no device was leased.

        Seconds are decimal text with exact milliseconds.  On a CPU there are no
        GPU-seconds; CPU-seconds are those of the job's own thread from its receipt
        to its output, and those of the device's threads while it was leased: no
        other tenant's work is among them.
        """
        if self.device is None:
            return None
        on_gpu = self.device["kind"] != "cpu"
        return {
            "job": job.id,
            "operation": job.operation,
            "device": {**self.device, "share": str(self.meter.share)},
            "leased_at": events.rfc3339_of(self.meter.granted_ms),
            "lease_ms": self.meter.lease_ms,
            "gpu_seconds": decimal_seconds(self.meter.device_ns if on_gpu else 0),
            "cpu_seconds": decimal_seconds(self.cpu_ns + self.meter.helpers_ns),
            "load_ms": self.load_ms,
            "requests": 1,
            "faces": len(self.faces),
            "frames": 1,
            "input_bytes": coarse_bytes(self.input_bytes),
            "output_bytes": coarse_bytes(self.output.size if self.output else 0),
            "model_digest": self.model_digest,
        }


def started(
    job: SwapJob,
    accepted: Accepted,
    attempt: int,
    books: Books,
    pack: Mapping[str, str],
) -> Event:
    """Return the signed event that says what is about to be done, and on what.

    It rests in the claim with its sidecar, is sent to audit alone, and dies with both.
    """
    commitments: dict[str, Any] = {
        "sources": [accepted.commitment(key) for key in job.sources],
        "target": accepted.commitment(job.target),
    }
    if job.references:
        commitments["references"] = [accepted.commitment(key) for key in job.references]
    data: dict[str, Any] = {
        "job": job.id,
        "attempt": attempt,
        "operation": job.operation,
        "actor": job.actor,
        "commitments": commitments,
        "admission": _sealed(accepted),
        "pack": pack,
        "code": __version__,
    }
    if accepted.retries:
        data["retries"] = accepted.retries
    return books.signed(
        job.id,
        events.SWAP_STARTED,
        data,
        str(attempt),
        extensions={SIDECAR: accepted.sidecar(job).text()},
    )


def _sealed(accepted: Accepted) -> dict[str, Any]:
    """Return the admission without names: the log outlives an erasure.

    A consent record is committed to as an image is, by its key and its bytes.
    """
    admission = dict(accepted.admission)
    consent = admission.get("consent")
    if consent and "id" in consent:
        whole = hashlib.sha256(events.canonical([consent["id"], consent["sha256"]]))
        record = commitment(accepted.salt, whole.hexdigest())
        kept = {"basis": consent["basis"], "state": consent["state"]}
        admission["consent"] = {**kept, "record": record}
    return admission


@contextmanager
def account(
    job: SwapJob,
    accepted: Accepted,
    held: Claim,
    books: Books,
) -> Iterator[Entry]:
    """Get the receipt, let the body work, and commit exactly one ending.

    A `Refused` from the body is an ending and goes no further.  `Unavailable` lets
    the job go for the same attempt again.  Any other error lets it go for another
    one and comes out as `Unavailable`; when it was the last attempt, it is the
    ending `failed`.
    """
    stages = Stages()
    try:
        timeout = books.limits.receipt_ms_max / 1000
        receipt = books.auditor.receipt(held.started, timeout=timeout)
    except NoReceipt:
        _release(held, books, again=True)
        raise
    except Unrecordable as error:
        _release(held, books, again=False)  # another attempt tells of itself anew
        raise Unavailable(internal=str(error)) from error
    stages.did("receipt")
    entry = Entry(receipt, stages=stages)
    cpu = time.thread_time_ns()
    try:
        yield entry
        outcome, problem = ledger.COMPLETED, None
    except Refused as refusal:
        outcome, problem = ledger.REFUSED, refusal.document()
    except Unavailable:
        _release(held, books, again=True)  # a store that is away uses up no attempt
        raise
    except Exception as error:
        log.exception("job %s attempt %d", job.id, held.attempt)
        if held.attempt < books.limits.attempts_max:
            _release(held, books, again=False)
            raise Unavailable(internal=repr(error)) from error
        outcome, problem = ledger.FAILED, Failed().document()
    entry.cpu_ns = time.thread_time_ns() - cpu
    ending = Record(
        job=job.id,
        operation=job.operation,
        outcome=outcome,
        attempt=held.attempt,
        ended=events.now(),
        output=entry.output if outcome == ledger.COMPLETED else None,
        problem=problem,
        faces=entry.faces,
        counts=entry.counts,
        receipt=entry.receipt,
        swap_ms=entry.meter.lease_ms,
        provenance=entry.provenance if outcome == ledger.COMPLETED else None,
        gate=entry.gate.verdict() if entry.gate else None,
        vetted=dict(entry.vetted) or None,
    )
    winner = end(ending, books, accepted=accepted, usage=entry.usage(job))
    stages.did("commit")
    count_stages(books.metrics, books.tenant, job.operation, stages)
    if winner.outcome == ledger.CANCELLED and outcome == ledger.COMPLETED:
        winner = _bill(winner, entry.cancelled(winner.ended, job), books)
    entry.ending = winner


def _bill(cancelled: Record, usage: dict[str, Any] | None, books: Books) -> Record:
    """Put what a cancelled job had used into its record, once, and send that.

    The mark comes first: what is not told here, the sweeper tells.
    """
    found, generation = ledger.record_at(books.tenant, cancelled.job, books.store)
    if usage is None or found != cancelled or found.usage is not None:
        return cancelled  # nothing; erased meanwhile; or another attempt's is there
    usage = {**usage, "outcome": ledger.CANCELLED, "billable": True}
    told = books.signed(found.job, events.USAGE_RECORDED, usage)
    billed = structs.replace(
        found, usage=usage, events=[*found.events, events.as_dict(told)]
    )
    outbox.mark(books.tenant, found.job, books.store)
    try:
        ledger.replace(billed, generation, tenant=books.tenant, store=books.store)
    except Changed:
        return cancelled  # as above, a moment later
    books.deliver(billed)
    return billed


def end(
    ending: Record,
    books: Books,
    *,
    accepted: Accepted | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Record:
    """Commit how a job ended, its signed events inside, send them; return the winner.

    `usage` is left out where no device was leased.
    """
    full = closing(ending, books, accepted=accepted, usage=usage)
    winner = ledger.commit(full, tenant=books.tenant, store=books.store)
    if winner is full:
        count_ending(books.metrics, books.tenant, full)
    tidy(winner, tenant=books.tenant, store=books.store)
    books.deliver(winner)
    return winner


def closing(
    ending: Record,
    books: Books,
    *,
    accepted: Accepted | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Record:
    """Return the record with its signed ending events inside."""
    sealed = {}
    if ending.output is not None and accepted is not None:
        digest = ending.output.sha256
        sealed[SEALED] = seal_result(accepted.salt, ending.job, digest)
    kind, data = ENDINGS[ending.outcome], _data(ending, accepted)
    told = [books.signed(ending.job, kind, data, extensions=sealed)]
    if usage is not None:
        usage = {**usage, "outcome": ending.outcome, "billable": _billable(ending)}
        told.append(books.signed(ending.job, events.USAGE_RECORDED, usage))
    return structs.replace(
        ending,
        usage=dict(usage) if usage else ending.usage,
        events=[events.as_dict(each) for each in told],
    )


def end_unreached(
    job: str,
    operation: str,
    problem: Problem,
    books: Books,
) -> Record:
    """End a job that never reached the device: refused, cancelled or given up."""
    outcome = ledger.REFUSED if isinstance(problem, Refused) else ledger.FAILED
    if isinstance(problem, Cancelled):
        outcome = ledger.CANCELLED
    outbox.mark(books.tenant, job, books.store)
    ending = Record(
        job=job,
        operation=operation,
        outcome=outcome,
        attempt=0,
        ended=events.now(),
        problem=problem.document(),
    )
    return end(ending, books)


def _billable(ending: Record) -> bool:
    """Only what was asked for and done is billed: no refusals, no faults of ours.

    What a cancelled job had used by then is billed too; see `_bill`.
    """
    return ending.outcome == ledger.COMPLETED


def _data(ending: Record, accepted: Accepted | None) -> dict[str, Any]:
    """Return what the ending event says: commitments and verdicts, no names."""
    data: dict[str, Any] = {
        "job": ending.job,
        "attempt": ending.attempt,
        "operation": ending.operation,
        "outcome": ending.outcome,
        "faces": len(ending.faces),
    }
    if ending.counts is not None:
        data["counts"] = ending.counts
    if ending.receipt is not None:
        data["started"] = {"index": ending.receipt.index}
    if ending.problem is not None:
        data["reason"] = ending.problem["type"]
    if ending.output is not None and accepted is not None:
        result = commitment(accepted.salt, ending.output.sha256)
        data["commitments"] = {"result": result}
    if ending.gate is not None:
        data["gate"] = ending.gate
    if ending.vetted is not None:
        data["vetted"] = ending.vetted
    if ending.provenance is not None:
        data["provenance"] = ending.provenance
    return data


def _release(held: Claim, books: Books, *, again: bool) -> None:
    ledger.release(
        held,
        tenant=books.tenant,
        store=books.store,
        again=again,
    )
