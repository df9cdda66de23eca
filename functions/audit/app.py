"""The door of the audit function: events come in, receipts and proofs go out."""

from __future__ import annotations

import base64
import logging
import os
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from flask import Response, request

from functions import events
from functions.audit import finishing, sidecar
from functions.audit.leaf import RECEIPTED
from functions.audit.log import Log
from functions.audit.recording import record
from functions.audit.tiles import LEVEL_MAX, parse_tile_path, proof_text
from functions.auth import AUDIT_ERASE, AUDIT_READ, TokenAuthenticator, cluster_of
from functions.commitments import Hex32
from functions.database import check_database
from functions.keys import FileKeys
from functions.metrics import Metrics
from functions.problems import Conflict, Failed, InvalidRequest, NotFound
from functions.seats import seated
from functions.settings import Settings, SettingsError
from functions.tenant import Tenant, job_id
from functions.web import (
    answer_broker,
    guard,
    json_response,
    new_app,
    problem_response,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask import Flask

    from functions.audit.log import Appended
    from functions.audit.read import Reading
    from functions.audit.store import Entry, Selection
    from functions.auth import Authenticator, Caller
    from functions.events import Event
    from functions.keys import KeyProvider

logger = logging.getLogger(__name__)

JSON: Final = "application/json"
TEXT: Final = "text/plain"
OCTETS: Final = "application/octet-stream"
EVENTS: Final = "/v1/tenants/<tenant>/events"
CHECKPOINT: Final = "Guise-Checkpoint"
EPOCH_MAX: Final = 32_767
_FOR_EVER: Final = "private, max-age=31536000, immutable"
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_INDEX_MAX: Final = 2**63 - 1

T = TypeVar("T")
Handler = TypeVar("Handler", bound="Callable[..., Response]")


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for: the SHA-256 of an image's bytes; jobs after `after`."""

    sha256: Hex32
    after: str = ""


class Erasure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which job's private part is to be erased."""

    job: str


def create_app(
    settings: Settings | None = None,
    *,
    log: Log | None = None,
    keys: KeyProvider | None = None,
    authenticator: Authenticator | None = None,
) -> Flask:
    """Wire one audit function; the environment decides what is not handed in.

    Returns before the database is open.  Raises `SettingsError`.
    """
    settings = settings or Settings.from_env(os.environ)
    needed = {"database": log, "keys": keys, "jwks": authenticator}
    needed |= {"issuer": authenticator, "audience": authenticator}
    settings.require(*(name for name, given in needed.items() if given is None))
    keys = keys or FileKeys(cast("Path", settings.keys))
    authenticator = seated(
        authenticator or TokenAuthenticator.from_settings(settings), settings
    )
    metrics = Metrics()
    if log is None:
        check_database(settings.database)
        _check_secret(keys)
        log = _open_log(settings, keys, metrics)
        finishing.begin(log, keys)
    app = new_app(
        "audit",
        bytes_max=settings.limits.event_bytes_max,
        metrics=metrics,
        described="functions.audit",
        settings=settings,
    )
    guard(app, cluster_of(settings), EVENTS)
    _add_events(app, log, keys, metrics)
    _add_log(app, log, authenticator)
    _add_requests(app, log, keys, authenticator)
    return app


def _check_secret(keys: KeyProvider) -> None:
    """Raise `SettingsError` without the secret: no job with a sidecar could start."""
    try:
        keys.secret(sidecar.SECRET)
    except Failed as fault:
        raise SettingsError(f"GUISE_KEYS: {fault}: see docs/audit.md") from fault


def _open_log(settings: Settings, keys: KeyProvider, metrics: Metrics) -> Log:
    """Return the log, whose checkpoints are copied where there is a second store."""
    url, profile = settings.database, settings.profile
    if not settings.witness:
        return Log.at(url, keys, profile=profile)
    from functions.audit.copies import Copies

    copies = Copies(settings.witness, metrics)
    log = Log.at(url, keys, committed=copies.take, profile=profile)
    copies.start(lambda: log.store)
    return log


def _add_events(app: Flask, log: Log, keys: KeyProvider, metrics: Metrics) -> None:
    @app.post(EVENTS)
    def receive(tenant: str) -> Response:
        if request.headers.get("ce-type") in events.WAKE_UPS:
            return Response(status=204)  # unread: its data may be a whole image

        def handle(event: Event) -> Response | None:
            appended = record(event, Tenant(tenant), log, keys)
            if appended is None:
                return None
            metrics.count("audit_events", conflict=str(appended.conflict).lower())
            return _answer(event, appended)

        return answer_broker(handle)


def _answer(event: Event, appended: Appended) -> Response | None:
    """Return the receipt to who asked for one; a broker only wants to know it is done.

    A body would come back to the broker as an event of its own.
    """
    if appended.conflict:
        logger.warning("%r of %s came with other content", event.id, event.tenant)
    if event.type not in RECEIPTED:
        return None
    if appended.conflict:
        # 400: however often it is sent, it stays another's id.
        raise Conflict("the event's id is taken by other content; that is on record")
    return json_response(appended.receipt)


def _add_log(app: Flask, log: Log, authenticator: Authenticator) -> None:
    def read(
        tenant: str, epoch: str, answer: Callable[[Reading], Response]
    ) -> Response:
        return _read(log, _reader(authenticator, tenant), _epoch(epoch), answer)

    @_at_log(app, "checkpoint")
    def checkpoint(tenant: str, epoch: str = "") -> Response:
        return read(tenant, epoch, lambda kept: _changing(kept.checkpoint()))

    @_at_log(app, "tile/<level>/<path:path>")
    def tile(tenant: str, level: str, path: str, epoch: str = "") -> Response:
        return read(tenant, epoch, lambda kept: _tile(kept, level, path))

    @_at_log(app, "proof/<index>")
    def proof(tenant: str, index: str, epoch: str = "") -> Response:
        return read(tenant, epoch, lambda kept: _proof(kept, index))

    @_at_log(app, "entries")
    def entries(tenant: str, epoch: str = "") -> Response:
        return read(tenant, epoch, lambda kept: _entries(kept, tenant, _epoch(epoch)))


def _at_log(app: Flask, path: str) -> Callable[[Handler], Handler]:
    """Serve `path` under a tenant's newest log, and under that of each epoch."""

    def register(handler: Handler) -> Handler:
        app.get(f"/v1/tenants/<tenant>/log/{path}")(handler)
        app.get(f"/v1/tenants/<tenant>/logs/<epoch>/{path}")(handler)
        return handler

    return register


def _read(
    log: Log, who: Tenant, epoch: int | None, answer: Callable[[Reading], Response]
) -> Response:
    """Return an answer, or why there is none, and with it the newest checkpoint.

    Whoever keeps that can tell later whether the log was rewritten.
    """
    from functions.audit import read

    with read.reading(log.store, who.id, epoch) as kept:
        try:
            answered = answer(kept)
        except NotFound as problem:
            answered = problem_response(problem.document())
        note = kept.newest()
    if note:
        answered.headers[CHECKPOINT] = base64.b64encode(note.encode()).decode()
    return answered


def _add_requests(
    app: Flask, log: Log, keys: KeyProvider, authenticator: Authenticator
) -> None:
    """Serve what a person may ask for: where an image was used, and its erasure."""
    root = "/v1/tenants/<tenant>/log"

    @app.post(f"{root}/searches")
    def search(tenant: str) -> Response:
        from functions.audit import searching

        who = _caller(authenticator, tenant, AUDIT_READ).tenant
        asked = _body(Search)
        found = searching.search(
            log.store, keys, who.id, asked.sha256, after=asked.after
        )
        return _read(log, who, None, lambda _: json_response(found))

    @app.post(f"{root}/erasures")
    def erase(tenant: str) -> Response:
        from functions.audit import erasing

        caller = _caller(authenticator, tenant, AUDIT_ERASE)
        who, job = caller.tenant, job_id(_body(Erasure).job)
        text = erasing.erase(log, keys, who.id, job, actor=caller.subject)
        return _read(log, who, None, lambda _: _changing(text))

    @app.get(f"{root}/erasures/<job>")
    def statement(tenant: str, job: str) -> Response:
        who, ident = _reader(authenticator, tenant), job_id(job)
        return _read(log, who, None, lambda kept: _changing(kept.statement(ident)))


def _body(kind: type[T]) -> T:
    """Return the JSON in a request, or raise `InvalidRequest` naming the fault."""
    try:
        return msgspec.convert(events.strict_json(request.get_data()), kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from error


def _caller(authenticator: Authenticator, tenant: str, scope: str) -> Caller:
    """Return who asks if they may do `scope` with the log of the tenant in the path."""
    caller = authenticator.caller(request.headers.get("Authorization", ""))
    caller.require_tenant(tenant)
    caller.require(scope)
    return caller


def _reader(authenticator: Authenticator, tenant: str) -> Tenant:
    """Return the tenant in the path if the request's token may read its log."""
    caller = authenticator.caller(request.headers.get("Authorization", ""))
    return caller.reads(tenant, AUDIT_READ)


def _epoch(text: str) -> int | None:
    """Return the epoch in a path; None where the path names none."""
    return _whole_number(text, EPOCH_MAX) if text else None


def _selection(tenant: str, epoch: int | None) -> Selection:
    from functions.audit.store import Selection

    job = request.args.get("job", "")
    return Selection(
        tenant,
        start=_whole_number(request.args.get("start", "0"), _INDEX_MAX),
        job=job_id(job) if job else "",
        from_ms=_moment_ms("from"),
        to_ms=_moment_ms("to"),
        epoch=epoch,
    )


def _moment_ms(name: str) -> int | None:
    """Return the moment in the query, in milliseconds since the epoch."""
    text = request.args.get(name)
    return None if text is None else events.milliseconds(text)


def _tile(kept: Reading, level: str, path: str) -> Response:
    number, width = _tile_path(path)
    if level == "entries":
        return _unchanging(kept.bundle(number, width))
    depth = _whole_number(level, LEVEL_MAX)
    return _unchanging(kept.tile(depth, number, width))


def _proof(kept: Reading, index: str) -> Response:
    found = kept.prove(_whole_number(index, _INDEX_MAX))
    if request.accept_mimetypes.best_match([JSON, TEXT]) == TEXT:
        return _changing(proof_text(found.index, found.path, found.checkpoint))
    return json_response(
        {
            "index": found.index,
            "size": found.size,
            "leaf_hash": found.leaf_hash.hex(),
            "path": [each.hex() for each in found.path],
            "checkpoint": found.checkpoint,
        },
    )


def _entries(kept: Reading, tenant: str, epoch: int | None) -> Response:
    found, following = kept.page(_selection(tenant, epoch))
    shown = [_shown(entry) for entry in found]
    return json_response({"entries": shown, "next": following})


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "index": entry.index,
        "leaf_hash": entry.leaf_hash.hex(),
        "leaf": msgspec.Raw(entry.leaf),
    }


def _tile_path(path: str) -> tuple[int, int]:
    found = parse_tile_path(path)
    if found is None:
        raise NotFound("a tile is named as c2sp.org/tlog-tiles says")
    return found


def _whole_number(text: str, most: int) -> int:
    """Return a number without a sign or leading zeros, as C2SP writes them."""
    if not _WHOLE.fullmatch(text):
        raise InvalidRequest(f"{text!r} is not a whole number")
    if int(text) > most:
        raise NotFound("the log is not that large")
    return int(text)


def _changing(text: str) -> Response:
    answer = Response(text, content_type=f"{TEXT}; charset=utf-8")
    answer.headers["Cache-Control"] = "no-cache"
    return answer


def _unchanging(data: bytes) -> Response:
    answer = Response(data, content_type=OCTETS)
    answer.headers["Cache-Control"] = _FOR_EVER
    return answer
