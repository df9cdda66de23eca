"""Key sets that are bent, and what is done to get at them."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from functions.auth import RemoteKeySet, TokenAuthenticator, jwks_document
from functions.auth.keysets import COOLDOWN_SECONDS, FETCH_SECONDS_MAX, fetch_key_set
from functions.keys import MemoryKeys
from functions.problems import Unavailable
from tests.attacks.issuer import Issuer
from tests.attacks.town import ISSUER, Town, public_door, segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask.testing import FlaskClient

SIGNER = MemoryKeys().signer("tokens")
[GOOD] = jwks_document(SIGNER)["keys"]
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # the point
STRONG = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P384 = ec.generate_private_key(ec.SECP384R1())
K1 = ec.generate_private_key(ec.SECP256K1())


def rsa_jwk(key: rsa.RSAPrivateKey, **more: object) -> dict[str, Any]:
    found: dict[str, Any] = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": "k", **more}


def ec_jwk(key: ec.EllipticCurvePrivateKey, **more: object) -> dict[str, Any]:
    found: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": "k", **more}


SETS: dict[str, object] = {
    "no-json": b"{",
    "html": b"<!doctype html>",
    "no-utf-8": b"\xff",
    "empty-file": b"",
    "deeply-nested": b"[" * 50_000,
    "an-array": [GOOD],
    "keys-missing": {},
    "keys-an-object": {"keys": {"k": GOOD}},
    "keys-twice": b'{"keys": [], "keys": [' + json.dumps(GOOD).encode() + b"]}",
    "keys-none": {"keys": []},
    "keys-of-other-types": {"keys": [5, "x", None, [GOOD]]},
    "hundred-keys": {"keys": [{**GOOD, "kid": str(i)} for i in range(100)]},
    "megabyte": {"keys": [GOOD], "x": "y" * 10**6},
    "no-kid": {"keys": [{k: v for k, v in GOOD.items() if k != "kid"}]},
    "kid-empty": {"keys": [{**GOOD, "kid": ""}]},
    "kid-a-list": {"keys": [{**GOOD, "kid": ["k"]}]},
    "kid-huge": {"keys": [{**GOOD, "kid": "k" * 257}]},
    "kid-shared-by-two": {"keys": [GOOD, GOOD]},
    "secret-as-a-key": {"keys": [{"kty": "oct", "kid": "k", "k": "AAAA"}]},
    "private-half-published": {
        "keys": [{**GOOD, "d": segment(SIGNER.private.private_bytes_raw())}]
    },
    "for-encryption": {"keys": [{**GOOD, "use": "enc"}]},
    "for-signing-alone": {"keys": [{**GOOD, "key_ops": ["sign"]}]},
    "key-ops-text": {"keys": [{**GOOD, "key_ops": "verify"}]},
    "alg-hs256-on-a-public-key": {"keys": [{**GOOD, "alg": "HS256"}]},
    "alg-none": {"keys": [{**GOOD, "alg": "none"}]},
    "alg-a-list": {"keys": [{**GOOD, "alg": ["EdDSA"]}]},
    "alg-rs512": {"keys": [rsa_jwk(STRONG, alg="RS512")]},
    "kty-a-list": {"keys": [{**GOOD, "kty": ["OKP"]}]},
    "curve-ed448": {"keys": [{**GOOD, "crv": "Ed448"}]},
    "curve-x25519": {"keys": [{**GOOD, "crv": "X25519"}]},
    "curve-p384": {"keys": [ec_jwk(P384)]},
    "curve-secp256k1": {"keys": [ec_jwk(K1)]},
    "curve-of-another-type": {"keys": [{**GOOD, "kty": "EC"}]},
    "point-off-the-curve": {"keys": [ec_jwk(P384, crv="P-256")]},
    "point-at-zero": {
        "keys": [
            {"kty": "EC", "crv": "P-256", "kid": "k", "x": "A" * 43, "y": "A" * 43}
        ]
    },
    "ed25519-cut-short": {"keys": [{**GOOD, "x": GOOD["x"][:8]}]},
    "ed25519-a-number": {"keys": [{**GOOD, "x": 5}]},
    "rsa-of-1024-bits": {"keys": [rsa_jwk(WEAK)]},
    "rsa-exponent-of-one": {"keys": [rsa_jwk(STRONG, e="AQ")]},
    "rsa-exponent-even": {"keys": [rsa_jwk(STRONG, e="Ag")]},
    "rsa-modulus-missing": {"keys": [{"kty": "RSA", "kid": "k", "e": "AQAB"}]},
    "rsa-of-16384-bits": {"keys": [rsa_jwk(STRONG, n="_" * 2731)]},
}


@pytest.mark.parametrize("attack", SETS)
def test_attack_malformed_key_set(fresh: Town, tmp_path: Path, attack: str) -> None:
    """Nobody comes in, the fault is ours (503), and no word of it goes out."""
    content = SETS[attack]
    path = tmp_path / "jwks.json"
    path.write_bytes(
        content if isinstance(content, bytes) else json.dumps(content).encode()
    )
    authenticator = TokenAuthenticator(path, issuer=ISSUER, audience="guise")
    answer = asked(public_door(fresh.swap, authenticator), fresh.token())
    assert answer == (503, "urn:guise:problem:unavailable")


def asked(door: FlaskClient, token: str) -> tuple[int, str]:
    """Return the status, and the type of the problem, at a door."""
    found = door.get("/v1/swaps", headers={"Authorization": f"Bearer {token}"})
    document = found.get_json()
    assert set(document) <= {
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "jobs",
    } | {"cursor"}
    return found.status_code, document.get("type", "")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Return an issuer at a real https socket."""
    with Issuer.open() as made:
        yield made


