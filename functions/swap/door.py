"""The door: the public HTTP API, light, and open to everybody with a token.

`gunicorn 'functions.swap.door:create_app()'`.  Authentication, parsing, limits,
idempotency, consent, status, results, listing, cancelling, erasing.  It touches
no pixel, and wakes a worker for nothing but a well-formed job that is allowed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from flask import Response, request

from functions.auth import SWAP_READ, SWAP_WRITE, TokenAuthenticator
from functions.keys import FileKeys
from functions.metrics import Metrics
from functions.problems import (
    InvalidRequest,
    Refused,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnknownTenant,
)
from functions.ratelimit import Rates, Room
from functions.roster import roster_of
from functions.seats import seat
from functions.settings import Settings
from functions.sink import HttpAuditor, HttpSink, Undeliverable
from functions.storage import Stores
from functions.swap import intake, records
from functions.swap.dispatch import HttpWorker, requested
from functions.swap.job import MEDIA_TYPES, SwapJob
from functions.swap.journal import Books
from functions.swap.policy import admit
from functions.swap.refusals import Refusals
from functions.web import json_response, new_app, problem_response, speaks_for

if TYPE_CHECKING:
    from flask import Flask

    from functions.auth import Authenticator, Caller
    from functions.keys import KeyProvider
    from functions.roster import Roster, Spec
    from functions.sink import Auditor, Sink
    from functions.swap.dispatch import Worker
    from functions.swap.ledger import Record
    from functions.tenant import Key

log = logging.getLogger(__name__)

_FORM_BYTES_MAX: Final = 1024 * 1024
"""What a multipart body may hold beside its images."""
_MULTIPART: Final = "multipart/form-data"
_KEY_CHARACTERS_MAX: Final = 255
_CHUNK_BYTES: Final = 64 * 1024
_READS_A_WRITE: Final = 10
"""How often a tenant may look for each time that it may ask for something."""


def create_app(
    settings: Settings | None = None,
    *,
    stores: Stores | None = None,
    keys: KeyProvider | None = None,
    roster: Roster | None = None,
    authenticator: Authenticator | None = None,
    auditor: Auditor | None = None,
    sink: Sink | None = None,
    worker: Worker | None = None,
) -> Flask:
    """Wire one door.  Every collaborator can be handed in."""
    settings = settings or Settings.from_env(os.environ)
    limits = settings.limits
    wanted: dict[str, object] = {"store": stores, "keys": keys, "jwks": authenticator}
    wanted |= {"issuer": authenticator, "audience": authenticator}
    wanted |= {"audit_url": auditor, "sink_url": sink, "worker_url": worker}
    settings.require(*(name for name, given in wanted.items() if given is None))
    door = Door(
        settings,
        stores=stores or Stores.from_settings(settings),
        keys=keys or FileKeys(settings.need("keys")),
        roster=roster or roster_of(settings),
        authenticator=authenticator or TokenAuthenticator.from_settings(settings),
        auditor=auditor or HttpAuditor.from_settings(settings),
        sink=sink or HttpSink.from_settings(settings),
        worker=worker or HttpWorker.from_settings(settings),
    )
    images_bytes = limits.image_bytes_max * (limits.sources_max + 1)
    bytes_max = images_bytes + _FORM_BYTES_MAX
    app = new_app(
        __name__,
        bytes_max=bytes_max,
        metrics=door.metrics,
        described="functions.swap",
        settings=settings,
        public=True,
    )
    app.post("/v1/swaps")(door.create)
    app.get("/v1/swaps")(door.list)
    app.get("/v1/swaps/<job>")(door.show)
    app.get("/v1/swaps/<job>/result")(door.result)
    app.post("/v1/swaps/<job>/cancel")(door.cancel)
    app.delete("/v1/swaps/<job>")(door.erase)
    return app


class Door:
    """One door's routes over what it was wired with."""

    def __init__(
        self,
        settings: Settings,
        *,
        stores: Stores,
        keys: KeyProvider,
        roster: Roster,
        authenticator: Authenticator,
        auditor: Auditor,
        sink: Sink,
        worker: Worker,
    ) -> None:
        self.metrics = Metrics()
        self._limits = settings.limits
        self._stores = stores
        self._keys = keys
        self._roster = roster
        self._authenticator = authenticator
        self._auditor = auditor
        self._sink = sink
        self._worker = worker
        self._refusals = Refusals(settings.limits)
        self._reads, self._writes = Rates(), Rates()
        self._room = Room(
            settings.limits.door_requests_max, shared=settings.tenant is None
        )

    def create(self) -> Response:
        """Answer `POST /v1/swaps`: accept a job; run it, or (202) let it be run."""
        caller, spec, books = self._enter(SWAP_WRITE)
        try:
            spec.admit()  # before a byte of the body is read
            job = self._accept(caller, books)
        except Refused as problem:
            if self._living(books):
                self._put_on_record(problem, books)
            raise
        if _later():
            return self._start_later(job, books)
        self._auditor.wake()  # beside the worker, which would ask it a second later
        try:
            ending = self._worker.run(requested(job.id, books))
        except Unavailable:  # asleep, or the tenant has all its places: by and by
            return self._start_later(job, books)
        return _answer(ending, books)

    def list(self) -> Response:
        """Answer `GET /v1/swaps?cursor=`."""
        _, _, books = self._enter(SWAP_READ)
        return json_response(records.listing(request.args.get("cursor", ""), books))

    def show(self, job: str) -> Response:
        """Answer `GET /v1/swaps/<job>`."""
        _, _, books = self._enter(SWAP_READ)
        return json_response(records.show(job, books))

    def result(self, job: str) -> Response:
        """Answer `GET /v1/swaps/<job>/result` with the output's bytes."""
        _, _, books = self._enter(SWAP_READ)
        return _bytes(records.result(job, books), books)

    def cancel(self, job: str) -> Response:
        """Answer `POST /v1/swaps/<job>/cancel` with how the job ended."""
        _, _, books = self._enter(SWAP_WRITE)
        return json_response(records.cancel(job, books).view())

    def erase(self, job: str) -> Response:
        """Answer `DELETE /v1/swaps/<job>`."""
        _, _, books = self._enter(SWAP_WRITE)
        records.erase(job, books)
        return Response(status=204)

    def _enter(self, scope: str) -> tuple[Caller, Spec, Books]:
        """Return who asks and what they may; the body is not looked at."""
        header = request.headers.get("Authorization", "")
        caller = self._authenticator.caller(header)
        speaks_for(caller.tenant.id)
        spec = self._roster.spec(caller.tenant)
        try:
            self._pace(spec)
            seat(self._room, spec.tenant)
        except TooManyRequests:
            self.metrics.count("too_many_requests", priority=str(spec.priority))
            raise
        caller.require(scope)  # counted by now: a refusal is work, too
        books = Books(
            caller.tenant,
            self._stores.of(caller.tenant),
            self._keys,
            self._auditor,
            self._sink,
            self._limits,
        )
        return caller, spec, books

    def _pace(self, spec: Spec) -> None:
        """Count the request, apart from each other those that look and those that ask.

        So who looks again and again whether a job has ended has its whole rate left.
        """
        if spec.quotas.bucket is None:
            return
        rate, burst = spec.quotas.bucket
        if request.method in {"GET", "HEAD"}:
            rate, burst = rate * _READS_A_WRITE, burst * _READS_A_WRITE
            self._reads.take(spec.tenant, rate, burst)
        else:
            self._writes.take(spec.tenant, rate, burst)

    def _accept(self, caller: Caller, books: Books) -> SwapJob:
        """Return the accepted job; the spec may have changed while the body came."""
        job_id = _job_id(caller)
        images = _images(books, job_id, self._limits.image_bytes_max)
        body = _request_body(images, self._limits.request_bytes_max)
        job = SwapJob.parse(
            body,
            job=job_id,
            tenant=caller.tenant,
            actor=caller.subject,
            limits=self._limits,
        )
        spec = self._roster.spec(caller.tenant)
        spec.admit()
        admission = admit(job, books.store, books.keys, spec)
        intake.accept(
            job,
            admission,
            books.store,
            self._limits,
            received=images,
        )
        if not self._living(books):  # deleted while we wrote
            intake.withdraw(job, books.store, received=images)
            raise UnknownTenant(internal=f"{caller.tenant.id} was deleted meanwhile")
        return job

    def _living(self, books: Books) -> bool:
        """Return whether the tenant is still somebody, as far as it can be told."""
        try:
            self._roster.spec(books.tenant)
        except UnknownTenant:
            return False
        except Unavailable:
            pass
        return True

    def _start_later(self, job: SwapJob, books: Books) -> Response:
        try:
            timeout = self._limits.delivery_ms_max / 1000
            self._sink.deliver(requested(job.id, books), timeout=timeout)
        except (Unavailable, Undeliverable):
            pass  # it is accepted: the sweeper asks for it again
        return _accepted(job.id)

    def _put_on_record(self, problem: Refused, books: Books) -> None:
        """Have the refusal audited, as well as can be while the caller waits."""
        event = self._refusals.event(problem, books, "door", secrets.token_hex(16))
        if event is None:
            return
        try:
            self._sink.deliver(event, timeout=self._limits.delivery_ms_max / 1000)
        except (Unavailable, Undeliverable):
            log.exception("a refusal is not on record")


