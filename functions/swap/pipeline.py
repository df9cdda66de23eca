"""The whole story of one job, top to bottom.  Read this first.

process(job)        has it ended? → admission → claim
    account         the receipt first, or nothing happens
        fetch and decode
        lease       the device is held, and metered, here and only here
            the content gate, the work, and the gate again
        encode, sign and store
    commit          once, with the ending events inside; then they are sent
"""

from __future__ import annotations

import hashlib
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec import structs

from functions.problems import Changed, Failed, Refused, TooLarge
from functions.swap import fairness, gate, intake, journal, ledger
from functions.swap.job import MEDIA_TYPES
from functions.swap.journal import Books, Entry, account, end_unreached
from functions.swap.ledger import Output, Record
from functions.swap.operations import (
    carry_out,
    described,
    let_in,
    let_out,
    look,
    permit,
)
from functions.swap.policy import admit, gate_policy
from functions.swap.provenance import Work
from functions.swap.threads import Helpers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.roster import Spec
    from functions.settings import Limits
    from functions.storage import Store
    from functions.swap.gate import Gate
    from functions.swap.intake import Accepted
    from functions.swap.job import SwapJob
    from functions.swap.lease import Device, Memory, Slot
    from functions.swap.ledger import Claim
    from functions.swap.operations import Done, Engine, Image, Scene
    from functions.swap.provenance import Credentials
    from functions.tenant import Key, Tenant
    from functions.warm import Warm

    Kind = Literal["jpeg", "png", "webp", "json"]

