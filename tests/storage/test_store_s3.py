"""What can go wrong between us and a bucket, and by which name it is called."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest

from functions.problems import (
    Changed,
    Failed,
    InvalidRequest,
    NotFound,
    Problem,
    TooLarge,
    Unavailable,
)
from functions.storage import Stores, open_store
from functions.storage.base import (
    StoreBusy,
    StoreClock,
    StoreDamaged,
    StoreDenied,
    StoreFault,
    StoreMissing,
    StoreUnreachable,
)
from functions.storage.s3 import S3Store
from functions.storage.s3_client import Patience
from functions.storage.s3_stream import PART_BYTES, whole_etag
from functions.tenant import Key, Tenant
from tests.storage import proxy as wrong
from tests.storage.sources import Broken, Counted, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.storage import Store
    from tests.storage.proxy import Handler, Proxy, Wrong
    from tests.storage.s3_process import Server

A = Key("uploads/a.jpg")
MIB = 1024 * 1024
# A HEAD's answer has no body to name a code in.
UNSAID_BY_A_HEAD = {
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "RequestTimeout",
}
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


def everything(store: Store) -> list[Callable[[], object]]:
    """Return one call of each kind, none of which finds anything there."""

    def read() -> None:
        with store.open(A) as stream:
            stream.read()

    return [
        lambda: store.get(A),
        lambda: store.head(A),
        read,
        lambda: store.put(A, b"x"),
        lambda: store.put_if_absent(A, b"x"),
        lambda: store.put_from(A, Counted(PART_BYTES + 1)),
        lambda: store.list(Key("")),
        lambda: store.delete(A),
    ]


def raised(call: Callable[[], object]) -> type[Problem]:
    with pytest.raises(Problem) as caught:
        call()
    assert caught.value.detail == ""  # the cause is for the log alone
    return type(caught.value)


def test_a_bucket_that_is_not_there_is_missing_to_every_call(s3_server: Server) -> None:
    """It is not taken for an object that is not there, and is not tried again."""
    for number in range(8):
        gone = S3Store("no-such-bucket", endpoint=s3_server.endpoint)
        assert raised(everything(gone)[number]) is StoreMissing
    assert not issubclass(StoreMissing, Unavailable)


def test_an_object_that_is_not_there_costs_the_bucket_one_question(
    store: S3Store, proxy: Proxy
) -> None:
    """Once it is known to be there, it is not asked for again."""
    for _ in range(3):
        with pytest.raises(NotFound):
            store.head(A)
    assert len(proxy.seen) == 4


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (403, "AccessDenied", StoreDenied),
        (403, "InvalidAccessKeyId", StoreDenied),
        (403, "SignatureDoesNotMatch", StoreDenied),
        (400, "ExpiredToken", StoreDenied),
        (403, "RequestTimeTooSkewed", StoreClock),
        (503, "SlowDown", StoreBusy),
        (429, "TooManyRequests", StoreBusy),
        (500, "InternalError", StoreUnreachable),
        (502, "Whatever", StoreUnreachable),
        (400, "RequestTimeout", StoreUnreachable),
        (400, "XMinioStorageFull", StoreFault),
        (405, "MethodNotAllowed", StoreFault),
    ],
)
def test_each_refusal_of_the_service_has_its_name(
    store: S3Store, proxy: Proxy, status: int, code: str, name: type[Problem]
) -> None:
    """In every call; and those that pass by themselves may be tried again."""
    proxy.goes(wrong.answering(status, code))
    calls = everything(store)
    if code in UNSAID_BY_A_HEAD:
        del calls[1]
    assert [raised(call) for call in calls] == [name] * len(calls)


def test_what_may_be_tried_again_is_unavailable() -> None:
    """And what only the operator mends is not; neither says outside what it is."""
    for again in (StoreBusy, StoreUnreachable, StoreDamaged):
        assert issubclass(again, Unavailable)
        assert again(internal="acme-data").document() == Unavailable().document()
    for never in (StoreMissing, StoreDenied, StoreClock, StoreFault):
        assert issubclass(never, Failed)
        assert not issubclass(never, Unavailable)
        assert never(internal="acme-data").document()["status"] == 500
        assert "store" not in str(never().document())


def test_without_credentials_one_is_denied(
    s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent in nobody's name."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    nobody = Patience(connect_seconds=0.4)  # a client of its own
    store = S3Store("acme", endpoint=s3_server.endpoint, patience=nobody)
    assert {raised(call) for call in everything(store)} == {StoreDenied}


def test_a_profile_nobody_wrote_is_denied(
    s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is not even made."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    store = S3Store("a-b", endpoint=s3_server.endpoint, patience=Patience(tries=9))
    assert raised(lambda: store.get(A)) is StoreDenied


@pytest.mark.parametrize("bad", [wrong.silent, wrong.hanging_up])
def test_a_service_that_does_not_answer_is_given_up_in_time(
    store: S3Store, proxy: Proxy, bad: Wrong
) -> None:
    """After as many tries as there are, each as long as it may be."""
    proxy.goes(bad)
    began = time.monotonic()
    assert raised(lambda: store.put(A, b"x")) is StoreUnreachable
    assert raised(lambda: store.get(A)) is StoreUnreachable
    assert len(proxy.seen) == 4
    assert time.monotonic() - began < 15


def test_a_service_that_is_not_there_is_unreachable(bucket: str) -> None:
    """No port listens."""
    with wrong.to("") as other:
        gone = S3Store(bucket, endpoint=other.endpoint, patience=HURRIED)
    assert raised(lambda: gone.head(A)) is StoreUnreachable


def test_one_bad_answer_is_tried_again(store: S3Store, proxy: Proxy) -> None:
    """Nobody hears of it."""
    for bad in (wrong.silent, wrong.hanging_up, wrong.answering(503, "SlowDown")):
        proxy.goes(bad, times=1)
        store.put(A, b"x")
        proxy.goes(bad, times=1)
        assert store.get(A).data == b"x"


@pytest.mark.parametrize("bad", [wrong.cut(2 * MIB), wrong.stalled(2 * MIB)])
@pytest.mark.parametrize("size", [3 * MIB, PART_BYTES + 3 * MIB])
def test_a_body_that_breaks_off_is_never_taken_for_a_whole(
    store: S3Store, proxy: Proxy, bad: Wrong, size: int
) -> None:
    """Held in memory or streamed, cut or stalled, written at once or in parts."""
    store.put_from(A, Counted(size))
    proxy.goes(bad)
    assert raised(lambda: store.get(A)) is StoreUnreachable
    with pytest.raises(StoreUnreachable), store.open(A) as stream:
        digest_of(stream)


@pytest.mark.parametrize("at", [0, 2 * MIB])
@pytest.mark.parametrize("size", [3 * MIB, PART_BYTES + 3 * MIB])
def test_a_bit_that_flips_on_the_way_back_is_found(
    store: S3Store, proxy: Proxy, at: int, size: int
) -> None:
    """By the checksum of the whole, also of what was written in parts."""
    store.put_from(A, Counted(size))
    proxy.goes(wrong.flipped(at), which="GET")
    assert raised(lambda: store.get(A)) is StoreDamaged
    with pytest.raises(StoreDamaged), store.open(A) as stream:
        digest_of(stream)


def test_a_bit_that_flips_in_what_others_wrote_is_found(
    store: S3Store, proxy: Proxy, bucket: str, s3_server: Server
) -> None:
    """A tool that sends no checksum leaves the MD5 in the ETag to check by."""
    s3_server.client.put_object(Bucket=bucket, Key=A, Body=b"x" * 1000)
    key = Key("uploads/plain.jpg")
    plain(s3_server, bucket, key, b"y" * 1000)
    assert store.get(key).data == b"y" * 1000
    proxy.goes(wrong.flipped(999), which="GET")
    for each in (A, key):
        assert raised(lambda each=each: store.get(each)) is StoreDamaged  # type: ignore[misc]


def plain(server: Server, bucket: str, key: str, data: bytes) -> None:
    """Write as an old tool does: by a link that somebody signed, and no checksum."""
    link = server.client.generate_presigned_url(
        "put_object", {"Bucket": bucket, "Key": key}
    )
    import httpx

    httpx.put(link, content=data, trust_env=False).raise_for_status()


@pytest.mark.parametrize("size", [100, PART_BYTES + 100])
def test_a_bit_that_flips_on_the_way_there_writes_nothing(
    store: S3Store, proxy: Proxy, size: int
) -> None:
    """The service compares, and refuses; the second try goes through."""
    proxy.goes(wrong.flipped_there(50), which="PUT")
    assert raised(lambda: store.put_from(A, Counted(size))) is StoreDamaged
    with pytest.raises(NotFound):
        store.head(A)
    proxy.left = 0
    store.put_from(A, Counted(size))
    assert store.head(A).size == size


def test_a_write_whose_answer_was_lost_finds_itself(
    store: S3Store, proxy: Proxy
) -> None:
    """The second try meets the first one's bytes: it has won, and not lost."""
    proxy.goes(wrong.losing, times=1, which="PUT")
    first = store.put_if_absent(A, b"one")
    assert store.head(A).generation == first
    proxy.goes(wrong.losing, times=1, which="PUT")
    second = store.put_if_match(A, b"two", first)
    assert store.get(A).data == b"two"
    assert store.head(A).generation == second