def fetching(issuer: Issuer) -> RemoteKeySet:
    return RemoteKeySet(
        issuer.url, fetch=partial(fetch_key_set, context=issuer.context)
    )


def test_attack_kid_flood(fresh: Town, issuer: Issuer) -> None:
    """Two hundred made-up ids cost the issuer one request within a cooldown."""
    issuer.answer = (200, {}, json.dumps(jwks_document(SIGNER)).encode())
    authenticator = TokenAuthenticator(
        fetching(issuer), issuer=ISSUER, audience="guise"
    )
    door = public_door(fresh.swap, authenticator)
    began = time.monotonic()
    for number in range(200):
        made_up = fresh.signed(fresh.header(kid=f"k{number}"), fresh.claims())
        assert asked(door, made_up)[0] == 401
    took = time.monotonic() - began
    assert len(issuer.seen) <= 1 + took / COOLDOWN_SECONDS


def test_attack_kid_flood_of_algorithms_not_taken(fresh: Town, issuer: Issuer) -> None:
    """A token that could never be good asks the issuer for nothing at all."""
    authenticator = TokenAuthenticator(
        fetching(issuer), issuer=ISSUER, audience="guise"
    )
    door = public_door(fresh.swap, authenticator)
    bent = fresh.signed(fresh.header(alg="HS256", kid="new"), fresh.claims())
    assert asked(door, bent)[0] == 401
    assert issuer.seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_attack_redirected_key_set(issuer: Issuer, status: int) -> None:
    """A redirect is followed nowhere: not to a metadata service, not to a file."""
    with Issuer.open() as evil:
        issuer.answer = (status, {"Location": evil.url}, b"")
        with pytest.raises(Unavailable):
            fetching(issuer).find("k")
        assert evil.seen == []


def test_attack_endless_key_set(issuer: Issuer) -> None:
    """Reading stops at a bound, whatever length is told."""
    issuer.answer = (200, {}, json.dumps(jwks_document(SIGNER)).encode() + b" " * 10**7)
    with pytest.raises(Unavailable):
        fetching(issuer).find("k")


def test_attack_key_set_byte_by_byte(issuer: Issuer) -> None:
    """A drip gains no time: the whole answer has one deadline."""
    issuer.pause = 0.25
    issuer.answer = (200, {}, json.dumps(jwks_document(SIGNER)).encode())
    began = time.monotonic()
    with pytest.raises(Unavailable):
        fetching(issuer).find("k")
    assert time.monotonic() - began < FETCH_SECONDS_MAX + 5


def test_attack_key_set_by_a_server_in_the_middle(issuer: Issuer) -> None:
    """A certificate that nobody vouches for ends it before a request is sent."""
    with pytest.raises(Unavailable):
        RemoteKeySet(issuer.url).find("k")
    assert issuer.seen == []


def test_attack_key_set_cut_short(issuer: Issuer) -> None:
    """Half a set is none, though its half might parse."""
    whole = json.dumps(jwks_document(SIGNER)).encode()
    issuer.answer = (200, {"Content-Length": str(len(whole) + 10)}, whole)
    with pytest.raises(Unavailable):
        fetching(issuer).find(SIGNER.kid)
