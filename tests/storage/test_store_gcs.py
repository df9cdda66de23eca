"""What can go wrong between us and Google's buckets, and by which name it is called."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials
from requests import Session

from functions.problems import (
    Changed,
    InvalidRequest,
    NotFound,
    Problem,
    TooLarge,
    Unavailable,
)
from functions.settings import SettingsError
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
from functions.storage.gcs import GcsStore
from functions.storage.gcs_client import Patience, client, wrapped
from functions.storage.gcs_stream import CHUNK_BYTES
from functions.tenant import Key, Tenant
from tests.storage import gcs_server
from tests.storage import proxy as wrong
from tests.storage.sources import Broken, Counted, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from functions.storage import Store
    from tests.storage.gcs_server import Service
    from tests.storage.proxy import Handler, Proxy, Wrong

A = Key("uploads/a.jpg")
MIB = 1024 * 1024
HURRIED = Patience(connect_seconds=0.5, read_seconds=0.5, tries=2)
LARGE = CHUNK_BYTES + 3 * MIB


@pytest.fixture
def service() -> Iterator[Service]:
    """Return a server of this test's own."""
    with gcs_server.serving() as found:
        yield found
    client(found.endpoint).close()


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    """Return a way to the server on which nothing goes wrong yet."""
    with wrong.to(service.endpoint) as found:
        yield found
    client(found.endpoint).close()


@pytest.fixture
def store(proxy: Proxy, service: Service) -> GcsStore:
    """Return a store behind the proxy, soon out of patience."""
    bucket = service.bucket("acme")
    return GcsStore(bucket, endpoint=proxy.endpoint, patience=HURRIED)


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
        lambda: store.put_from(A, Counted(LARGE)),
        lambda: store.list(Key("")),
        lambda: store.delete(A),
        lambda: store.delete_if_match(A, 1),
    ]


def raised(call: Callable[[], object]) -> type[Problem]:
    with pytest.raises(Problem) as caught:
        call()
    assert caught.value.detail == ""  # the cause is for the log alone
    return type(caught.value)


@pytest.mark.parametrize("number", range(9))
def test_a_bucket_that_is_not_there_is_missing_to_every_call(
    service: Service, number: int
) -> None:
    """It is not taken for an object that is not there."""
    gone = GcsStore("no-such-bucket", endpoint=service.endpoint)
    assert raised(everything(gone)[number]) is StoreMissing


def test_an_object_that_is_not_there_costs_the_bucket_one_question(
    store: GcsStore, proxy: Proxy
) -> None:
    """Once it is known to be there, it is not asked for again."""
    for _ in range(3):
        with pytest.raises(NotFound):
            store.head(A)
    assert len(proxy.seen) == 4


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("forbidden", StoreDenied),
        ("rateLimitExceeded", StoreBusy),
        ("userRateLimitExceeded", StoreBusy),
        ("backendError", StoreBusy),
        ("internalError", StoreUnreachable),
        ("badRequest", StoreFault),
    ],
)
def test_each_refusal_of_the_service_has_its_name(
    store: GcsStore, service: Service, reason: str, name: type[Problem]
) -> None:
    """In every call; and those that pass by themselves were tried again."""
    for call in everything(store):
        service.refusals.extend([reason] * 9)
        before = len(service.requests)
        assert raised(call) is name
        if issubclass(name, Unavailable):
            assert len(service.requests) - before == HURRIED.tries
        service.refusals.clear()


def test_without_credentials_one_is_denied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent in nobody's name, save to an endpoint of one's own."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert {raised(call) for call in everything(GcsStore("acme"))} == {StoreDenied}


def test_whom_the_service_does_not_know_it_denies(
    store: GcsStore, service: Service
) -> None:
    """Nobody has no better credentials to come back with."""
    # The client leaves a refused download's connection to the garbage collector.
    _, head, _, put, absent, large, listing, delete, _ = everything(store)
    for call in (head, put, absent, large, listing, delete):
        service.refusals.append("authError")
        assert raised(call) is StoreDenied


