"""The worker: has the models and the device, and runs jobs.

`gunicorn 'functions.swap.worker:create_app()'`.  Reachable inside only: events
from the broker and the bucket, and the door's calls.  What runs is read from the
tenant's own store, so an event can at most start what the tenant asked for.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from functions import events
from functions.auth import cluster_of
from functions.keys import FileKeys, events_key
from functions.metrics import Metrics
from functions.problems import (
    Forbidden,
    InvalidRequest,
    NotFound,
    NotServedHere,
    Refused,
    Unavailable,
    UnknownTenant,
)
from functions.ratelimit import Room
from functions.roster import roster_of
from functions.settings import Settings
from functions.sink import HttpAuditor, HttpSink, Undeliverable
from functions.storage import Stores
from functions.structs import prepare
from functions.swap import intake, ledger, uploads
from functions.swap.fairness import Estimates
from functions.swap.job import SwapJob
from functions.swap.journal import Books, end_unreached
from functions.swap.lease import Device, Memory
from functions.swap.loading import load_or_end, pack_named
from functions.swap.pipeline import Services, process
from functions.swap.policy import admit
from functions.swap.refusals import Refusals
from functions.tenant import REQUESTS, Tenant, job_of_request
from functions.warm import Warm
from functions.web import (
    answer_notice,
    guard,
    json_response,
    new_app,
    received_event,
    speaker_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from flask import Flask, Response

    from functions.auth import Speaker
    from functions.events import Event
    from functions.keys import KeyProvider
    from functions.roster import Roster, Spec
    from functions.sink import Auditor, Sink
    from functions.storage import Store
    from functions.swap.ledger import Record
    from functions.swap.pipeline import Loaded
    from functions.swap.uploads import Upload, Uploads

log = logging.getLogger(__name__)

RUN: Final = "/v1/tenants/<tenant>/jobs/<job>"
UPLOAD_ACTOR: Final = "upload"
_DOORS_OWN: Final = re.compile(r"k[0-9a-f]{32}")
"""What the door derives from an Idempotency-Key; see `door`."""
_JOBS_WITH_PICTURES_MAX: Final = 4


def create_app(
    settings: Settings | None = None,
    *,
    stores: Stores | None = None,
    keys: KeyProvider | None = None,
    roster: Roster | None = None,
    auditor: Auditor | None = None,
    sink: Sink | None = None,
    load: Callable[[], Loaded] | None = None,
) -> Flask:
    """Wire one worker.  Every collaborator can be handed in."""
    settings = settings or Settings.from_env(os.environ)
    wanted: dict[str, object] = {
        "store": stores,
        "keys": keys,
        "audit_url": auditor,
        "sink_url": sink,
    }
    wanted |= {"models": load, "provenance": load}
    settings.require(*(name for name, given in wanted.items() if given is None))
    keys = keys or FileKeys(settings.need("keys"))
    metrics = Metrics()
    worker = Worker(
        settings,
        stores=stores or Stores.from_settings(settings),
        keys=keys,
        roster=roster or roster_of(settings),
        auditor=auditor or HttpAuditor.from_settings(settings),
        sink=sink or HttpSink.from_settings(settings),
        loading=Warm(timed(load or (lambda: load_or_end(settings, keys)), metrics)),
        metrics=metrics,
    )
    app = new_app(
        __name__,
        bytes_max=settings.limits.event_bytes_max,
        metrics=worker.metrics,
        settings=settings,
    )

    cluster = cluster_of(settings)
    guard(app, cluster, RUN)

    @app.post("/events")
    def receive() -> Response:
        told = partial(worker.on_notice, speaker=speaker_of(cluster))
        return answer_notice(told, uploads.read)

    @app.post(RUN)
    def run(tenant: str, job: str) -> Response:
        event = received_event(settings.limits.event_bytes_max)
        return json_response(worker.on_call(Tenant(tenant), job, event))

    return app


class Worker:
    """What the worker's doors share: the tenants' stores, the device, the engine."""

    def __init__(
        self,
        settings: Settings,
        *,
        stores: Stores,
        keys: KeyProvider,
        roster: Roster,
        auditor: Auditor,
        sink: Sink,
        loading: Warm[Loaded],
        metrics: Metrics,
    ) -> None:
        self.metrics = metrics
        self._limits = settings.limits
        self._stores = stores
        self._keys = keys
        self._roster = roster
        self._auditor = auditor
        self._sink = sink
        self._loading = loading
        pooled = settings.tenant is None
        self._device = Device(
            share=settings.device_share, heard=partial(self._heard, "device")
        )
        self._memory = Memory(
            _JOBS_WITH_PICTURES_MAX,
            shared=pooled,
            heard=partial(self._heard, "pictures"),
        )
        self._estimates = Estimates()
        self._room = Room(settings.limits.queue_jobs_max, shared=pooled)
        self._refusals = Refusals(settings.limits)
        self._pack = pack_named(settings.models) if settings.models else {}
        if self._pack:
            metrics.every["pack"] = "{id}/{version}".format_map(self._pack)
        self._gate_required = settings.profile == "production"

    def on_notice(self, notice: Event | Uploads, speaker: Speaker) -> None:
        """Do what an event asks for; `Busy` is done too, as somebody is at it."""
        if isinstance(notice, tuple):
            self._on_uploads(notice, speaker)
        elif notice.type != events.SWAP_REQUESTED:
            raise InvalidRequest(f"the worker takes no {notice.type}")
        else:
            speaker.require(notice.tenant)
            with _busy_is_done(notice.subject):
                self._on_request(notice)

    def on_call(self, tenant: Tenant, job: str, event: Event) -> Record:
        """Run the job the door speaks of and return how it ended."""
        self._verify(event)
        if (event.type, event.tenant, event.data.get("job")) != (
            events.SWAP_REQUESTED,
            tenant.id,
            job,
        ):
            raise Forbidden("the event is not about this job")
        with self._queued(tenant):
            return self._process(tenant, job)

    def _on_request(self, event: Event) -> None:
        tenant = self._verify(event)
        job = event.data.get("job")
        if not isinstance(job, str):
            raise InvalidRequest("the event names no job")
        try:
            with self._queued(tenant):
                self._process(tenant, job)
        except NotFound:
            log.warning("%s: no job %s was accepted", event.tenant, job)

    def _verify(self, event: Event) -> Tenant:
        """Return whose event it is; a name has its form before it finds a key."""
        tenant = Tenant(event.tenant)
        events.verify(event, self._keys.verifiers(events_key(tenant.id)))
        return tenant

    def _on_uploads(self, told: Uploads, speaker: Speaker) -> None:
        """Do each that one notice tells of; only then raise the first to mend."""
        failures: list[Exception] = []
        for upload in told:
            try:
                with _busy_is_done(upload.name):
                    self._on_upload(upload, speaker)
            except Exception as error:  # none may keep the others back
                log.warning("%s: not done", upload.name, exc_info=len(told) > 1)
                failures.append(error)
        try:
            if failures:
                raise min(failures, key=_place)
        finally:
            failures.clear()  # or they keep this frame, and it them: see `sink`

    def _on_upload(self, upload: Upload, speaker: Speaker) -> None:
        """Accept and run `requests/<job>.json`; any other object is no business."""
        bucket, name = upload.bucket, upload.name
        try:
            tenant, name = self._stores.locate(bucket, name)
            self._spec(tenant)
        except UnknownTenant:
            log.warning("an upload to a bucket of nobody here: %r", bucket)
            return
        speaker.require(tenant.id)
        if name.startswith(REQUESTS):
            with self._queued(tenant):
                self._on_request_file(tenant, name, upload.which)

    def _on_request_file(self, tenant: Tenant, name: str, which: str) -> None:
        try:
            job = job_of_request(name)
            if _DOORS_OWN.fullmatch(job):
                raise InvalidRequest("ids of this form are the door's own")
            accepted = self._accept(tenant, job)
        except Refused as problem:
            self._refuse(tenant, name, which, problem)
            return
        if accepted:
            self._process(tenant, job)

    def _accept(self, tenant: Tenant, job: str) -> bool:
        """Accept what was uploaded; when it is refused, that is how the job ends."""
        books, spec = self._books(tenant), self._spec(tenant)
        try:
            body = self._uploaded(tenant, job, books.store)
            if body is None:
                return False
            parsed = SwapJob.parse(
                body,
                job=job,
                tenant=tenant,
                actor=UPLOAD_ACTOR,
                limits=self._limits,
            )
            admission = admit(parsed, books.store, books.keys, spec)
            intake.accept(parsed, admission, books.store, self._limits)
        except Refused as problem:
            if ledger.known(tenant, job, books.store):
                raise  # another request under a used id: the first one stands
            end_unreached(job, "", problem, books)
            return False
        return True

    def _uploaded(self, tenant: Tenant, job: str, store: Store) -> bytes | None:
        """Return a request's bytes; None where there are none, and so no job.

        Anybody may say that something was uploaded: the id stays free for the tenant.
        """
        limit = self._limits.request_bytes_max
        try:
            return store.get(tenant.request(job), bytes_max=limit).data
        except NotFound:
            log.warning("%s: no request %s was uploaded", tenant.id, job)
            return None

    def _refuse(self, tenant: Tenant, name: str, which: str, problem: Refused) -> None:
        # Nobody waits for an answer, and no job's record tells of it.
        log.warning("an upload to %s is refused: %s", tenant.id, problem)
        books = self._books(tenant)
        where = hashlib.sha256(name.encode()).hexdigest()
        event = self._refusals.event(problem, books, "upload", where, which)
        if event is None:
            return
        try:
            self._sink.deliver(event, timeout=self._limits.delivery_ms_max / 1000)
        except Undeliverable:
            log.exception("a refusal is not on record")  # nor would it be next time

    def _process(self, tenant: Tenant, job: str) -> Record:
        services = Services(
            self._books(tenant),
            self._device,
            self._memory,
            self._loading,
            self._pack,
            spec=self._spec(tenant),
            estimates=self._estimates,
            gate_required=self._gate_required,
        )
        ending = process(tenant, job, services)
        took = ending.swap_ms or 0
        log.info("%s of %s: %s, %d ms", job, tenant.id, ending.outcome, took)
        return ending

    def _queued(self, tenant: Tenant) -> AbstractContextManager[None]:
        """Hold one of the places to wait in, or raise `Unavailable`.

        So it is answered with 503 on every way in: a broker tries again later, and a
        caller of the door's finds its job accepted.
        """
        quotas = self._spec(tenant).quotas
        return self._room.place(tenant, quotas.concurrency)

    def _spec(self, tenant: Tenant) -> Spec:
        """Return the tenant's spec; `NotServedHere` if it is promised another pack."""
        spec = self._roster.spec(tenant)
        for field, said in (("version", spec.models.pin), ("id", spec.models.pack)):
            here = self._pack.get(field, "")
            if said and said != here:
                raise NotServedHere(
                    "this tenant has a worker of its own, with other models",
                    internal=f"models of {tenant.id} are {said!r} by its spec, and "
                    f"this worker has {here!r}: `guise tenant render {tenant.id}`",
                )
        return spec

    def _heard(self, place: str, tenant: Tenant, priority: int, seconds: float) -> None:
        self.metrics.observe(
            "queue_wait_seconds",
            seconds,
            place=place,
            priority=str(priority),
            tenant=tenant.id,
        )

    def _books(self, tenant: Tenant) -> Books:
        return Books(
            tenant,
            self._stores.of(tenant),
            self._keys,
            self._auditor,
            self._sink,
            self._limits,
            self.metrics,
        )


def _place(error: Exception) -> int:
    """Return how soon an answer should tell of it: what may pass by itself, first."""
    if isinstance(error, Refused):
        return 2
    return 0 if isinstance(error, Unavailable) else 1


def timed(load: Callable[[], Loaded], metrics: Metrics) -> Callable[[], Loaded]:
    """Return `load`, so made that the metrics hear how long it took."""

    def loads() -> Loaded:
        began = time.monotonic()
        loaded = load()
        took = time.monotonic() - began
        metrics.observe("cold_start_seconds", took, stage="models")
        return loaded

    return loads


@contextmanager
def _busy_is_done(what: str) -> Iterator[None]:
    try:
        yield
    except ledger.Busy:
        log.info("%s: somebody works on it", what)


prepare()  # before the thread that loads the models
