"""The issuer's keys: out of a file, and from an https address."""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from functions.auth import FileKeySet, RemoteKeySet, TokenAuthenticator, jwks_document
from functions.auth.keysets import (
    COOLDOWN_SECONDS,
    FRESH_SECONDS,
    KEYS_MAX,
    KEYSET_BYTES_MAX,
    STALE_SECONDS_MAX,
    fetch_key_set,
    parse,
)
from functions.keys import MemoryKeys, Signer
from functions.problems import Unavailable
from tests.attacks.issuer import Issuer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST, SECOND = (MemoryKeys().signer("tokens") for _ in range(2))


def published(*signers: Signer) -> bytes:
    """Return the set in which an issuer publishes some keys."""
    keys = [jwks_document(each)["keys"][0] for each in signers]
    return json.dumps({"keys": keys}).encode()


def jwk(**changes: Any) -> bytes:
    """Return a set of one good key with changes to it; `...` leaves a member out."""
    (good,) = jwks_document(FIRST)["keys"]
    changed = {**good, "kid": "k", **changes}
    plain = {name: value for name, value in changed.items() if value is not ...}
    return json.dumps({"keys": [plain]}).encode()


def no_key(document: bytes, *, production: bool = False) -> None:
    with pytest.raises(Unavailable) as caught:
        parse(document, production=production)
    assert caught.value.detail == ""


class TestParse:
    """What of a set can serve."""

    def test_each_kind_of_key_is_for_one_algorithm(self) -> None:
        """Whatever a token says of itself."""
        some_rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        some_ec = ec.generate_private_key(ec.SECP256R1())
        document = json.loads(published(FIRST))
        document["keys"] += [
            {**RSAAlgorithm.to_jwk(some_rsa.public_key(), as_dict=True), "kid": "r"},
            {**ECAlgorithm.to_jwk(some_ec.public_key(), as_dict=True), "kid": "e"},
        ]
        keys = parse(json.dumps(document).encode(), production=True)
        found = {kid: key.algorithm for kid, key in keys.items()}
        assert found == {FIRST.kid: "EdDSA", "r": "RS256", "e": "ES256"}

    def test_what_cannot_serve_does_not_spoil_the_rest(self) -> None:
        """RFC 7517, section 5: unknown kinds are passed over."""
        document = json.loads(published(FIRST))
        document["keys"] += [5, {}, {"kty": "new", "kid": "n"}, {"kid": ["x"]}]
        assert set(parse(json.dumps(document).encode(), production=True)) == {FIRST.kid}

    @pytest.mark.parametrize(
        "changes",
        [
            {"use": ...},
            {"alg": ...},
            {"key_ops": ["verify"]},
            {"more": {"of": "others"}},
            {"kid": "k" * 256},
        ],
        ids=str,
    )
    def test_what_the_standard_leaves_open_is_taken(
        self, changes: dict[str, Any]
    ) -> None:
        """A purpose and an algorithm need not be said."""
        assert len(parse(jwk(**changes), production=True)) == 1

    def test_only_development_takes_a_key_that_development_made(self) -> None:
        """One marked key among others is enough for production to refuse the set."""
        document = json.loads(published(FIRST))
        document["keys"] += jwks_document(SECOND, development=True)["keys"]
        mixed = json.dumps(document).encode()
        assert len(parse(mixed, production=False)) == 2
        no_key(mixed, production=True)

    def test_a_set_is_bounded(self) -> None:
        """In bytes and in keys; the last that fits is taken."""
        some = json.loads(published(FIRST))
        some["keys"] += [{}] * (KEYS_MAX - 1)
        assert parse(json.dumps(some).encode(), production=True)
        some["keys"] += [{}]
        no_key(json.dumps(some).encode())
        good = published(FIRST)
        assert parse(good.ljust(KEYSET_BYTES_MAX), production=True)
        no_key(good.ljust(KEYSET_BYTES_MAX + 1))


