"""What services say of an upload, each in its own words, read as one thing.  Pure.

* Google by Eventarc, and our own watcher: `google.cloud.storage.object.v1.finalized`
* Google by a Pub/Sub push: `{"message": {"attributes": …}, "subscription": …}`
* the same in a CloudEvent: `google.cloud.pubsub.topic.v1.messagePublished`
* S3 and MinIO: `{"Records": […]}`, whose keys are written as in a query
* the same by SQS, or another adapter: a CloudEvent of any type with that as its data
* Camel's source for S3: a CloudEvent whose data is the object itself, and whose
  attributes name bucket and key.  Knative's `aws-s3` is that source with these two
  written over, as it is by default: it names nothing, and is refused.

What was deleted, archived or only described anew is no upload.  What is none of
these is left to `events.decode`, which is as strict as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeGuard
from urllib.parse import unquote_plus

from functions import events
from functions.problems import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.events import Event

_GOOGLES: Final = "google.cloud.storage.object.v1."
_OURS: Final = "dev.guise."
_BUCKETS: Final = ("aws.s3.bucket.", "arn:aws:s3:::")
_TEST: Final = "s3:TestEvent"
_WHICH: Final = ("sequencer", "versionId", "eTag")
"""What tells one write of a key from another, in S3's words; the first there is."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An object that somebody says was written.

    `which` tells it from what was written to the name before and after, if it is
    told: Google's generation, S3's sequencer.  It names, and is not compared: what
    counts is what lies in the store.
    """

    bucket: str
    name: str
    which: str = ""


Uploads = tuple[Upload, ...]


def read(
    headers: Mapping[str, str],
    body: bytes,
    *,
    bytes_max: int = events.EVENT_BYTES_MAX,
) -> Event | Uploads:
    """Return the uploads that a request tells of, or the event that it is.

    Raises `InvalidRequest` for what is malformed and `TooLarge` over `bytes_max`.
    """
    attributes = {k: v for k, v in headers.items() if k.lower().startswith("ce-")}
    if attributes:
        whole = not _is_of_an_object(attributes)
        told = headers if whole else attributes
        event = events.decode(told, body if whole else b"", bytes_max=bytes_max)
        return _read_event(event)
    if _media(headers).startswith("application/cloudevents"):
        return _read_event(events.decode(headers, body, bytes_max=bytes_max))
    if len(body) > bytes_max:
        raise TooLarge(f"an event has at most {bytes_max} bytes")
    document = events.strict_json(body)
    uploads = _read_document(document) if isinstance(document, dict) else None
    if uploads is None:
        return events.decode(headers, body, bytes_max=bytes_max)
    return uploads


def _media(headers: Mapping[str, str]) -> str:
    found = [v for k, v in headers.items() if k.lower() == "content-type"]
    return found[0].strip().lower() if found else ""


def _is_of_an_object(attributes: Mapping[str, str]) -> bool:
    """Return whether the body is the object itself, which may be anything."""
    lower = {name.lower(): value for name, value in attributes.items()}
    return lower.get("ce-type") in events.S3_OBJECTS and lower.get(
        "ce-source", ""
    ).startswith(_BUCKETS)


def _read_event(event: Event) -> Event | Uploads:
    if event.type.startswith(_GOOGLES):
        return _of_google(event)
    if event.type in events.S3_OBJECTS and event.source.startswith(_BUCKETS):
        return (_of_attributes(event),)
    if event.type.startswith(_OURS):
        return event
    if "s3" in event.data:
        return tuple(_of_records([event.data]))
    uploads = _read_document(event.data)
    return event if uploads is None else uploads


def _read_document(document: Mapping[str, Any]) -> Uploads | None:
    """Return the uploads in a notification, or None if it is none."""
    if "Records" in document:
        return tuple(_of_records(document["Records"]))
    if document.get("Event") == _TEST:
        return ()
    if "message" in document and "subscription" in document:
        return tuple(_of_pubsub(document["message"]))
    return None


def _of_google(event: Event) -> Uploads:
    if event.type != events.OBJECT_FINALIZED:
        return ()
    data = event.data
    return (_upload(data.get("bucket"), data.get("name"), data.get("generation", "")),)


def _of_attributes(event: Event) -> Upload:
    prefix = next(each for each in _BUCKETS if event.source.startswith(each))
    return _upload(event.source.removeprefix(prefix), event.subject, event.id)


def _of_pubsub(message: object) -> Iterator[Upload]:
    attributes = message.get("attributes") if isinstance(message, dict) else None
    if not _is_object(attributes) or not isinstance(attributes.get("eventType"), str):
        raise InvalidRequest("the message has no attributes of a bucket's notification")
    if attributes["eventType"] == "OBJECT_FINALIZE":
        yield _upload(
            attributes.get("bucketId"),
            attributes.get("objectId"),
            attributes.get("objectGeneration", ""),
        )


def _of_records(records: object) -> Iterator[Upload]:
    if not isinstance(records, list) or not all(_is_object(each) for each in records):
        raise InvalidRequest("Records is no list of records")
    for record in records:
        kind = record.get("eventName")
        if not isinstance(kind, str):
            raise InvalidRequest("a record has no eventName")
        if kind.removeprefix("s3:").startswith("ObjectCreated:"):
            yield _of_s3(record.get("s3"))


def _of_s3(told: object) -> Upload:
    bucket = told.get("bucket") if _is_object(told) else None
    thing = told.get("object") if _is_object(told) else None
    if not _is_object(bucket) or not _is_object(thing):
        raise InvalidRequest("a record names no bucket and no object")
    which = next((thing[name] for name in _WHICH if thing.get(name)), "")
    return _upload(bucket.get("name"), _unquoted(thing.get("key")), which)


def _unquoted(key: object) -> object:
    """Return a key that is written as in a query: `+` is a space."""
    if not isinstance(key, str):
        return key
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidRequest("a key is not percent-encoded UTF-8") from error


def _upload(bucket: object, name: object, which: object) -> Upload:
    """Return the upload if each part is what it must be."""
    if (
        not isinstance(bucket, str)
        or not isinstance(name, str)
        or not (bucket and name)
    ):
        raise InvalidRequest("the event names no bucket and no object")
    if isinstance(which, bool) or not isinstance(which, str | int):
        raise InvalidRequest("a generation is a whole number, or text")
    return Upload(bucket, name, str(which))


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
