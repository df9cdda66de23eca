"""Our events, their signature, and the one strict door to and from CloudEvents.

This is the only module that imports the CloudEvents SDK.  Its readers invent a
missing id and time, turn broken JSON into text and broken base64 into nothing,
and leak AttributeError, TypeError and RecursionError.  So we read headers and
JSON ourselves, strictly and once, and leave to the SDK what it does well: the
rules for attributes, and writing them as headers.  Whatever is malformed is an
`InvalidRequest`, because a broker retries a 500 and drops a 400.

The signature is Ed25519 over the RFC 8785 form of the attributes and the
SHA-256 of the data's RFC 8785 form, so a broker may turn binary mode into
structured mode and back without breaking it.  Brokers also write `time` in their
own way (the Go SDK drops trailing zeros, the Python SDK adds some), so it has one
form here: what is signed, and what is read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from functions.problems import Forbidden, InvalidRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.keys import Signer, Verifiers

_EXAMPLE: Final = "2026-11-01T00:00:00Z"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EVENT_BYTES_MAX: Final = 65_535
_INTEGER_MAX: Final = 2**53 - 1
_TIMES_KEPT: Final = 64

OBJECT_FINALIZED: Final = "google.cloud.storage.object.v1.finalized"
SWAP_REQUESTED: Final = "dev.guise.swap.requested.v1"
SWAP_STARTED: Final = "dev.guise.swap.started.v1"
SWAP_COMPLETED: Final = "dev.guise.swap.completed.v1"
SWAP_FAILED: Final = "dev.guise.swap.failed.v1"
SWAP_REFUSED: Final = "dev.guise.swap.refused.v1"
SWAP_ERASED: Final = "dev.guise.swap.erased.v1"
USAGE_RECORDED: Final = "dev.guise.usage.recorded.v1"
BUDGET_CHANGED: Final = "dev.guise.budget.changed.v1"
INVOICE_ISSUED: Final = "dev.guise.invoice.issued.v1"
MODELS_ACCEPTED: Final = "dev.guise.models.accepted.v1"
TENANT_CHANGED: Final = "dev.guise.tenant.changed.v1"
PING: Final = "dev.knative.sources.ping"

OPERATOR: Final = "operator"
"""The tenant id in whose log the operator's own acts are; no tenant swaps as it."""

S3_OBJECTS: Final = frozenset(
    {
        "org.apache.camel.event.aws.s3.getObject",
        "dev.knative.connector.event.aws-s3",
        "dev.knative.eventing.aws-s3",
    }
)
"""Events about an object of S3 whose data is the object itself."""
NOTICES: Final = frozenset(
    {
        "google.cloud.pubsub.topic.v1.messagePublished",
        "org.apache.camel.event.aws.sqs.receiveMessage",
        "dev.knative.connector.event.aws-sqs",
        "dev.knative.eventing.aws-sqs",
    }
)
"""Events in whose data a bucket's own notification lies."""
WAKE_UPS: Final = S3_OBJECTS | NOTICES | {OBJECT_FINALIZED, SWAP_REQUESTED}
"""Events that audit is sent only so that it wakes while the worker does."""

_REQUIRED: Final = ("id", "source", "type", "specversion")
_ATTRIBUTES: Final = (*_REQUIRED, "subject", "time", "datacontenttype", "dataschema")
_OURS: Final = ("tenant", "sig", "sigkid")
_RESERVED: Final = frozenset({*_ATTRIBUTES, *_OURS, "data"})
_STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
BATCH_BYTES_MAX: Final = 1024 * 1024
BATCH_EVENTS_MAX: Final = 1_000
_JSON: Final = re.compile(r"(?i:(application|text)/([a-z0-9.-]+\+)?json)[ \t]*(;.*)?")
_EXTENSION: Final = re.compile(r"[a-z0-9]+")
# What CloudEvents forbids in text; a log, a header or PostgreSQL would trip over it.
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# RFC 3339, section 5.6.  `fromisoformat` takes much else: a newline for the T, too.
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact, valid by construction.  `(source, id)` names it for ever.

    `time` is RFC 3339 text; an event that is read has it as `rfc3339` writes it
    (or to the microsecond).
    `extensions` holds what came with the event beyond the attributes we name.
    Raises `InvalidRequest` where an attribute is not what CloudEvents allows.
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

    def __post_init__(self) -> None:
        """Refuse what could not be sent on, or would be read as something else."""
        if not (self.id and self.source and self.type):
            raise InvalidRequest("an event has an id, a source and a type")
        texts = (self.id, self.source, self.type, self.subject)
        ours = (self.tenant, self.sig, self.sigkid)
        if _FORBIDDEN.search("".join((*texts, *ours, *self.extensions.values()))):
            raise InvalidRequest("an attribute holds a control character")
        for name in self.extensions:
            if not _EXTENSION.fullmatch(name) or name in _RESERVED:
                raise InvalidRequest(f"{name!r} cannot name an extension")
        if self.time:
            _moment(self.time)


