"""The door of the audit function: events come in, receipts and proofs go out."""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from flask import Response, request

from functions import events
from functions.audit.leaf import RECEIPTED, RECORDED
from functions.audit.log import Log
from functions.audit.tiles import LEVEL_MAX, parse_tile_path, proof_text
from functions.auth import AUDIT_READ, TokenAuthenticator
from functions.database import check_database
from functions.keys import FileKeys, events_key
from functions.metrics import Metrics
from functions.problems import Conflict, InvalidRequest, NotFound, UnknownTenant
from functions.settings import Settings
from functions.tenant import Tenant, job_id
from functions.web import answer_broker, json_response, new_app

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask

    from functions.audit.log import Appended
    from functions.audit.store import Entry, Selection
    from functions.auth import Authenticator
    from functions.events import Event
    from functions.keys import KeyProvider

logger = logging.getLogger(__name__)

JSON: Final = "application/json"
TEXT: Final = "text/plain"
OCTETS: Final = "application/octet-stream"
_FOR_EVER: Final = "private, max-age=31536000, immutable"
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_INDEX_MAX: Final = 2**63 - 1


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
    authenticator = authenticator or TokenAuthenticator.from_settings(settings)
    metrics = Metrics()
    if log is None:
        check_database(settings.database)
        log = _open_log(settings, keys, metrics)
    app = new_app(
        "audit",
        bytes_max=settings.limits.event_bytes_max,
        metrics=metrics,
    )
    _add_events(app, log, keys, metrics)
    _add_log(app, log, authenticator)
    _add_entries(app, log, authenticator)
    return app


def _open_log(settings: Settings, keys: KeyProvider, metrics: Metrics) -> Log:
    """Return the log, whose checkpoints are copied where there is a second store."""
    if not settings.witness:
        return Log.at(settings.database, keys)
    from functions.audit.copies import Copies

    copies = Copies(settings.witness, metrics)
    log = Log.at(settings.database, keys, committed=copies.take)
    copies.start(lambda: log.store)
    return log


def _add_events(app: Flask, log: Log, keys: KeyProvider, metrics: Metrics) -> None:
    @app.post("/v1/tenants/<tenant>/events")
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


def record(
    event: Event,
    tenant: Tenant,
    log: Log,
    keys: KeyProvider,
) -> Appended | None:
    """Append an event that came to `tenant`'s door; `None` for a mere wake-up.

    Raises `InvalidRequest` (400), `Forbidden` (403), `Unavailable` (503).
    """
    if event.type in events.WAKE_UPS:
        return None
    if event.type not in RECORDED:
        raise InvalidRequest(f"audit does not record {event.type}")
    if (event.tenant, event.source) != (tenant.id, _source(event.type, tenant)):
        raise UnknownTenant(internal=f"{event.source!r} at {tenant.id}'s door")
    events.verify(event, keys.verifiers(events_key(tenant.id)))
    return log.append(event)


def _source(kind: str, tenant: Tenant) -> str:
    """Return who sends events of `kind` to a tenant's door: the operator at its own."""
    if (kind == events.MODELS_ACCEPTED) != (tenant.id == events.OPERATOR):
        raise UnknownTenant(internal=f"{kind} at {tenant.id}'s door")
    if tenant.id == events.OPERATOR:
        return events.operator_source()
    return events.swap_source(tenant.id)


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
    root = "/v1/tenants/<tenant>/log"

    @app.get(f"{root}/checkpoint")
    def checkpoint(tenant: str) -> Response:
        from functions.audit import read

        who = _reader(authenticator, tenant)
        note = read.checkpoint(log.store, who.id)
        return _changing(note)

    @app.get(f"{root}/tile/<level>/<path:path>")
    def tile(tenant: str, level: str, path: str) -> Response:
        from functions.audit import read

        who = _reader(authenticator, tenant)
        number, width = _tile_path(path)
        if level == "entries":
            return _unchanging(read.bundle(log.store, who.id, number, width))
        depth = _whole_number(level, LEVEL_MAX)
        return _unchanging(read.tile(log.store, who.id, depth, number, width))

    @app.get(f"{root}/proof/<index>")
    def proof(tenant: str, index: str) -> Response:
        from functions.audit import read

        who = _reader(authenticator, tenant)
        found = read.prove(log.store, who.id, _whole_number(index, _INDEX_MAX))
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


def _add_entries(app: Flask, log: Log, authenticator: Authenticator) -> None:
    @app.get("/v1/tenants/<tenant>/log/entries")
    def entries(tenant: str) -> Response:
        from functions.audit import read

        who = _reader(authenticator, tenant)
        found, following = read.page(log.store, _selection(who.id))
        shown = [_shown(entry) for entry in found]
        return json_response({"entries": shown, "next": following})


def _reader(authenticator: Authenticator, tenant: str) -> Tenant:
    """Return the tenant in the path if the request's token may read its log."""
    caller = authenticator.caller(request.headers.get("Authorization", ""))
    who = Tenant(tenant)
    caller.require_tenant(who)
    caller.require(AUDIT_READ)
    return who


def _selection(tenant: str) -> Selection:
    from functions.audit.store import Selection

    job = request.args.get("job", "")
    return Selection(
        tenant,
        start=_whole_number(request.args.get("start", "0"), _INDEX_MAX),
        job=job_id(job) if job else "",
        from_ms=_moment_ms("from"),
        to_ms=_moment_ms("to"),
    )


def _moment_ms(name: str) -> int | None:
    """Return the moment in the query, in milliseconds since the epoch."""
    text = request.args.get(name)
    return None if text is None else events.milliseconds(text)


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