def account(endpoint: str) -> dict[str, str]:
    """Return the key of a service account whose tokens come from `endpoint`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "tests",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "tests@tests.example",
        "token_uri": f"{endpoint}/token",
    }


def saying(status: int, **document: str) -> Wrong:
    """Answer with JSON."""

    def answer(handler: Handler) -> None:
        body = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.mark.parametrize(
    ("status", "said", "name"),
    [
        (400, "Invalid grant: account not found", StoreDenied),
        (400, "Token must be short-lived. Check your iat and exp values", StoreClock),
        (503, "", StoreUnreachable),
    ],
)
def test_who_gives_no_token_is_named(
    status: int, said: str, name: type[Problem]
) -> None:
    """No account, a clock that is off, or nobody there: the last passes."""
    with wrong.to("") as giver, Session() as session:
        giver.goes(saying(status, error="invalid_grant", error_description=said))
        us = Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            account(giver.endpoint), scopes=["a"]
        )

        def ask() -> None:
            with wrapped("the token"):
                us.refresh(Request(session))

        assert raised(ask) is name


def test_a_refusal_that_is_not_googles_is_known_by_its_status(
    store: GcsStore, proxy: Proxy
) -> None:
    """Something on the way may answer in its own words."""
    for status, name in (
        (403, StoreDenied),
        (400, StoreFault),
        (502, StoreUnreachable),
    ):
        proxy.goes(wrong.answering(status, "no JSON"))
        assert {raised(call) for call in everything(store)} == {name}


@pytest.mark.parametrize("bad", [wrong.silent, wrong.hanging_up])
def test_a_service_that_does_not_answer_is_given_up_in_time(
    store: GcsStore, proxy: Proxy, bad: Wrong
) -> None:
    """After as many tries as there are, each as long as it may be."""
    proxy.goes(bad)
    began = time.monotonic()
    assert raised(lambda: store.put(A, b"x")) is StoreUnreachable
    assert raised(lambda: store.get(A)) is StoreUnreachable
    assert len(proxy.seen) == 4
    assert time.monotonic() - began < 15


def test_a_service_that_is_not_there_is_unreachable() -> None:
    """No port listens."""
    with wrong.to("") as other:
        gone = GcsStore("acme", endpoint=other.endpoint, patience=HURRIED)
    assert raised(lambda: gone.head(A)) is StoreUnreachable


def test_one_bad_answer_is_tried_again(
    store: GcsStore, proxy: Proxy, service: Service
) -> None:
    """Nobody hears of it."""
    for bad in (wrong.silent, wrong.hanging_up):
        proxy.goes(bad, times=1)
        store.put(A, b"x")
        proxy.goes(bad, times=1)
        assert store.get(A).data == b"x"
    service.refusals.append("backendError")
    assert store.get(A).data == b"x"


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


def test_what_was_never_a_generation_matches_nothing(
    store: GcsStore, proxy: Proxy
) -> None:
    """It is not sent: Google's are whole numbers of 63 bits."""
    for generation in (-1, 2**63):
        with pytest.raises(Changed):
            store.put_if_match(A, b"x", generation)
        with pytest.raises(Changed):
            store.put_from(A, Counted(LARGE), generation=generation)
        with pytest.raises(Changed):
            store.delete_if_match(A, generation)
    assert proxy.seen == []


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "a/", ".probes", "a/.b", "a/../b", "x" * 513, "a\ud800"]
)
def test_what_is_no_key_is_no_object(store: GcsStore, proxy: Proxy, key: str) -> None:
    """It does not leave this machine."""
    for call in (store.get, store.head, store.delete):
        with pytest.raises(InvalidRequest):
            call(Key(key))
    assert proxy.seen == []


def test_folders_that_consoles_make_are_no_objects(
    store: GcsStore, service: Service
) -> None:
    """Nor is anything else whose name is no key; pages go on past them."""
    for name in ("outbox/", "outbox/a", "outbox/b/", "outbox/.c", "outbox/d"):
        service.write("acme", {"name": name}, b"", None)
    found, cursor = [], ""
    for _ in range(5):
        page = store.list(Key("outbox/"), cursor=cursor, limit=1)
        found += [info.key for info in page.objects]
        cursor = page.cursor
    assert cursor == ""
    assert found == ["outbox/a", "outbox/d"]


def test_a_listing_of_more_than_a_page_of_googles_goes_on(
    store: GcsStore, service: Service
) -> None:
    """Who asks for 5,000 gets 1,000, and where the next are."""
    for number in range(1002):
        service.write("acme", {"name": f"outbox/{number:04}"}, b"", None)
    first = store.list(Key("outbox/"), limit=5000)
    assert len(first.objects) == 1000
    second = store.list(Key("outbox/"), cursor=first.cursor, limit=5000)
    assert [info.key for info in second.objects] == ["outbox/1000", "outbox/1001"]
    assert second.cursor == ""


def test_each_tenant_has_a_bucket_or_a_prefix(service: Service) -> None:
    """What one writes, another cannot name."""
    for template in ("gs://guise-{tenant}", "gs://shared/of/{tenant}"):
        stores = Stores(f"{template}?endpoint={service.endpoint}")
        for name in ("guise-acme", "guise-globex", "shared"):
            service.buckets.setdefault(name, {})
        stores.of(Tenant("acme")).put(A, b"one")
        with pytest.raises(NotFound):
            stores.of(Tenant("globex")).get(A)
    assert list(service.buckets["guise-acme"]) == [A]
    assert list(service.buckets["shared"]) == [f"of/acme/{A}"]


@pytest.mark.parametrize(
    "url", ["gs://", "gs:///a", "gs://acme?region=eu", "gs://acme?endpoint=ftp://a"]
)
def test_a_url_that_is_none_is_a_fault_of_the_settings(url: str) -> None:
    """It is told at the start."""
    with pytest.raises(SettingsError, match="GUISE_STORE"):
        open_store(url)


def test_a_client_that_is_not_installed_is_a_fault_of_the_settings() -> None:
    """It says what to install."""
    program = """
import sys
sys.modules["google.api_core"] = None
from functions.storage import open_store
open_store("gs://acme")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "SettingsError: GUISE_STORE: install guise[gcs]" in done.stderr


def test_a_small_object_is_one_request_each_way(store: GcsStore, proxy: Proxy) -> None:
    """Its bytes, its generation and its checksum come together."""
    store.put(A, b"x" * 1000)
    assert store.get(A, bytes_max=1000).data == b"x" * 1000
    with store.open(A) as stream:
        assert len(stream.read()) == 1000
    assert len(proxy.seen) == 3


def test_nobody_with_another_store_waits_for_googles_client() -> None:
    """A third of a second, which a door at `file:` does not spend."""
    program = """
import sys
from functions.storage import open_store
open_store("file:///tmp/none")
assert not {"google", "botocore"} & {name.split(".")[0] for name in sys.modules}
"""
    subprocess.run([sys.executable, "-c", program], check=True)
