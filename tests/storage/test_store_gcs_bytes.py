"""Bytes on their way to Google's buckets and back: broken, bent, lost, overtaken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.problems import (
    Changed,
    NotFound,
    TooLarge,
)
from functions.storage.base import (
    StoreDamaged,
    StoreUnreachable,
)
from functions.storage.gcs import GcsStore
from functions.storage.gcs_stream import CHUNK_BYTES
from tests.storage import proxy as wrong
from tests.storage.gcs_faults import (
    LARGE,
    MIB,
    A,
    hurried,
    raised,
    serving,
    way,
)
from tests.storage.sources import Broken, Counted, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.storage.gcs_server import Service
    from tests.storage.proxy import Handler, Proxy, Wrong


@pytest.fixture
def service() -> Iterator[Service]:
    """Return a server of this test's own."""
    with serving() as found:
        yield found


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    """Return a way to the server on which nothing goes wrong yet."""
    with way(service) as found:
        yield found


@pytest.fixture
def store(proxy: Proxy) -> GcsStore:
    """Return a store behind the proxy, soon out of patience."""
    return hurried(proxy)


@pytest.mark.parametrize("bad", [wrong.cut(2 * MIB), wrong.stalled(2 * MIB)])
@pytest.mark.parametrize("size", [3 * MIB, LARGE])
def test_a_body_that_breaks_off_is_never_taken_for_a_whole(
    store: GcsStore, proxy: Proxy, bad: Wrong, size: int
) -> None:
    """Held in memory or streamed, cut or stalled; broken once, it is made good."""
    source = Counted(size)
    store.put_from(A, source)
    proxy.goes(bad, which="GET")
    assert raised(lambda: store.get(A)) is StoreUnreachable
    with pytest.raises(StoreUnreachable), store.open(A) as stream:
        digest_of(stream)
    proxy.goes(bad, which="GET", times=1)
    with store.open(A) as stream:
        assert digest_of(stream) == source.digest()


@pytest.mark.parametrize("at", [0, 2 * MIB])
@pytest.mark.parametrize("size", [3 * MIB, LARGE])
def test_a_bit_that_flips_on_the_way_back_is_found(
    store: GcsStore, proxy: Proxy, at: int, size: int
) -> None:
    """By the checksum of the whole, though it comes in chunks."""
    store.put_from(A, Counted(size))
    proxy.goes(wrong.flipped(at), which="GET /download")
    assert raised(lambda: store.get(A)) is StoreDamaged
    with pytest.raises(StoreDamaged), store.open(A) as stream:
        digest_of(stream)


def test_a_checksum_nobody_sends_along_is_asked_for(
    store: GcsStore, proxy: Proxy, service: Service
) -> None:
    """What is not checked is not believed."""
    store.put(A, b"x" * 100)
    service.silent_of_checksums = True
    assert store.get(A).data == b"x" * 100
    proxy.goes(wrong.flipped(50), which="GET /download")
    assert raised(lambda: store.get(A)) is StoreDamaged


def flipped_there(handler: Handler) -> None:
    """Change one bit of the object's bytes on their way to the server."""
    handler.body = handler.body.replace(b"some bytes", b"some bytec")
    handler.pass_on()


@pytest.mark.parametrize("size", [0, CHUNK_BYTES])
def test_a_bit_that_flips_on_the_way_there_writes_nothing(
    store: GcsStore, proxy: Proxy, service: Service, size: int
) -> None:
    """The service compares, and refuses; the second try goes through."""
    data = b"some bytes" + bytes(size)
    proxy.goes(flipped_there, which="/upload")
    assert raised(lambda: store.put(A, data)) is StoreDamaged
    assert service.buckets["acme"] == {}
    assert service.uploads == {}
    proxy.left = 0
    store.put(A, data)
    assert store.head(A).size == len(data)


@pytest.mark.parametrize("size", [10, LARGE])
def test_what_was_written_otherwise_than_sent_is_taken_back(
    store: GcsStore, proxy: Proxy, service: Service, size: int
) -> None:
    """A service that compares nothing tells at least what it has."""

    def otherwise(handler: Handler) -> None:
        answer, data = handler.ask()
        handler.head(answer)
        start = data.find(b'"crc32c": "') + 11
        handler.wfile.write(data[:start] + b"AAAAAA==" + data[start + 8 :])

    method = "POST" if size < CHUNK_BYTES else "PUT"
    if method == "PUT":
        proxy.goes(last_only(otherwise), which="PUT")
    else:
        proxy.goes(otherwise, which="POST")
    assert raised(lambda: store.put_from(A, Counted(size))) is StoreDamaged
    assert service.buckets["acme"] == {}


def last_only(bad: Wrong) -> Wrong:
    """Let it go wrong with the last chunk alone."""

    def perhaps(handler: Handler) -> None:
        is_last = not handler.headers["Content-Range"].endswith("/*")
        (bad if is_last else type(handler).pass_on)(handler)

    return perhaps


def test_a_write_whose_answer_was_lost_finds_itself(
    store: GcsStore, proxy: Proxy
) -> None:
    """The second try meets what the first one did: it has won, and not lost."""
    proxy.goes(wrong.losing, times=1, which="POST")
    first = store.put_if_absent(A, b"one")
    assert store.head(A).generation == first
    proxy.goes(wrong.losing, times=1, which="POST")
    second = store.put_if_match(A, b"two", first)
    assert store.get(A).data == b"two"
    assert store.head(A).generation == second != first


