"""Our events, their signature, and the one strict door to and from CloudEvents.

This is the only module that imports the CloudEvents SDK.  On receipt the SDK
invents a missing id, mutates what it is given, and leaks AttributeError,
TypeError and RecursionError on malformed bodies; we refuse the first and fold
the rest into `InvalidRequest`, because a broker retries a 500 and drops a 400.

The signature is Ed25519 over the RFC 8785 form of the attributes and the
SHA-256 of the data's RFC 8785 form, so a broker may turn binary mode into
structured mode and back without breaking it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.problems import Forbidden, InvalidRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.keys import Signer, Verifiers

EVENT_BYTES_MAX: Final = 65_535

OBJECT_FINALIZED: Final = "google.cloud.storage.object.v1.finalized"
SWAP_REQUESTED: Final = "dev.guise.swap.requested.v1"
SWAP_STARTED: Final = "dev.guise.swap.started.v1"
SWAP_COMPLETED: Final = "dev.guise.swap.completed.v1"
SWAP_FAILED: Final = "dev.guise.swap.failed.v1"
SWAP_REFUSED: Final = "dev.guise.swap.refused.v1"
SWAP_ERASED: Final = "dev.guise.swap.erased.v1"
USAGE_RECORDED: Final = "dev.guise.usage.recorded.v1"

WAKE_UPS: Final = frozenset({OBJECT_FINALIZED, SWAP_REQUESTED})
"""Events that audit is sent only so that it wakes while the worker does."""

_REQUIRED: Final = ("id", "source", "type", "specversion")
_ATTRIBUTES: Final = (*_REQUIRED, "subject", "time", "datacontenttype", "dataschema")
_STRUCTURED: Final = "application/cloudevents+json"
_JSON: Final = re.compile(r"(?i:(application|text)/([a-z0-9.-]+\+)?json)\s*(;.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact.  `(source, id)` names it for ever.

    `time` is RFC 3339 text, kept as written because the signature covers it.
    `extensions` holds what came with the event beyond the attributes we name.
    """

    id: str
    source: str
    type: str
    subject: str = ""
    time: str = ""
    tenant: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    sig: str = ""
    sigkid: str = ""
    extensions: Mapping[str, str] = field(default_factory=dict)


def now() -> str:
    """Return the current time as RFC 3339 text, UTC, in milliseconds."""
    return rfc3339(datetime.now(UTC))


def rfc3339(moment: datetime) -> str:
    """Return `moment` as RFC 3339 text, UTC, in milliseconds."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def derived_id(*parts: str) -> str:
    """Return an id that depends on `parts` alone: a retry repeats itself."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def swap_source(tenant: str) -> str:
    """Return the CloudEvents source of a tenant's swap function."""
    return f"/tenants/{tenant}/swap"


def sign(event: Event, signer: Signer) -> Event:
    """Return the event with `sig` and `sigkid` set."""
    signature = base64.urlsafe_b64encode(signer.sign(_signed_bytes(event))).decode()
    return replace(event, sig=signature, sigkid=signer.kid)


def verify(event: Event, verifiers: Verifiers) -> None:
    """Return if the event is signed by one of `verifiers`, or raise `Forbidden`."""
    verifier = verifiers.get(event.sigkid)
    if verifier is None:
        raise Forbidden(
            "the event is not signed by a key of its tenant",
            internal=f"kid {event.sigkid!r} of {event.source!r} {event.id!r}",
        )
    try:
        signature = base64.b64decode(event.sig, altchars=b"-_", validate=True)
    except ValueError as error:
        raise Forbidden("the event's signature is not base64url") from error
    if not verifier.verify(signature, _signed_bytes(event)):
        raise Forbidden("the event's signature does not verify")


def canonical(value: object) -> bytes:
    """Return `value` as RFC 8785 JSON, or raise `InvalidRequest`."""
    import rfc8785

    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # it checks itself
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise InvalidRequest("data has no canonical JSON form") from error


def _signed_bytes(event: Event) -> bytes:
    names = ("id", "source", "type", "subject", "time", "tenant")
    signed = {name: getattr(event, name) for name in names}
    signed["data_sha256"] = hashlib.sha256(canonical(event.data)).hexdigest()
    return b"guise event v1\n" + canonical(signed)


