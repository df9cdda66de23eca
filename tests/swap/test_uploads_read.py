"""Uploads as each service tells of them: what is read of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions import events
from functions.events import Event
from functions.problems import (
    InvalidRequest,
    Refused,
    TooLarge,
)
from functions.swap.uploads import Upload, read
from tests.swap.house import House
from tests.swap.notices import JSON, NAME, binary, notification, push, record

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
ONE = (Upload("acme", NAME, "7"),)


class TestReading:
    """Headers and body become uploads."""

    @pytest.mark.parametrize("generation", [1587627537231057, "1587627537231057"])
    def test_googles_event_in_either_mode(self, generation: object) -> None:
        """Its numbers are numbers or text."""
        data = json.loads((GOLDEN / "storage-finalized.json").read_bytes())
        data["generation"] = generation
        expected = (Upload(data["bucket"], data["name"], "1587627537231057"),)
        body = json.dumps(data).encode()
        assert read(binary(events.OBJECT_FINALIZED), body) == expected
        attributes = {"id": "1", "source": "//s", "specversion": "1.0", "data": data}
        event = attributes | {"type": events.OBJECT_FINALIZED}
        assert read(STRUCTURED, json.dumps(event).encode()) == expected

    @pytest.mark.parametrize("what", ["deleted", "archived", "metadataUpdated"])
    def test_what_is_no_longer_there_is_no_upload(self, what: str) -> None:
        """Nor is what only its description changed of."""
        kind = f"google.cloud.storage.object.v1.{what}"
        assert read(binary(kind), b'{"bucket": "acme", "name": "a"}') == ()

    def test_s3_and_minio_notify_without_an_event(self) -> None:
        """MinIO adds two names, and an `s3:` before the event's."""
        assert read(JSON, notification(record())) == ONE
        minio = notification(
            record("requests%2Fj-1.json", event="s3:ObjectCreated:Put"),
            EventName="s3:ObjectCreated:Put",
            Key="acme/requests/j-1.json",
        )
        assert read(JSON, minio) == ONE
        assert read({}, minio) == ONE

    @pytest.mark.parametrize(
        ("written", "name"),
        [
            ("uploads/a+b.png", "uploads/a b.png"),
            ("uploads%2Fa%2Bb.png", "uploads/a+b.png"),
            ("uploads/%C3%84nn+100%25.png", "uploads/Änn 100%.png"),
        ],
    )
    def test_the_keys_of_s3_are_written_as_in_a_query(
        self, written: str, name: str
    ) -> None:
        """A plus is a space, and a plus is `%2B`."""
        assert read(JSON, notification(record(written))) == (Upload("acme", name, "7"),)

    def test_several_records_are_several_uploads(self) -> None:
        """Those that tell of anything else are none."""
        body = notification(
            record("a"),
            record("b", event="ObjectRemoved:Delete"),
            record("c", event="s3:ObjectCreated:CompleteMultipartUpload"),
            record("d", event="s3:ObjectAccessed:Get"),
        )
        found = read(JSON, body)
        assert isinstance(found, tuple)
        assert [upload.name for upload in found] == ["a", "c"]

    @pytest.mark.parametrize(
        ("more", "which"),
        [
            ({}, "7"),
            ({"sequencer": "", "versionId": "v1"}, "v1"),
            ({"sequencer": ""}, "d41d8cd9"),
            ({"sequencer": "", "eTag": ""}, ""),
        ],
    )
    def test_one_write_is_told_from_another_by_what_there_is(
        self, more: dict[str, str], which: str
    ) -> None:
        """The sequencer, the version, the ETag, or nothing."""
        body = notification(record(**more))
        assert read(JSON, body) == (Upload("acme", NAME, which),)

    def test_s3_tries_the_door_when_it_is_told_of_it(self) -> None:
        """That is no upload, and no fault."""
        body = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "acme"}
        assert read(JSON, json.dumps(body).encode()) == ()

    @pytest.mark.parametrize(
        "kind", ["dev.knative.eventing.aws-sqs", "com.amazonaws.s3.ObjectCreated:Put"]
    )
    def test_a_notification_may_come_in_an_event(self, kind: str) -> None:
        """By a queue, whole; by an adapter, record by record."""
        assert read(binary(kind), notification(record())) == ONE
        assert read(binary(kind), json.dumps(record()).encode()) == ONE

    @pytest.mark.parametrize("source", ["aws.s3.bucket.acme", "arn:aws:s3:::acme"])
    @pytest.mark.parametrize(
        "kind",
        [
            "org.apache.camel.event.aws.s3.getObject",
            "dev.knative.connector.event.aws-s3",
            "dev.knative.eventing.aws-s3",
        ],
    )
    def test_an_event_may_be_the_object_itself(self, source: str, kind: str) -> None:
        """Whatever the object holds: the attributes say where it was."""
        headers = binary(kind, source=source, subject=NAME, id="7")
        headers["Content-Type"] = "application/octet-stream"
        for body in (b"", b"\xff\x00", b'{"operation": "swap"}', b"{", b"[]"):
            assert read(headers, body) == ONE
        event = {name.removeprefix("ce-"): text for name, text in headers.items()}
        del event["Content-Type"]
        assert read(STRUCTURED, json.dumps(event | {"data": {}}).encode()) == ONE

    def test_a_push_of_pubsub_has_it_in_its_attributes(self) -> None:
        """By itself, or in an event."""
        body = json.dumps(push()).encode()
        assert read(JSON, body) == ONE
        published = binary("google.cloud.pubsub.topic.v1.messagePublished")
        assert read(published, body) == ONE
        for kind in ("OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"):
            assert read(JSON, json.dumps(push(kind)).encode()) == ()

    def test_any_other_event_is_left_to_the_strict_door(self) -> None:
        """Ours too, whatever their data look like."""
        event = Event(
            id="1",
            source="/tenants/acme/swap",
            type=events.SWAP_REQUESTED,
            data={"job": "j-1", "Records": [record()], "s3": {}},
        )
        assert read(*events.encode(event)) == event
        assert isinstance(read(binary("com.example.other"), b"{}"), Event)


