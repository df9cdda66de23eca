"""Notices of uploads as the services write them."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

JSON: Final = {"Content-Type": "application/json"}
NAME: Final = "requests/j-1.json"


def binary(kind: str, **attributes: str) -> dict[str, str]:
    """Return the headers of an event."""
    given_ = {"id": "1", "source": "//somewhere", "specversion": "1.0", **attributes}
    return {f"ce-{name}": text for name, text in given_.items()} | {
        "ce-type": kind,
        "Content-Type": "application/json",
    }


def record(
    key: str = "requests/j-1.json",
    *,
    bucket: str = "acme",
    event: str = "ObjectCreated:Put",
    **more: str,
) -> dict[str, Any]:
    """Return one record as S3 writes it."""
    thing = {"key": key, "size": 5, "eTag": "d41d8cd9", "sequencer": "7", **more}
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {"bucket": {"name": bucket}, "object": thing},
    }


def notification(*records: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"Records": list(records), **more}).encode()


def push(kind: str = "OBJECT_FINALIZE", **attributes: str) -> dict[str, Any]:
    """Return a message as Pub/Sub pushes it."""
    known = {
        "notificationConfig": "projects/_/buckets/acme/notificationConfigs/1",
        "eventType": kind,
        "payloadFormat": "JSON_API_V1",
        "bucketId": "acme",
        "objectId": NAME,
        "objectGeneration": "7",
    }
    data = base64.b64encode(b'{"name": "whatever"}').decode()
    message = {"attributes": known | attributes, "data": data, "messageId": "1"}
    return {"message": message, "subscription": "projects/p/subscriptions/s"}
