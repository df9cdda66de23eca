"""What lies in a bucket, under which names, and what is left of what failed."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from functions.problems import (
    Changed,
    InvalidRequest,
    NotFound,
    TooLarge,
)
from functions.storage import Stores, open_store
from functions.storage.base import (
    StoreFault,
)
from functions.storage.s3 import S3Store
from functions.storage.s3_client import Patience
from functions.storage.s3_stream import PART_BYTES, whole_etag
from functions.tenant import Key, Tenant
from tests.storage import proxy as wrong
from tests.storage.sources import Broken, Counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.storage.proxy import Handler, Proxy, Wrong
    from tests.storage.s3_process import Server

A = Key("uploads/a.jpg")
HURRIED = Patience(connect_seconds=0.5, read_seconds=0.5, tries=2)


@pytest.fixture
def proxy(s3_server: Server) -> Iterator[Proxy]:
    """Return a way to the server on which nothing goes wrong yet."""
    with wrong.to(s3_server.endpoint) as found:
        yield found


@pytest.fixture
def bucket(s3_server: Server) -> str:
    """Return a bucket of this test's own."""
    return s3_server.bucket(f"acme-{secrets.token_hex(8)}")


@pytest.fixture
def store(proxy: Proxy, bucket: str) -> S3Store:
    """Return a store behind the proxy, soon out of patience."""
    return S3Store(bucket, endpoint=proxy.endpoint, patience=HURRIED)


def test_an_etag_in_parts_is_of_digests() -> None:
    """As S3 makes it: here of no bytes, and of one byte; or else there is none."""
    first = "d41d8cd98f00b204e9800998ecf8427e"
    second = "7fc56270e7a70fa81a5935b72eacbe29"
    whole = hashlib.md5(bytes.fromhex(first + second)).hexdigest()  # noqa: S324  # S3's
    assert whole_etag([f'"{first}"', f'"{second}"']) == f"{whole}-2"
    assert whole_etag(["no digest"]) == ""


@pytest.mark.parametrize("source", [Broken(2 * PART_BYTES), Counted(3 * PART_BYTES)])
def test_no_part_stays_of_an_upload_that_failed(
    store: S3Store, s3_server: Server, bucket: str, source: Counted
) -> None:
    """The source broke, or was too large: a bucket bills for what nobody sees."""
    with pytest.raises((FileNotFoundError, TooLarge)):
        store.put_from(A, source, bytes_max=2 * PART_BYTES)
    assert s3_server.uploads(bucket) == []


def test_no_part_stays_of_an_upload_that_lost(
    store: S3Store, s3_server: Server, bucket: str
) -> None:
    """Its condition is asked at the end, when all parts are there."""
    store.put(A, b"one")
    with pytest.raises(Changed):
        store.put_from(A, Counted(PART_BYTES), generation=0)
    assert s3_server.uploads(bucket) == []
    assert store.get(A).data == b"one"


def test_parts_that_cannot_be_given_up_are_left_to_the_sweep(
    store: S3Store, proxy: Proxy, s3_server: Server, bucket: str
) -> None:
    """Who wrote hears why it failed, not that the tidying failed too."""
    proxy.goes(wrong.answering(403, "AccessDenied"), which="DELETE")
    with pytest.raises(FileNotFoundError):
        store.put_from(A, Broken(PART_BYTES))
    assert len(s3_server.uploads(bucket)) == 1
    proxy.goes(begun(datetime.now(UTC).year + 1), which="uploads")
    assert store.sweep() == 0  # somebody might still be sending them


def test_a_sweep_gives_up_what_is_a_day_old(
    proxy: Proxy, s3_server: Server, bucket: str
) -> None:
    """And nothing younger, and nothing beside the store's prefix."""
    store = S3Store(bucket, prefix="a/", endpoint=proxy.endpoint)
    for name in ("a/b", "b/a"):
        s3_server.client.create_multipart_upload(Bucket=bucket, Key=name)
    proxy.goes(begun(2020), which="uploads")
    assert store.sweep() == 1
    assert len(s3_server.uploads(bucket)) == 1