class TestFile:
    """A set in a file."""

    def test_a_rotated_key_is_seen_and_an_old_one_forgotten(
        self, tmp_path: Path
    ) -> None:
        """A ConfigMap changes under a pod, by a file that is exchanged."""
        path, fresh = tmp_path / "jwks.json", tmp_path / "new"
        path.write_bytes(published(FIRST))
        keys = FileKeySet(path)
        assert keys.find(FIRST.kid)
        fresh.write_bytes(published(SECOND))
        fresh.replace(path)
        assert keys.find(SECOND.kid)
        assert keys.find(FIRST.kid) is None

    def test_the_same_file_is_parsed_once(self, tmp_path: Path) -> None:
        """The same key object comes back, from a file of the same stamp."""
        path = tmp_path / "jwks.json"
        path.write_bytes(published(FIRST))
        keys = FileKeySet(path)
        assert keys.find(FIRST.kid) is keys.find(FIRST.kid)

    def test_a_file_that_goes_bad_lets_nobody_in(self, tmp_path: Path) -> None:
        """Fails closed: taking the file away shuts the door at once."""
        path = tmp_path / "jwks.json"
        path.write_bytes(published(FIRST))
        keys = FileKeySet(path)
        assert keys.find(FIRST.kid)
        for spoil in (partial(path.write_bytes, b"{"), path.unlink):
            spoil()
            with pytest.raises(Unavailable):
                keys.find(FIRST.kid)