VISIBLE_LABELS: Final[Mapping[str, str]] = {
    "swap": "AI: face swapped",
    "anonymize": "faces covered",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine with its models, what is said of them in records, and what signs.

    `device` has kind, name and uuid.  `proof` ends when every byte of the models and
    every golden output has been compared; no answer leaves before.  `vetted` says
    under which licence they serve, and `gate_accepted` is the id of the operator's
    acceptance of swaps without a content gate, if there is one.  `helpers` are
    the threads that the engine works with.
    """

    engine: Engine
    device: Mapping[str, str]
    model_digest: str
    credentials: Credentials
    proof: Warm[None]
    vetted: Mapping[str, str]
    gate_accepted: str = ""
    helpers: Helpers = field(default_factory=Helpers)


@dataclass(frozen=True, slots=True)
class Services:
    """What a job needs from the world; `pack` names the models in records.

    `memory` is leased by every job that holds pictures, so that no crowd of jobs
    waits for the device with all of theirs decoded.  `spec` says what the tenant may,
    and its share of both; `estimates` know what jobs take.  `gate_required` says that
    nothing is swapped without a content gate, unless the operator has accepted that.
    """

    books: Books
    device: Device
    memory: Memory
    loading: Warm[Loaded]
    pack: Mapping[str, str]
    spec: Spec
    estimates: fairness.Estimates
    gate_required: bool = True


def process(tenant: Tenant, job_id: str, services: Services) -> Record:
    """Bring an accepted job to its end, and return how it ended.

    Raises `NotFound` where nothing was accepted, `Busy` where somebody else works
    on it, `Unavailable` where another try may do better.
    """
    books = services.books
    ending = ledger.record(tenant, job_id, books.store)
    if ending is not None:
        books.deliver(ending)
        return ending
    accepted = intake.load(tenant, job_id, books.store)
    operation = accepted.request.operation
    try:
        job = intake.job_of(accepted, tenant, books.limits)
        # Again: a consent may have been withdrawn since, or a budget used up, and
        # what stands now is what goes on record.
        admission = admit(job, books.store, books.keys, services.spec)
        accepted = structs.replace(accepted, admission=admission)
        return run(job, accepted, services)
    except Refused as refusal:
        return end_unreached(job_id, operation, refusal, books)
    except ledger.Exhausted:
        return end_unreached(job_id, operation, Failed(), books)
    except BaseException as error:
        # Whoever keeps it, to log it say, keeps no picture.
        traceback.clear_frames(error.__traceback__)
        raise


def run(job: SwapJob, accepted: Accepted, services: Services) -> Record:
    """Carry out one attempt."""
    with (
        claimed(job, accepted, services) as held,
        in_turn(job, accepted, services) as slot,
        account(job, accepted, held, services.books) as entry,
    ):
        inputs = fetch(job, accepted, entry, services.books)
        entry.stages.did("fetch")
        images = decode(inputs, services.books.limits)
        entry.stages.did("decode")
        loaded = entry.waited_for(services.loading)
        entry.stages.did("load")
        engine, limits = loaded.engine, services.books.limits
        permit(job, images, engine.offers, limits)
        entry.gate = open_gate(job, accepted, loaded, services)
        # Until the models are proved, the device's threads prove them, too.
        helpers = loaded.helpers if loaded.proof.ready else None
        lease = services.device.lease(job.tenant, helpers, slot=slot)
        with _proved_on_leaving(loaded, entry), lease as entry.meter:
            entry.stages.did("wait")
            entry.note(loaded.device, loaded.model_digest, loaded.vetted)
            let_in(job, images, engine, entry.gate)
            scene = look(job, images, engine, limits)
            done = carry_out(job, scene, engine)
            let_out(done, engine, entry.gate)
            entry.stages.did("work")
        entry.faces = [described(face) for face in done.faces]
        entry.counts = done.counts
        data, form = encode(job, scene, done, entry)
        if form != "json":
            work = Work(job.id, job.operation, services.pack, entry.receipt)
            signed = loaded.credentials.sign(data, form, inputs[job.target], work)
            data, entry.provenance = signed.data, signed.described()
        entry.stages.did("encode")
        ledger.confirm(held, limits, tenant=job.tenant, store=services.books.store)
        entry.output = keep(job, held, data, form, services.books.store)
        entry.stages.did("store")
    return entry.ended()  # which `account` committed as it was left


@contextmanager
def _proved_on_leaving(loaded: Loaded, entry: Entry) -> Iterator[None]:
    """Wait, after the body, until the models are proved; a refusal is an answer too."""
    try:
        yield
    finally:
        entry.waited_for(loaded.proof)


@contextmanager
def in_turn(job: SwapJob, accepted: Accepted, services: Services) -> Iterator[Slot]:
    """Hold a slot for pictures in the tenant's turn, and learn what the job took."""
    input_bytes = sum(accepted.inputs[key].size for key in job.inputs)
    work = fairness.load(job, input_bytes)
    standing = fairness.Standing(services.spec.weight, services.spec.priority)
    expected_ns = services.estimates.expect(job.operation, work)
    with services.memory.lease(job.tenant, standing, expected_ns) as slot:
        yield slot
    services.estimates.learn(job.operation, work, slot.device_ns)


@contextmanager
def claimed(job: SwapJob, accepted: Accepted, services: Services) -> Iterator[Claim]:
    """Hold the claim on a job, and keep it alive, while the body works."""
    books = services.books
    held = ledger.claim(
        job.tenant,
        job.id,
        store=books.store,
        limits=books.limits,
        start=lambda n: journal.started(job, accepted, n, books, services.pack),
    )
    with ledger.renewing(
        held, tenant=job.tenant, store=books.store, limits=books.limits
    ):
        yield held


def fetch(
    job: SwapJob,
    accepted: Accepted,
    entry: Entry,
    books: Books,
) -> dict[Key, bytes]:
    """Return the very bytes that were accepted."""
    inputs = intake.fetch(job, accepted, books.store)
    entry.input_bytes = sum(len(data) for data in inputs.values())
    return inputs


def decode(inputs: Mapping[Key, bytes], limits: Limits) -> dict[Key, Image]:
    """Return the job's pictures, or raise `TooLarge` for too much in all."""
    from functions.swap import media

    headers = [media.read_header(data) for data in inputs.values()]
    pixels = sum(header.width * header.height for header in headers)
    if pixels > limits.job_pixels_max:
        raise TooLarge(f"over {limits.job_pixels_max:,} pixels in all pictures")
    return {
        key: media.decode(
            data,
            bytes_max=limits.image_bytes_max,
            pixels_max=limits.image_pixels_max,
        )
        for key, data in inputs.items()
    }


def open_gate(
    job: SwapJob, accepted: Accepted, loaded: Loaded, services: Services
) -> Gate | None:
    """Return the content gate of a swap; nothing else passes through one.

    Raises `NoContentGate` where nothing judges as it must.
    """
    if job.operation != "swap":
        return None
    return gate.opened(
        loaded.engine.offers,
        gate_policy(accepted.admission),
        required=services.gate_required,
        accepted=loaded.gate_accepted,
    )


def encode(job: SwapJob, scene: Scene, done: Done, entry: Entry) -> tuple[bytes, Kind]:
    """Return the output's bytes, and the name of its format."""
    if job.operation == "detect":
        return msgspec.json.encode({"faces": entry.faces}), "json"
    from functions.swap import media

    options = job.request.options
    form = options.format or scene.target.format
    if options.visible_label:
        boxes = [[side * done.scale for side in face.box] for face in scene.faces]
        media.write_on(done.output, VISIBLE_LABELS[job.operation], avoid=boxes)
    return media.encode(done.output, form, options.quality), form


def keep(
    job: SwapJob,
    held: Claim,
    data: bytes,
    form: str,
    store: Store,
) -> Output:
    """Store this attempt's output under its own key.

    Of two tries of one attempt the later wins: it has the claim, and alone can commit.
    The earlier was given up for want of an answer.  What it sent and is still on its
    way comes if absent only, so it never lands on what is committed; what of it is in
    the store already nobody has committed, and it is written over.
    """
    key = job.tenant.output(job.id, held.attempt, form)
    try:
        store.put_if_absent(key, data)
    except Changed:
        store.put(key, data)  # the earlier try's: it loses
    return Output(key, MEDIA_TYPES[form], len(data), hashlib.sha256(data).hexdigest())