def begun(year: int) -> Wrong:
    """Let every upload have begun that year; moto says 2010 of all of them."""

    def rewritten(handler: Handler) -> None:
        answer, data = handler.ask()
        handler.head(answer)
        handler.wfile.write(data.replace(b"<Initiated>2010", b"<Initiated>%d" % year))

    return rewritten


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "a/", ".probes", "a/.b", "a/../b", "x" * 513, "a\ud800"]
)
def test_what_is_no_key_is_no_object(store: S3Store, proxy: Proxy, key: str) -> None:
    """It does not leave this machine."""
    for call in (store.get, store.head, store.delete):
        with pytest.raises(InvalidRequest):
            call(Key(key))
    assert proxy.seen == []


@pytest.mark.parametrize("code", ["KeyTooLongError", "XMinioParentIsObject"])
def test_a_name_the_service_cannot_hold_is_the_callers_to_mend(
    store: S3Store, proxy: Proxy, code: str
) -> None:
    """MinIO keeps objects in folders: `a` and `a/b` are not both possible there."""
    proxy.goes(wrong.answering(400, code))
    with pytest.raises(InvalidRequest, match="cannot be an object here"):
        store.put(A, b"x")


def test_a_bucket_no_service_would_name_is_a_fault(s3_server: Server) -> None:
    """It is not sent."""
    store = S3Store("No Such Bucket", endpoint=s3_server.endpoint)
    with pytest.raises(StoreFault):
        store.get(A)


@pytest.mark.parametrize("generation", [-1, 255, 2**64])
def test_a_generation_of_elsewhere_matches_nothing(
    store: S3Store, proxy: Proxy, generation: int
) -> None:
    """One that no ETag could be does not leave this machine."""
    store.put(A, b"one")
    proxy.seen.clear()
    for change in (
        lambda: store.put_if_match(A, b"two", generation),
        lambda: store.put_from(A, Counted(1), generation=generation),
        lambda: store.delete_if_match(A, generation),
    ):
        with pytest.raises(Changed):
            change()
    assert [each for each in proxy.seen if "uploads/" in each] == []
    assert store.get(A).data == b"one"


def test_folders_that_consoles_make_are_no_objects(
    store: S3Store, s3_server: Server, bucket: str
) -> None:
    """Nor is anything else whose name is no key; pages go on past them."""
    for name in ("outbox/", "outbox/a", "outbox/b/", "outbox/.c", "outbox/d"):
        s3_server.client.put_object(Bucket=bucket, Key=name, Body=b"")
    found, cursor = [], ""
    for _ in range(5):
        page = store.list(Key("outbox/"), cursor=cursor, limit=1)
        found += [info.key for info in page.objects]
        cursor = page.cursor
    assert cursor == ""
    assert found == ["outbox/a", "outbox/d"]


def test_a_prefix_keeps_tenants_apart(s3_server: Server, bucket: str) -> None:
    """One lists, and names, nothing of another's."""
    stores = Stores(f"s3://{bucket}/eu/{{tenant}}?endpoint={s3_server.endpoint}")
    acme, other = stores.of(Tenant("acme")), stores.of(Tenant("acme-2"))
    acme.put(A, b"one")
    assert other.list(Key("")).objects == ()
    with pytest.raises(NotFound):
        other.get(A)
    names = s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [each["Key"] for each in names] == [f"eu/acme/{A}"]


def test_the_same_bytes_written_again_are_the_same_generation(
    store: S3Store,
) -> None:
    """An ETag knows no more: who waits for a change must write another word."""
    assert store.put(A, b"") == store.put(A, b"")


def test_a_service_that_minds_no_condition_is_found_out(
    s3_server: Server, proxy: Proxy
) -> None:
    """It is asked once, and what is deleted there is first written over."""
    bucket = s3_server.bucket(f"old-{secrets.token_hex(8)}")
    store = S3Store(bucket, endpoint=proxy.endpoint, patience=HURRIED)
    first, second = store.put(A, b"one"), store.put(A, b"two")
    with pytest.raises(Changed):
        store.delete_if_match(A, first)
    assert store.get(A).data == b"two"
    store.delete_if_match(A, second)
    with pytest.raises(NotFound):
        store.get(A)
    assert len([each for each in proxy.seen if ".probes" in each]) == 2


def test_an_endpoint_with_a_region_is_taken(s3_server: Server, bucket: str) -> None:
    """From the URL."""
    url = f"s3://{bucket}?endpoint={s3_server.endpoint}&region=eu-central-1"
    store = open_store(url)
    store.put(A, b"one")
    assert store.get(A).data == b"one"
