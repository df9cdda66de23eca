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
    Unavailable,
)
from functions.settings import SettingsError
from functions.storage import Stores, open_store
from functions.storage.base import (
    StoreBusy,
    StoreClock,
    StoreDenied,
    StoreFault,
    StoreMissing,
    StoreUnreachable,
)
from functions.storage.gcs import GcsStore
from functions.storage.gcs_client import wrapped
from functions.tenant import Key, Tenant
from tests.storage import proxy as wrong
from tests.storage.gcs_faults import (
    HURRIED,
    LARGE,
    A,
    hurried,
    raised,
    serving,
    way,
)
from tests.storage.sources import Counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from functions.storage import Store
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
