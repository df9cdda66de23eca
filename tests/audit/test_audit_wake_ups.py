"""Uploads as each service tells of them: audit wakes, and reads no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.swap.uploads import read
from tests.swap.notices import NAME, binary, notification, push, record

if TYPE_CHECKING:
    from tests.audit.house import House

DOOR = "/v1/tenants/acme/events"
IMAGE = b"\x89PNG\r\n" + b"\0" * 100_000


@pytest.mark.parametrize("kind", sorted(events.S3_OBJECTS))
def test_the_object_itself_is_no_reason_to_refuse(house: House, kind: str) -> None:
    """Its data may be anything, and longer than an event may be."""
    source = "aws.s3.bucket.acme"
    headers = binary(kind, source=source, subject=NAME) | {"Content-Type": "image/png"}
    assert read(headers, b"")  # the worker knows it for an upload
    answer = house.client.post(DOOR, headers=headers, data=IMAGE)
    assert (answer.status_code, answer.data) == (204, b"")
    assert house.entries() == []


@pytest.mark.parametrize("kind", sorted(events.NOTICES))
def test_a_notification_in_an_event_is_no_reason_to_refuse(
    house: House, kind: str
) -> None:
    """Of SQS and Pub/Sub: the worker reads which object it is, audit does not."""
    told = json.dumps(push()).encode()
    body = told if kind.startswith("google.") else notification(record())
    assert read(binary(kind), body)
    answer = house.client.post(DOOR, headers=binary(kind), data=body)
    assert (answer.status_code, answer.data) == (204, b"")
    assert house.entries() == []
