"""What can go wrong between us and a bucket, and by which name it is called."""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from functions.problems import (
    Changed,
    Failed,
    NotFound,
    Problem,
    Unavailable,
)
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
from functions.storage.s3_stream import PART_BYTES
from functions.tenant import Key
from tests.storage import proxy as wrong
from tests.storage.sources import Counted, digest_of

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


def test_writes_that_come_at_once_are_done_over(store: S3Store, proxy: Proxy) -> None:
    """S3 decides some races by 409: again, until there is an answer or too many."""
    conflict = wrong.answering(409, "ConditionalRequestConflict")
    proxy.goes(conflict, times=3)
    store.put_if_absent(A, b"one")
    assert len(proxy.seen) == 4
    proxy.goes(conflict)
    assert raised(lambda: store.put_if_absent(A, b"two")) is StoreBusy