@dataclass
class Clock:
    """A clock that stands until it is moved, in seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Far:
    """An issuer at an address: what it publishes, or that it is down."""

    clock: Clock = field(default_factory=Clock)
    document: bytes = field(default_factory=lambda: published(FIRST))
    down: bool = False
    fetched: int = 0

    def __call__(self, url: str) -> bytes:
        self.fetched += 1
        if self.down:
            raise Unavailable(internal=url)
        return self.document

    def keys(self) -> RemoteKeySet:
        return RemoteKeySet("https://id.example/jwks", fetch=self, clock=self.clock)


class TestRemote:
    """A set at an address, under a clock of our own."""

    def test_a_fresh_set_is_fetched_once(self) -> None:
        """Until it is no longer fresh."""
        far = Far()
        keys = far.keys()
        assert all(keys.find(FIRST.kid) for _ in range(5))
        far.clock.now += FRESH_SECONDS
        assert keys.find(FIRST.kid)
        assert far.fetched == 1
        far.clock.now += 1
        assert keys.find(FIRST.kid)
        assert far.fetched == 2

    def test_a_new_key_is_found_before_the_set_is_old(self) -> None:
        """An issuer rotates; a token by the new key asks for the set again."""
        far = Far()
        keys = far.keys()
        assert keys.find(FIRST.kid)
        far.document = published(SECOND)
        far.clock.now += COOLDOWN_SECONDS
        assert keys.find(SECOND.kid)
        assert keys.find(FIRST.kid) is None
        assert far.fetched == 2

    def test_an_issuer_that_is_down_for_a_while_keeps_nobody_out(self) -> None:
        """The last set serves, and is asked for once a cooldown."""
        far = Far()
        keys = far.keys()
        assert keys.find(FIRST.kid)
        far.down = True
        far.clock.now += STALE_SECONDS_MAX - COOLDOWN_SECONDS
        for _ in range(5):
            assert keys.find(FIRST.kid)
        assert far.fetched == 2

    def test_an_issuer_that_stays_down_shuts_the_door(self) -> None:
        """Keys that nobody confirms any more are no keys; its return opens it."""
        far = Far()
        keys = far.keys()
        assert keys.find(FIRST.kid)
        far.down = True
        far.clock.now += STALE_SECONDS_MAX + 1
        with pytest.raises(Unavailable):
            keys.find(FIRST.kid)
        far.down = False
        far.clock.now += COOLDOWN_SECONDS
        assert keys.find(FIRST.kid)

    def test_nobody_comes_in_before_the_first_set(self) -> None:
        """503, and no second fetch within the cooldown."""
        far = Far(down=True)
        keys = far.keys()
        for _ in range(5):
            with pytest.raises(Unavailable):
                keys.find(FIRST.kid)
        assert far.fetched == 1

    def test_a_set_of_no_use_is_as_if_none_came(self) -> None:
        """The one that was good is kept."""
        far = Far()
        keys = far.keys()
        assert keys.find(FIRST.kid)
        far.document = b"<html>"
        far.clock.now += FRESH_SECONDS + 1
        assert keys.find(FIRST.kid)
        assert far.fetched == 2

    def test_while_one_thread_fetches_the_others_do_not_wait(self) -> None:
        """Known keys serve, and an unknown one is told to come again."""
        entered, go = threading.Event(), threading.Event()
        far = Far()

        def slow(url: str) -> bytes:
            if far.fetched:
                entered.set()
                go.wait(10)
            return far(url)

        keys = RemoteKeySet("https://id.example", fetch=slow, clock=far.clock)
        assert keys.find(FIRST.kid)
        far.clock.now += FRESH_SECONDS + 1
        fetching = threading.Thread(target=keys.find, args=(FIRST.kid,))
        fetching.start()
        entered.wait(10)
        assert keys.find(FIRST.kid)
        with pytest.raises(Unavailable):
            keys.find("made up")
        go.set()
        fetching.join()
        assert far.fetched == 2

    def test_whoever_comes_first_together_waits_for_one_fetch(self) -> None:
        """A cold function asks once for its first crowd."""
        far = Far()
        start = threading.Barrier(8)
        found = []

        def come() -> None:
            start.wait(10)
            found.append(keys.find(FIRST.kid))

        keys = far.keys()
        crowd = [threading.Thread(target=come) for _ in range(8)]
        for each in crowd:
            each.start()
        for each in crowd:
            each.join()
        assert far.fetched == 1
        assert all(found)
        assert len(found) == 8


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """Return a real https server."""
    with Issuer.open() as made:
        yield made


class TestFetch:
    """The GET itself, from a real server with TLS."""

    def test_the_document_is_fetched(self, issuer: Issuer) -> None:
        """With the server's certificate checked."""
        issuer.answer = (200, {}, published(FIRST))
        assert fetch_key_set(issuer.url, context=issuer.context) == published(FIRST)

    def test_a_token_is_verified_by_a_fetched_key(self, issuer: Issuer) -> None:
        """From the address to the caller."""
        issuer.answer = (200, {}, published(FIRST))
        fetch = partial(fetch_key_set, context=issuer.context)
        door = TokenAuthenticator(
            RemoteKeySet(issuer.url, fetch=fetch), issuer="i", audience="a"
        )
        claims = {"iss": "i", "aud": "a", "sub": "ann", "tenant": "acme", "exp": 2**33}
        header = {"kid": FIRST.kid}
        bearer = jwt.encode(claims, FIRST.private, "EdDSA", headers=header)
        assert door.caller(f"Bearer {bearer}").subject == "ann"

    @pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
    def test_another_status_is_no_set(self, issuer: Issuer, status: int) -> None:
        """Also where a set lies in the body."""
        issuer.answer = (status, {}, b"" if status in {204, 304} else published(FIRST))
        with pytest.raises(Unavailable):
            fetch_key_set(issuer.url, context=issuer.context)

    def test_a_server_that_nobody_vouches_for_is_not_asked(
        self, issuer: Issuer
    ) -> None:
        """The default is the system's own authorities."""
        issuer.answer = (200, {}, published(FIRST))
        seen = len(issuer.seen)
        with pytest.raises(Unavailable) as caught:
            fetch_key_set(issuer.url)
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert len(issuer.seen) == seen