MALFORMED: list[tuple[dict[str, str], bytes]] = [
    (JSON, b""),
    (JSON, b"{"),
    (JSON, b"[]"),
    (JSON, b"{}"),
    (JSON, b'{"Records": [], "Records": []}'),
    (JSON, b'{"Records": {}}'),
    (JSON, b'{"Records": [1]}'),
    (JSON, notification({})),
    (JSON, notification(record() | {"eventName": 1})),
    (JSON, notification(record() | {"s3": "x"})),
    (JSON, notification(record() | {"s3": {"bucket": {"name": "a"}}})),
    (JSON, notification(record() | {"s3": {"bucket": "a", "object": {"key": "b"}}})),
    (JSON, notification(record(""))),
    (JSON, notification(record("%FF"))),
    (JSON, notification(record(bucket=""))),
    (JSON, notification(record(sequencer=[7]))),  # type: ignore[arg-type]
    (JSON, notification(record(key=7))),  # type: ignore[arg-type]
    (JSON, b'{"message": 1, "subscription": "s"}'),
    (JSON, b'{"message": {}, "subscription": "s"}'),
    (JSON, b'{"message": {"attributes": {}}, "subscription": "s"}'),
    (JSON, json.dumps(push(bucketId="")).encode()),
    (JSON, json.dumps(push(objectId=None)).encode()),  # type: ignore[arg-type]
    (binary(events.OBJECT_FINALIZED), b"{}"),
    (binary(events.OBJECT_FINALIZED), b'{"bucket": "a", "name": 1}'),
    (
        binary(events.OBJECT_FINALIZED),
        b'{"bucket": "a", "name": "b", "generation": 1.5}',
    ),
    (
        binary(events.OBJECT_FINALIZED),
        b'{"bucket": "a", "name": "b", "generation": true}',
    ),
    (binary("dev.knative.eventing.aws-s3", source="arn:aws:s3:::acme"), b"{}"),
    (binary("x", specversion="2"), b"{}"),
    ({"Content-Type": "application/cloudevents-batch+json"}, b"[]"),
]


@pytest.mark.parametrize(("headers", "body"), MALFORMED)
def test_what_is_malformed_is_refused(headers: dict[str, str], body: bytes) -> None:
    """And answered 400: it goes to the dead letters, and does not come again."""
    with pytest.raises(InvalidRequest):
        read(headers, body)
    answer = House().worker.post("/events", headers=headers, data=body)
    assert answer.status_code == 400


def test_a_source_that_names_no_object_is_refused() -> None:
    """As Knative's `aws-s3` is by default: the object's bytes, and not its name."""
    headers = binary(
        "dev.knative.eventing.aws-s3",
        source="dev.knative.eventing.aws-s3-source",
        subject="aws-s3-source",
    )
    answer = House().worker.post("/events", headers=headers, data=b'{"a": 1}')
    assert answer.status_code == 400


def test_a_notification_has_a_limit() -> None:
    """As every event."""
    body = notification(record(), padding="x" * events.EVENT_BYTES_MAX)
    with pytest.raises(TooLarge):
        read(JSON, body)
    assert House().worker.post("/events", headers=JSON, data=body).status_code == 400


WORDS = [
    *("Records", "s3", "bucket", "object", "key", "name", "eventName"),
    *("message", "subscription", "attributes", "eventType", "Event"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([JSON, binary("a.b"), binary(events.OBJECT_FINALIZED)]))
def test_whatever_is_sent_is_read_or_refused(
    document: Any, headers: dict[str, str]
) -> None:
    """Nothing else leaves the reader: a broker would send it for ever."""
    try:
        read(headers, json.dumps(document).encode())
    except Refused:
        return