def _job_id(caller: Caller) -> str:
    """Return the job's id: derived from an Idempotency-Key, or new and by time."""
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > _KEY_CHARACTERS_MAX:
        raise InvalidRequest(
            f"an Idempotency-Key has up to {_KEY_CHARACTERS_MAX} characters"
        )
    if not key:
        return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
    text = f"{caller.tenant.id}\n{caller.subject}\n{key}"
    return "k" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _images(books: Books, job: str, bytes_max: int) -> dict[Key, bytes]:
    """Return the images of a multipart request under the keys they will have."""
    images: dict[Key, bytes] = {}
    if request.mimetype != _MULTIPART:
        return images  # and leave the body to whoever reads it as JSON
    for name in ("source", "target", "keep"):
        for number, file in enumerate(request.files.getlist(name)):
            data = file.stream.read(bytes_max + 1)
            if len(data) > bytes_max:
                raise TooLarge(f"{name} is over {bytes_max} bytes")
            images[books.tenant.received(job, f"{name}-{number}")] = data
    return images


def _request_body(images: dict[Key, bytes], bytes_max: int) -> bytes:
    """Return the request as JSON, the images that came along named in it."""
    if request.mimetype != _MULTIPART:
        if request.mimetype != "application/json":
            raise InvalidRequest("send application/json or multipart/form-data")
        return request.get_data()
    part = request.files.get("request")
    text = part.stream.read(bytes_max + 1) if part else request.form.get("request", "")
    if len(text) > bytes_max:
        raise TooLarge(f"a request has at most {bytes_max} bytes")
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InvalidRequest("the part 'request' is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidRequest("the part 'request' is not a JSON object")
    return msgspec.json.encode(document | _named(images, document))


def _named(images: dict[Key, bytes], document: dict[str, Any]) -> dict[str, Any]:
    sources = [key for key in images if "/source-" in key]
    targets = [key for key in images if "/target-" in key]
    named: dict[str, Any] = {}
    if sources:
        named["source"] = sources
    if targets:
        named["target"] = targets[0]
    if references := [{"reference": key} for key in images if "/keep-" in key]:
        named["keep"] = references
    if len(targets) > 1:
        raise InvalidRequest("one target a request")
    for name in named:
        if name in document:
            raise InvalidRequest(f"{name} is both a file and named in the request")
    return named


def _later() -> bool:
    return "respond-async" in request.headers.get("Prefer", "").lower()


def _wants_bytes() -> bool:
    """Return whether the caller asks for an image rather than the record."""
    names = [name for name, quality in request.accept_mimetypes if quality > 0]
    return bool(names) and names[0].startswith("image/")


def _accepted(job: str) -> Response:
    return json_response(
        {"job": job, "outcome": records.ACCEPTED},
        202,
        Location=f"/v1/swaps/{job}",
    )


def _answer(ending: Record, books: Books) -> Response:
    """Answer a caller who waited: the image, the record, or why there is neither."""
    if ending.problem is not None:
        return problem_response({**ending.problem, "job": ending.job})
    if _wants_bytes() and ending.output and ending.output.type != MEDIA_TYPES["json"]:
        return _bytes(ending, books)
    return json_response(ending.view(), 201, Location=f"/v1/swaps/{ending.job}")


def _bytes(ending: Record, books: Books) -> Response:
    output = ending.output
    if output is None:
        raise Unavailable(internal=f"{ending.job}: no output to send")
    opened = books.store.open(cast("Key", output.key))
    stream = opened.__enter__()
    response = Response(
        iter(lambda: stream.read(_CHUNK_BYTES), b""),
        mimetype=output.type,
        headers={"Content-Length": str(output.size), "Guise-Job": ending.job},
    )
    response.call_on_close(lambda: opened.__exit__(None, None, None))
    return response