def test_a_write_whose_answer_was_lost_does_not_find_another(
    store: GcsStore, proxy: Proxy, service: Service
) -> None:
    """Not even one of the same bytes: somebody else has won."""
    theirs = GcsStore("acme", endpoint=service.endpoint)

    def overtaken(handler: Handler) -> None:
        theirs.put(A, b"the same")
        handler.close_connection = True

    proxy.goes(overtaken, times=1, which="POST")
    assert raised(lambda: store.put_if_absent(A, b"the same")) is Changed


def test_a_deletion_whose_answer_was_lost_claims_nothing(
    store: GcsStore, proxy: Proxy
) -> None:
    """It is gone; who deleted it cannot be known, so nobody wins twice."""
    generation = store.put(A, b"one")
    proxy.goes(wrong.losing, times=1, which="DELETE")
    assert raised(lambda: store.delete_if_match(A, generation)) is Changed
    with pytest.raises(NotFound):
        store.head(A)
    store.put(A, b"two")
    proxy.goes(wrong.losing, times=1, which="DELETE")
    store.delete(A)


@pytest.mark.parametrize("bad", [wrong.losing, wrong.hanging_up, wrong.silent])
@pytest.mark.parametrize("which", ["POST", "PUT"])
def test_an_upload_in_chunks_goes_on_where_an_answer_was_lost(
    store: GcsStore, proxy: Proxy, bad: Wrong, which: str
) -> None:
    """Its beginning, and each of its chunks: nothing is lost and nothing doubled."""
    for number, times in ((1, 1), (2, 1)):
        source = Counted(LARGE + number)
        before = store.put(A, b"before")
        proxy.goes(bad if number == 1 else last_only(bad), times=times, which="PUT")
        if which == "POST":
            proxy.goes(bad, times=times, which="POST")
        generation = store.put_from(A, source, generation=before)
        assert store.head(A).generation == generation
        with store.open(A) as stream:
            assert digest_of(stream) == source.digest()


def test_what_is_kept_of_a_chunk_is_not_sent_again(
    store: GcsStore, service: Service, proxy: Proxy
) -> None:
    """A service keeps as much as it likes, in blocks."""
    service.keeps = 3 * MIB
    source = Counted(LARGE)
    store.put_from(A, source)
    assert len([each for each in proxy.seen if each.startswith("PUT")]) == 4
    with store.open(A) as stream:
        assert digest_of(stream) == source.digest()


def test_an_upload_that_does_not_get_on_is_given_up(
    store: GcsStore, service: Service, proxy: Proxy
) -> None:
    """Of nothing kept comes nothing, however often it is sent."""
    service.keeps = 0
    assert raised(lambda: store.put_from(A, Counted(LARGE))) is StoreUnreachable
    assert len(proxy.seen) < 8
    assert service.uploads == {}


def test_an_upload_that_the_service_forgot_is_begun_by_who_wants_it(
    store: GcsStore, service: Service, proxy: Proxy
) -> None:
    """What was sent is gone from here too, so the stream cannot be sent again."""

    def forgotten(handler: Handler) -> None:
        service.uploads.clear()
        handler.pass_on()

    proxy.goes(last_only(forgotten), which="PUT")
    assert raised(lambda: store.put_from(A, Counted(LARGE))) is StoreUnreachable
    proxy.left = 0
    store.put_from(A, Counted(LARGE))


@pytest.mark.parametrize("source", [Broken(2 * LARGE), Counted(3 * LARGE)])
def test_nothing_stays_of_an_upload_that_failed(
    store: GcsStore, service: Service, source: Counted
) -> None:
    """The source broke, or was too large."""
    with pytest.raises((FileNotFoundError, TooLarge)):
        store.put_from(A, source, bytes_max=2 * LARGE)
    assert service.uploads == {}
    assert service.buckets["acme"] == {}


def test_nothing_stays_of_an_upload_that_lost(
    store: GcsStore, service: Service
) -> None:
    """Its condition is asked at the end, when all chunks are there."""

    class Late(Counted):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            if not data:
                store.put(A, b"theirs")
            return data

    with pytest.raises(Changed):
        store.put_from(A, Late(LARGE), generation=0)
    assert service.uploads == {}
    assert store.get(A).data == b"theirs"


def test_an_upload_that_cannot_be_given_up_is_left_to_google(
    store: GcsStore, service: Service, proxy: Proxy
) -> None:
    """Who wrote hears why it failed, not that the tidying failed too."""
    proxy.goes(wrong.hanging_up, which="DELETE")
    with pytest.raises(FileNotFoundError):
        store.put_from(A, Broken(LARGE))
    assert len(service.uploads) == 1
    assert store.sweep() == 0


def test_what_is_overwritten_while_it_is_read_is_to_be_read_again(
    store: GcsStore,
) -> None:
    """No stream is made of two generations."""
    store.put_from(A, Counted(2 * LARGE))
    with store.open(A) as stream:
        stream.read(MIB)
        store.put(A, b"new")
        with pytest.raises(StoreUnreachable):
            stream.read()
