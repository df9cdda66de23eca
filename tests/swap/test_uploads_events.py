"""Uploads as each service tells of them: what is read, and what the worker does."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions import events
from functions.events import Event
from functions.problems import (
    Forbidden,
    InvalidRequest,
    Problem,
    Refused,
    TooLarge,
    Unavailable,
)
from functions.settings import Settings
from functions.storage import Stores
from functions.storage.base import StoreBusy, StoreFault
from functions.storage.memory import MemoryStore
from functions.swap import worker
from functions.swap.uploads import Upload, read
from functions.tenant import Tenant
from tests.swap.house import SWAP, House, finalized, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from werkzeug.test import TestResponse

    from functions.swap.pipeline import Loaded
    from functions.tenant import Key

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
ACME = Tenant("acme")
JSON = {"Content-Type": "application/json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
NAME = "requests/j-1.json"
ONE = (Upload("acme", NAME, "7"),)


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


@pytest.fixture
def house() -> House:
    """Return a swap function with two pictures in acme's store."""
    found = House()
    found.put("a.png", picture(1))
    found.put("b.png", picture(1))
    return found


def asked(house: House, *jobs: str, **more: Any) -> None:
    """Put requests into the store, and tell nobody."""
    for job in jobs:
        house.store.put(ACME.request(job), json.dumps(SWAP | more).encode())


def told(house: House, body: bytes, headers: dict[str, str] = JSON) -> TestResponse:
    return house.worker.post("/events", headers=headers, data=body)


def facts(house: House, kind: str = events.SWAP_COMPLETED) -> int:
    """Return how many events of a kind were sent that say different things."""
    return len({event.id for event in house.sink.taken if event.type == kind})


def sent() -> Iterator[Callable[[House], TestResponse]]:
    """Yield each way in which an upload of `requests/j-1.json` is told."""
    yield lambda house: house.send(finalized(NAME))
    yield lambda house: told(house, notification(record()))
    yield lambda house: told(house, json.dumps(push()).encode())
    yield lambda house: told(
        house, notification(record()), binary("dev.knative.eventing.aws-sqs")
    )
    headers = binary(
        "dev.knative.eventing.aws-s3", source="aws.s3.bucket.acme", subject=NAME
    )
    yield lambda house: told(house, b"{", headers)


@pytest.mark.parametrize("tell", list(sent()))
def test_an_upload_starts_its_job_whoever_tells_of_it(
    house: House, tell: Callable[[House], TestResponse]
) -> None:
    """Once, however often it is told."""
    asked(house, "j-1")
    for _ in range(3):
        answer = tell(house)
        assert (answer.status_code, answer.data) == (204, b"")
    assert facts(house) == 1


def test_each_upload_of_a_notification_is_done(house: House) -> None:
    """Those that are no business of ours between them are passed over."""
    asked(house, "j-1", "j-2")
    body = notification(
        record("requests/j-1.json"),
        record("results/j-1/job.json"),
        record("requests/j-1.json", bucket="No Such Bucket"),
        record("requests/My+Job.json"),
        record("requests/j-2.json"),
    )
    assert told(house, body).status_code == 204
    assert facts(house) == 2
    assert facts(house, events.SWAP_REFUSED) == 1


@pytest.mark.parametrize("name", ["results/j/job.json", "uploads/a+b.png", "outbox/j"])
def test_an_object_that_is_no_request_starts_nothing(house: House, name: str) -> None:
    """A result written into the bucket wakes nothing into work."""
    assert told(house, notification(record(name))).status_code == 204
    assert house.sink.taken == []


def test_another_tenants_bucket_is_another_tenants(house: House) -> None:
    """A pinned worker does nothing for it, and has nothing of it come again."""
    pinned = House(tenant=Tenant("globex"))
    assert told(pinned, notification(record())).status_code == 204
    assert pinned.sink.taken == []


def test_an_upload_that_was_overwritten_runs_what_is_there(house: House) -> None:
    """Late, early or twice: one job, made of one request."""
    asked(house, "j-1", source="uploads/gone.png")
    asked(house, "j-1")
    for which in ("1", "2", "1"):
        assert told(house, notification(record(sequencer=which))).status_code == 204
    assert facts(house) == 1
    assert events.SWAP_FAILED not in house.sink.types()


def test_an_upload_that_was_deleted_is_refused_and_on_record(house: House) -> None:
    """It does not come again for ever."""
    assert told(house, notification(record())).status_code == 204
    assert house.sink.types() == [events.SWAP_REFUSED]


def nothing() -> Loaded:
    """Load nothing: no job gets that far."""
    raise Unavailable


class Broken(MemoryStore):
    """A store that fails where some requests lie."""

    def __init__(self, failures: dict[str, Problem]) -> None:
        super().__init__()
        self.failures = failures
        self.asked: list[Key] = []

    def get(self, key: Key, *, bytes_max: int | None = None) -> Any:
        self.asked.append(key)
        if key in self.failures:
            raise self.failures[key]
        return super().get(key, bytes_max=bytes_max)


@pytest.mark.parametrize(
    ("failures", "status"),
    [
        ([StoreFault(), StoreBusy()], 503),
        ([StoreBusy(), StoreFault()], 503),
        ([StoreFault(), InvalidRequest()], 500),
        ([InvalidRequest(), InvalidRequest()], 204),
    ],
)
def test_the_answer_tells_of_what_may_still_be_done(
    house: House, failures: list[Problem], status: int
) -> None:
    """All were tried; what may pass by itself comes first, what is on record last."""
    names = ["requests/j-1.json", "requests/j-2.json"]
    store = Broken(dict(zip(names, failures, strict=True)))
    client = worker.create_app(
        Settings(),
        stores=Stores("memory://{tenant}", opener=lambda _: store),
        keys=house.keys,
        auditor=house.auditor,
        sink=house.sink,
        load=nothing,
    ).test_client()
    body = notification(*(record(name) for name in names))
    answer = client.post("/events", headers=JSON, data=body)
    assert answer.status_code == status
    assert [key for key in store.asked if key in names] == names


def test_a_refusal_is_told_after_any_failure() -> None:
    """Were it told first, nothing would come again."""
    failures = [Forbidden(), RuntimeError(), StoreBusy(), StoreFault()]
    found = [type(each) for each in sorted(failures, key=worker._place)]
    assert found == [StoreBusy, RuntimeError, StoreFault, Forbidden]


def test_one_that_fails_keeps_no_other_back(house: House) -> None:
    """And the whole comes again, where what was done is done."""
    house.auditor.down = True
    asked(house, "j-1", "j-2")
    body = notification(record(), record("requests/j-2.json"))
    answer = told(house, body)
    assert answer.status_code == 503
    house.auditor.down = False
    for _ in range(2):
        assert told(house, body).status_code == 204
    assert facts(house) == 2