def as_dict(event: Event) -> dict[str, Any]:
    """Return the event as a structured-mode JSON object, to store verbatim."""
    attributes = _outgoing(event)
    return {**attributes, "specversion": "1.0", "data": dict(event.data)}


def from_dict(document: Mapping[str, Any]) -> Event:
    """Return the event that `as_dict` made, or raise `InvalidRequest`."""
    return decode({"content-type": _STRUCTURED}, msgspec.json.encode(document))


def _outgoing(event: Event) -> dict[str, Any]:
    attributes = {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "tenant": event.tenant,
        "sig": event.sig,
        "sigkid": event.sigkid,
        "datacontenttype": "application/json",
        **event.extensions,
    }
    return {name: value for name, value in attributes.items() if value}


def encode(event: Event) -> tuple[dict[str, str], bytes]:
    """Return the event as binary-mode HTTP headers and body."""
    from cloudevents.core.bindings.http import to_binary
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    attributes = _outgoing(event)
    if event.time:
        attributes["time"] = datetime.fromisoformat(event.time)
    message = to_binary(CloudEvent(attributes, dict(event.data)), JSONFormat())
    headers = message.headers
    if event.time:
        headers["ce-time"] = event.time  # as signed, not as the SDK formats it
    return headers, message.body


def decode(
    headers: Mapping[str, str],
    body: bytes,
    *,
    bytes_max: int = EVENT_BYTES_MAX,
) -> Event:
    """Return the event in an HTTP request, binary or structured mode.

    Raises `InvalidRequest` on anything malformed and `TooLarge` over `bytes_max`.
    """
    if len(body) > bytes_max:
        raise TooLarge(f"an event has at most {bytes_max} bytes")
    lower = {name.lower(): value for name, value in headers.items()}
    media = lower.get("content-type", "")
    structured = media.split(";")[0].strip().lower() == _STRUCTURED
    raw = _structured_attributes(body) if structured else _binary_attributes(lower)
    for name in _REQUIRED:
        # The SDK would draw a fresh id here, and a retry be counted twice.
        if not isinstance(raw.get(name), str) or not raw[name]:
            raise InvalidRequest(f"the event has no {name}")
    event = _parse(lower, body, structured=structured)
    return _ours(event.get_attributes(), event.get_data(), str(raw.get("time", "")))


def _structured_attributes(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest("the event is not JSON", internal=repr(error)) from error
    if not isinstance(document, dict):
        raise InvalidRequest("the event is not a JSON object")
    return document


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    return {n[3:]: value for n, value in headers.items() if n.startswith("ce-")}


def _parse(headers: dict[str, str], body: bytes, *, structured: bool) -> Any:  # noqa: ANN401  # the SDK's type
    from cloudevents.core.bindings import http
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    read = http.from_structured if structured else http.from_binary
    try:
        return read(http.HTTPMessage(headers, body), JSONFormat(), CloudEvent)
    except Exception as error:
        raise InvalidRequest("not a CloudEvent", internal=repr(error)) from error


def _ours(attributes: dict[str, Any], data: object, time: str) -> Event:
    extensions = {k: v for k, v in attributes.items() if k not in _ATTRIBUTES}
    if not all(isinstance(value, str | int | bool) for value in extensions.values()):
        raise InvalidRequest("an extension is text, a number or a boolean")
    text = {name: str(value) for name, value in extensions.items()}
    return Event(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        subject=attributes.get("subject", ""),
        time=time,
        tenant=text.pop("tenant", ""),
        sig=text.pop("sig", ""),
        sigkid=text.pop("sigkid", ""),
        data=_object(data, attributes.get("datacontenttype", "application/json")),
        extensions=text,
    )


def _object(data: object, media: str) -> dict[str, Any]:
    """Return the data as a JSON object; the SDK passes broken JSON on as text."""
    if not _JSON.fullmatch(media):
        raise InvalidRequest("the event's data is not JSON")
    if isinstance(data, bytes):
        data = _structured_attributes(data)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidRequest("the event's data is not a JSON object")
    return data