@lru_cache(maxsize=_TIMES_KEPT)
def _moment(text: str) -> datetime:
    """Return a time in UTC; the same one is asked for thrice while an event is read."""
    if not _TIME.fullmatch(text):
        raise InvalidRequest("the event's time is not RFC 3339")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("the event's time is not on the calendar") from error


def now() -> str:
    """Return the current time as RFC 3339 text, UTC, in milliseconds."""
    return rfc3339(datetime.now(UTC))


def milliseconds(text: str) -> int:
    """Return an RFC 3339 time in whole milliseconds since the epoch.

    Raises `InvalidRequest`.
    """
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise InvalidRequest(f"a time is written like {_EXAMPLE}") from error
    if moment.tzinfo is None:
        raise InvalidRequest(f"a time has an offset, as in {_EXAMPLE}")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def rfc3339(moment: datetime) -> str:
    """Return `moment` as RFC 3339 text, UTC, in milliseconds."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def rfc3339_of(milliseconds: int) -> str:
    """Return a time in milliseconds since the epoch as RFC 3339 text, UTC."""
    return rfc3339(_EPOCH + timedelta(milliseconds=milliseconds))


def _one_form(moment: datetime) -> str:
    """Return what `rfc3339` does, or microseconds where there are any."""
    if moment.microsecond % 1000:
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return rfc3339(moment)


def derived_id(*parts: str) -> str:
    """Return an id that depends on `parts` alone: a retry repeats itself."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:40]


def swap_source(tenant: str) -> str:
    """Return the CloudEvents source of a tenant's swap function."""
    return f"/tenants/{tenant}/swap"


def billing_source(tenant: str) -> str:
    """Return the CloudEvents source of what billing says of a tenant."""
    return f"/tenants/{tenant}/billing"


def tenant_source(tenant: str) -> str:
    """Return the CloudEvents source of what the operator does to a tenant."""
    return f"/tenants/{tenant}/operator"


def operator_source() -> str:
    """Return the CloudEvents source of what the operator accepts."""
    return f"/tenants/{OPERATOR}/models"


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
        if _is_plain(value):
            found = msgspec.json.encode(value, order="sorted")
            # In ASCII both sort names alike; only escapes could differ.
            if found.isascii() and b"\\" not in found:
                return found
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # it checks itself
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise InvalidRequest("data has no canonical JSON form") from error


def _is_plain(value: object) -> bool:
    """Return whether msgspec, five times as fast, would write `value` alike.

    No fractions, no numbers past 2^53, and nothing that JSON does not know.
    """
    kind = type(value)
    if kind is dict:
        return _has_plain(value)  # type: ignore[arg-type]  # it is one
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))  # type: ignore[call-overload]  # as above
    if kind is int:
        return -_INTEGER_MAX <= value <= _INTEGER_MAX  # type: ignore[operator]  # as above
    return kind is str or kind is bool or value is None


def _has_plain(members: dict[object, object]) -> bool:
    """Return whether all names are text and all members plain; most are text, too."""
    for name, member in members.items():
        if type(name) is not str:
            return False
        if type(member) is not str and not _is_plain(member):
            return False
    return True


def _signed_bytes(event: Event) -> bytes:
    names = ("id", "source", "type", "subject", "time", "tenant")
    signed = {name: getattr(event, name) for name in names}
    if event.time:
        signed["time"] = _one_form(_moment(event.time))
    signed["data_sha256"] = hashlib.sha256(canonical(event.data)).hexdigest()
    return b"guise event v1\n" + canonical(signed)


def as_dict(event: Event) -> dict[str, Any]:
    """Return the event as a structured-mode JSON object, to store verbatim."""
    return {**_outgoing(event), "data": dict(event.data)}


def from_dict(document: Mapping[str, Any]) -> Event:
    """Return the event that `as_dict` made, or raise `InvalidRequest`."""
    # CloudEvents' JSON format: null is the same as absent.
    attributes = {name: text for name, text in document.items() if text is not None}
    data = attributes.pop("data", None)
    if "data_base64" in attributes:
        if data is not None:
            raise InvalidRequest("the event has both data and data_base64")
        data = strict_json(_unbase64(attributes.pop("data_base64")))
    return _event(attributes, data)