def test_a_write_whose_answer_was_lost_does_not_find_another(
    store: S3Store, proxy: Proxy, s3_server: Server, bucket: str
) -> None:
    """Somebody else's bytes are somebody else's."""

    def overtaken(handler: Handler) -> None:
        s3_server.client.put_object(Bucket=bucket, Key=A, Body=b"theirs")
        handler.close_connection = True

    proxy.goes(overtaken, times=1, which="PUT")
    with pytest.raises(Changed):
        store.put_if_absent(A, b"ours")
    assert store.get(A).data == b"theirs"


def test_an_upload_in_parts_whose_answer_was_lost_finds_itself(
    store: S3Store, proxy: Proxy, s3_server: Server, bucket: str
) -> None:
    """Whatever became of the second try to complete it."""
    proxy.goes(wrong.losing, times=1, which="POST")
    store.put_from(A, Counted(PART_BYTES + 1), generation=0)
    proxy.goes(wrong.losing, times=1, which=f"POST /{bucket}/{A}?uploadId")
    source = Counted(PART_BYTES + 2)
    generation = store.head(A).generation
    second = store.put_from(A, source, generation=generation)
    assert second == store.head(A).generation != generation


def test_an_upload_in_parts_whose_answer_was_lost_finds_no_other(
    store: S3Store, proxy: Proxy, s3_server: Server, bucket: str
) -> None:
    """Neither nothing, nor what somebody else wrote in the meantime."""

    def undone(handler: Handler) -> None:
        for upload in s3_server.uploads(bucket):
            s3_server.client.abort_multipart_upload(
                Bucket=bucket, Key=A, UploadId=upload
            )
        handler.close_connection = True

    which = f"POST /{bucket}/{A}?uploadId"
    for before in (lambda: None, lambda: store.put(A, b"theirs")):
        before()
        proxy.goes(undone, times=1, which=which)
        write = partial(store.put_from, A, Counted(PART_BYTES))
        assert raised(write) is StoreUnreachable
    assert store.get(A).data == b"theirs"


def test_an_etag_in_parts_is_of_digests() -> None:
    """As S3 makes it: here of no bytes, and of one byte; or else there is none."""
    first = "d41d8cd98f00b204e9800998ecf8427e"
    second = "7fc56270e7a70fa81a5935b72eacbe29"
    whole = hashlib.md5(bytes.fromhex(first + second)).hexdigest()  # noqa: S324  # S3's
    assert whole_etag([f'"{first}"', f'"{second}"']) == f"{whole}-2"
    assert whole_etag(["no digest"]) == ""


def test_writes_that_come_at_once_are_done_over(store: S3Store, proxy: Proxy) -> None:
    """S3 decides some races by 409: again, until there is an answer or too many."""
    conflict = wrong.answering(409, "ConditionalRequestConflict")
    proxy.goes(conflict, times=3)
    store.put_if_absent(A, b"one")
    assert len(proxy.seen) == 4
    proxy.goes(conflict)
    assert raised(lambda: store.put_if_absent(A, b"two")) is StoreBusy


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
    assert raised(lambda: store.get(A)) is StoreFault


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