def _outgoing(event: Event) -> dict[str, Any]:
    attributes = {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "specversion": "1.0",
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

    # The SDK wants a moment, and draws one where there is none: neither is sent.
    attributes = _outgoing(event) | {"time": datetime.now(UTC)}
    # Bytes, because the SDK would write them wider than they may have come in.
    body = msgspec.json.encode(event.data)
    message = to_binary(CloudEvent(attributes, body), JSONFormat())
    headers = message.headers
    del headers["ce-time"]
    if event.time:
        headers["ce-time"] = event.time
    return headers, message.body


def encode_structured(event: Event) -> tuple[dict[str, str], bytes]:
    """Return the event as structured-mode HTTP headers and body.

    For what is too large for a header, or must not lie in a log of headers.
    """
    return {"Content-Type": _STRUCTURED}, msgspec.json.encode(as_dict(event))


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
    kind = media.split(";")[0].strip().lower()
    if kind == _STRUCTURED:
        return from_dict(_object(strict_json(body)))
    if kind.startswith("application/cloudevents"):
        raise InvalidRequest("one event at a time, and as JSON")
    attributes = {
        name[3:]: _unescaped(value)
        for name, value in lower.items()
        if name.startswith("ce-")
    }
    if media:
        attributes["datacontenttype"] = media
    _require_json(media)
    return _event(attributes, strict_json(body) if body else None)


def is_batch(media: str) -> bool:
    """Return whether a content type is that of CloudEvents' batch mode."""
    return media.partition(";")[0].strip().lower() == BATCH


def decode_batch(headers: Mapping[str, str], body: bytes) -> list[Event]:
    """Return the events in a request of CloudEvents' batch mode, in their order.

    Raises `InvalidRequest`, which names the first that is malformed, and `TooLarge`.
    """
    del headers  # the events have all that is said of them
    if len(body) > BATCH_BYTES_MAX:
        raise TooLarge(f"a batch has at most {BATCH_BYTES_MAX} bytes")
    documents = strict_json(body)
    if not isinstance(documents, list):
        raise InvalidRequest("a batch is a JSON array of events")
    if len(documents) > BATCH_EVENTS_MAX:
        raise TooLarge(f"a batch has at most {BATCH_EVENTS_MAX} events")
    return [_at(index, each) for index, each in enumerate(documents)]


def _at(index: int, document: object) -> Event:
    with naming(index):
        return from_dict(_object(document))


@contextmanager
def naming(index: int) -> Iterator[None]:
    """Say in a refusal of which event of a batch, from 0, it is."""
    try:
        yield
    except (InvalidRequest, Forbidden) as problem:
        detail = f"event {index} of the batch: {problem.detail}"
        raise type(problem)(detail, internal=str(problem)) from problem


def _unescaped(value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        # Were it replaced, as the SDK does, two ids would become one.
        raise InvalidRequest("a header is not percent-encoded UTF-8") from error


def _unbase64(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True)  # type: ignore[arg-type]  # it checks itself
    except (TypeError, ValueError) as error:
        raise InvalidRequest("the event's data_base64 is not base64") from error


def strict_json(body: bytes) -> object:
    """Return the I-JSON in `body`: finite, real Unicode, each name once."""
    try:
        value = msgspec.json.decode(body)
        # msgspec keeps the last of two equal names; whoever filters may the first.
        # What it writes back byte for byte has none twice, and our own senders use it.
        if msgspec.json.encode(value) != body:
            json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the event is not JSON", internal=repr(error)) from error
    return value


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a name occurs twice")


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("not a JSON object")
    return value


def _require_json(media: str) -> None:
    if media and not _JSON.fullmatch(media):
        raise InvalidRequest("the event's data is not JSON")


def _event(attributes: dict[str, Any], data: object) -> Event:
    """Return the event, after the SDK's own check of the attributes."""
    for name in _REQUIRED:
        # The SDK would draw a fresh id here, and a retry be counted twice.
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise InvalidRequest(f"the event has no {name}")
    time = attributes.get("time", "")
    if not isinstance(time, str):
        raise InvalidRequest("the event's time is not text")
    moment = _moment(time) if "time" in attributes else None
    _check(attributes | {"time": moment or datetime.now(UTC)})
    _require_json(attributes.get("datacontenttype", ""))
    text = {
        name: _text(value)
        for name, value in attributes.items()
        if name not in _ATTRIBUTES
    }
    return Event(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        subject=attributes.get("subject", ""),
        time=_one_form(moment) if moment else "",
        tenant=text.pop("tenant", ""),
        sig=text.pop("sig", ""),
        sigkid=text.pop("sigkid", ""),
        data={} if data is None else _object(data),
        extensions={name: said for name, said in text.items() if said},  # as it is sent
    )


def _check(attributes: dict[str, Any]) -> None:
    from cloudevents.core.exceptions import BaseCloudEventException
    from cloudevents.core.v1.event import CloudEvent

    try:
        CloudEvent(attributes)
    except BaseCloudEventException as error:
        raise InvalidRequest("not a CloudEvent", internal=repr(error)) from error


def _text(value: object) -> str:
    """Return an extension's value as CloudEvents writes it in a header."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int):
        raise InvalidRequest("an extension is text, a whole number or a boolean")
    return str(value)
