"""Bearer tokens: who may come in, and every way we know of to pretend."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from functions.auth import (
    SWAP_READ,
    SWAP_WRITE,
    TOKEN_CHARS_MAX,
    Caller,
    TokenAuthenticator,
    issue_token,
    jwks_document,
)
from functions.keys import MemoryKeys, Signer
from functions.problems import Forbidden, NotFound, Unauthenticated, Unavailable
from functions.settings import Settings, SettingsError
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIGNER = Signer("ed", Ed25519PrivateKey.generate())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://id.example"
SECRET = "a shared secret of more than thirty-two bytes"  # noqa: S105  # for tests alone
FAR = time.time() + 86_400  # as the tests are gathered: a run takes its time


def claims(**changes: object) -> dict[str, Any]:
    """Return good claims; a change to `...` leaves one out."""
    good = {
        "iss": ISSUER,
        "aud": "guise",
        "sub": "ann",
        "tenant": "acme",
        "scope": f"{SWAP_READ} {SWAP_WRITE}",
        "exp": time.time() + 600,
    }
    return {name: text for name, text in {**good, **changes}.items() if text is not ...}


def segment(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(**changes: object) -> str:
    """Return a well signed token; PyJWT itself would not write all of these."""
    header = {"alg": "EdDSA", "kid": SIGNER.kid, "typ": "JWT"}
    signed = f"{segment(header)}.{segment(claims(**changes))}"
    return f"{signed}.{segment(SIGNER.sign(signed.encode()))}"


@pytest.fixture(scope="module")
def jwks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a key set as issuers publish them: several kinds, one of them secret."""
    document = jwks_document(SIGNER)
    document["keys"] += [
        {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "rsa"},
        {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "ec"},
        {"kty": "oct", "kid": "oct", "k": segment(SECRET.encode())},
        {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True)},
        {"kty": "unheard of", "kid": "new"},
    ]
    path = tmp_path_factory.mktemp("jwks") / "jwks.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def door(jwks: Path) -> TokenAuthenticator:
    return TokenAuthenticator(jwks, issuer=ISSUER, audience="guise")


def refused(door: TokenAuthenticator, bearer: str) -> None:
    with pytest.raises(Unauthenticated):
        door.caller(f"Bearer {bearer}")


class TestLetIn:
    """A good token."""

    def test_a_good_token_is_a_caller(self, door: TokenAuthenticator) -> None:
        """Tenant, subject and scopes come from the verified claims."""
        caller = door.caller(f"Bearer {issue_token(SIGNER, claims())}")
        expected = Caller(Tenant("acme"), "ann", frozenset({SWAP_READ, SWAP_WRITE}))
        assert caller == expected

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
    def test_the_scheme_has_no_case(
        self, door: TokenAuthenticator, scheme: str
    ) -> None:
        """RFC 9110 says so."""
        assert door.caller(f"{scheme} {token()}").subject == "ann"

    @pytest.mark.parametrize(
        ("key", "kid", "alg"), [(RSA, "rsa", "RS256"), (EC, "ec", "ES256")]
    )
    def test_other_issuers_use_other_algorithms(
        self, door: TokenAuthenticator, key: Any, kid: str, alg: str
    ) -> None:
        """The three we pin."""
        bearer = jwt.encode(claims(), key, algorithm=alg, headers={"kid": kid})
        assert door.caller(f"Bearer {bearer}").tenant == Tenant("acme")

    @pytest.mark.parametrize(
        "change",
        [
            {"aud": ["other", "guise"]},
            {"unknown": {"deep": [1]}},
        ],
        ids=list,
    )
    def test_what_the_standard_allows_is_allowed(
        self, door: TokenAuthenticator, change: dict[str, Any]
    ) -> None:
        """Several audiences, and claims of others."""
        assert door.caller(f"Bearer {token(**change)}").subject == "ann"

    @pytest.mark.parametrize(
        ("claim", "seconds"), [("exp", -10), ("nbf", 10), ("iat", 0)]
    )
    def test_a_clock_a_little_apart_is_allowed(
        self, door: TokenAuthenticator, claim: str, seconds: float
    ) -> None:
        """Within the skew, either way."""
        bearer = token(**{claim: time.time() + seconds})
        assert door.caller(f"Bearer {bearer}").subject == "ann"

    def test_no_scope_is_no_scope(self, door: TokenAuthenticator) -> None:
        """The caller is known, and may do nothing."""
        caller = door.caller(f"Bearer {token(scope=...)}")
        assert caller.scopes == frozenset()
        with pytest.raises(Forbidden, match=SWAP_WRITE):
            caller.require(SWAP_WRITE)

    def test_a_scope_holds_for_itself_alone(self, door: TokenAuthenticator) -> None:
        """`swap:writer` is not `swap:write`."""
        caller = door.caller(f"Bearer {token(scope='swap:writer swap:read')}")
        caller.require(SWAP_READ)
        with pytest.raises(Forbidden):
            caller.require(SWAP_WRITE)

    def test_a_caller_belongs_to_one_tenant(self, door: TokenAuthenticator) -> None:
        """And is told nothing about the others, or about what could be none."""
        caller = door.caller(f"Bearer {token()}")
        caller.require_tenant("acme")
        for other in ("globex", "nowhere", "ACME", "acme ", "", "../acme"):
            with pytest.raises(NotFound) as caught:
                caller.require_tenant(other)
            assert caught.value.document() == NotFound().document()


class TestPinned:
    """A door that serves one tenant."""

    def test_its_own_tenant_comes_in(self, jwks: Path) -> None:
        """As at any other door."""
        door = TokenAuthenticator(
            jwks, issuer=ISSUER, audience="guise", pinned=Tenant("acme")
        )
        assert door.caller(f"Bearer {token()}").tenant == Tenant("acme")

    def test_another_tenants_good_token_finds_nothing(self, jwks: Path) -> None:
        """It is good, but all that is here is somebody else's."""
        door = TokenAuthenticator(
            jwks, issuer=ISSUER, audience="guise", pinned=Tenant("globex")
        )
        with pytest.raises(NotFound) as caught:
            door.caller(f"Bearer {token()}")
        assert caught.value.detail == ""

    def test_the_settings_say_whose_door_it_is(self, jwks: Path) -> None:
        """Issuer, audience, keys and tenant."""
        settings = Settings(jwks=jwks, issuer=ISSUER, tenant=Tenant("globex"))
        with pytest.raises(NotFound):
            TokenAuthenticator.from_settings(settings).caller(f"Bearer {token()}")

    def test_without_an_issuer_no_door_opens(self, jwks: Path) -> None:
        """Every missing setting is named at once."""
        with pytest.raises(SettingsError, match=r"GUISE_JWKS.*GUISE_ISSUER"):
            TokenAuthenticator.from_settings(Settings())
        with pytest.raises(SettingsError, match="GUISE_AUDIENCE"):
            TokenAuthenticator.from_settings(
                Settings(jwks=jwks, issuer=ISSUER, audience="")
            )


class TestForged:
    """A token that its issuer never gave out."""

    def test_alg_none(self, door: TokenAuthenticator) -> None:
        """A token may not say that it needs no signature."""
        for alg in ("none", "None", "NONE", "", None):
            header = {"alg": alg, "typ": "JWT", "kid": SIGNER.kid}
            for signature in ("", "x", segment(b"x" * 64)):
                refused(door, f"{segment(header)}.{segment(claims())}.{signature}")

    @pytest.mark.parametrize(
        "secret",
        [
            SIGNER.public_bytes(),
            segment(SIGNER.public_bytes()).encode(),
            SIGNER.private.public_key().public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            ),
            RSA.public_key().public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            ),
            b"",
        ],
        ids=["raw", "base64", "pem", "rsa pem", "empty"],
    )
    @pytest.mark.parametrize("kid", [SIGNER.kid, "rsa", "oct"])
    def test_hs256_with_the_public_key(
        self, door: TokenAuthenticator, secret: bytes, kid: str
    ) -> None:
        """What everybody knows is no secret."""
        signed = f"{segment({'alg': 'HS256', 'kid': kid})}.{segment(claims())}"
        signature = hmac.digest(secret, signed.encode(), hashlib.sha256)
        refused(door, f"{signed}.{segment(signature)}")

    def test_hs256_with_a_secret_of_the_key_set(self, door: TokenAuthenticator) -> None:
        """A symmetric key in the set does not make its algorithm one of ours."""
        refused(door, jwt.encode(claims(), SECRET, "HS256", headers={"kid": "oct"}))

    @pytest.mark.parametrize("alg", ["RS384", "PS256", "RS512"])
    def test_another_algorithm_of_a_known_key(
        self, door: TokenAuthenticator, alg: str
    ) -> None:
        """Three are pinned, and a key has one."""
        refused(door, jwt.encode(claims(), RSA, alg, headers={"kid": "rsa"}))

    @pytest.mark.parametrize("kid", [SIGNER.kid, "ec"])
    def test_a_good_signature_by_a_key_of_another_kind(
        self, door: TokenAuthenticator, kid: str
    ) -> None:
        """The algorithm in the header must be the key's."""
        refused(door, jwt.encode(claims(), RSA, "RS256", headers={"kid": kid}))

    def test_a_key_that_the_token_brings_along(self, door: TokenAuthenticator) -> None:
        """Keys come from the file, and from nowhere a token names."""
        mine = MemoryKeys().signer("mine")
        (jwk,) = jwks_document(mine)["keys"]
        for extra in (
            {"jwk": jwk},
            {"jwk": jwk, "kid": mine.kid},
            {"jku": "https://evil.example/jwks.json", "kid": mine.kid},
            {"x5u": "https://evil.example/x", "kid": SIGNER.kid},
            {"kid": SIGNER.kid},
            {"kid": "../../etc/passwd"},
            {"kid": ""},
            {},
        ):
            bearer = jwt.encode(claims(), mine.private, "EdDSA", headers=extra)
            refused(door, bearer)

    def test_no_key_id(self, door: TokenAuthenticator) -> None:
        """No key is tried on the off chance, not even one that has no name."""
        refused(door, jwt.encode(claims(), SIGNER.private, "EdDSA"))
        refused(door, jwt.encode(claims(), RSA, "RS256"))

    @pytest.mark.parametrize("kid", [5, None, ["a"], {}, True])
    def test_a_key_id_that_is_not_text(
        self, door: TokenAuthenticator, kid: object
    ) -> None:
        """It cannot be looked up, and does not crash the look-up."""
        header = segment({"alg": "EdDSA", "kid": kid})
        refused(door, f"{header}.{segment(claims())}.{segment(b'x' * 64)}")

    def test_claims_changed_under_the_signature(self, door: TokenAuthenticator) -> None:
        """Each part is covered."""
        header, _, signature = token().split(".")
        refused(door, f"{header}.{segment(claims(tenant='globex'))}.{signature}")
        changed = segment({"alg": "EdDSA", "kid": SIGNER.kid, "typ": "x"})
        refused(door, f"{changed}.{token().split('.')[1]}.{signature}")

    @pytest.mark.parametrize(
        "header",
        [
            {"crit": ["exp"]},
            {"crit": ["b64"], "b64": False},
            {"b64": False},
            {"crit": []},
        ],
        ids=str,
    )
    def test_critical_extensions_nobody_here_knows(
        self, door: TokenAuthenticator, header: dict[str, Any]
    ) -> None:
        """RFC 7515: what is critical and not understood is refused."""
        signed = f"{segment({'alg': 'EdDSA', 'kid': SIGNER.kid, **header})}."
        signed += segment(claims())
        signature = SIGNER.sign(signed.encode())
        refused(door, f"{signed}.{segment(signature)}")


class TestWrong:
    """A token that its issuer did give out, for something else or amiss."""

    @pytest.mark.parametrize(
        "change",
        [
            {"iss": "https://evil.example"},
            {"iss": ISSUER + "/"},
            {"iss": [ISSUER]},
            {"iss": ...},
            {"aud": "other"},
            {"aud": ["other"]},
            {"aud": []},
            {"aud": 5},
            {"aud": ...},
            {"exp": time.time() - 60},
            {"exp": 0},
            {"exp": "soon"},
            {"exp": None},
            {"exp": [1]},
            {"exp": {}},
            {"exp": float("inf")},
            {"exp": float("nan")},
            {"exp": 1e400},
            {"exp": ...},
            {"nbf": FAR},
            {"nbf": "x"},
            {"iat": FAR},
            {"iat": []},
            {"sub": 5},
            {"sub": ["ann"]},
            {"sub": {}},
            {"sub": ""},
            {"sub": None},
            {"sub": ...},
            {"tenant": 5},
            {"tenant": ["acme"]},
            {"tenant": {"acme": 1}},
            {"tenant": None},
            {"tenant": ...},
            {"scope": [SWAP_WRITE]},
            {"scope": [f"x {SWAP_WRITE} y"]},
            {"scope": {SWAP_WRITE: 1}},
            {"scope": 5},
            {"scope": True},
            {"scope": None},
        ],
        ids=list,
    )
    def test_a_claim_missing_or_of_another_kind(
        self, door: TokenAuthenticator, change: dict[str, Any]
    ) -> None:
        """Nothing is guessed, and nothing is made text that was not."""
        refused(door, token(**change))

    @pytest.mark.parametrize(
        "tenant",
        ["", "ACME", "../acme", "acme/", "acme\n", "a" * 33, "acme globex", "%61"],
    )
    def test_a_tenant_that_cannot_be_one(
        self, door: TokenAuthenticator, tenant: str
    ) -> None:
        """The claim is as bad as one that is not text."""
        refused(door, token(tenant=tenant))


class TestGarbage:
    """Bytes that are no token at all."""

    @pytest.mark.parametrize(
        "authorization",
        [
            "",
            "Bearer",
            "Bearer ",
            "Bearer   ",
            "Basic YTpi",
            f"Basic {token()}",
            token(),
            f"Bearer{token()}",
            f"Bearer {token()} {token()}",
            f"Bearer {token()}, Bearer {token()}",
            f"Token Bearer {token()}",
        ],
        ids=range(11),
    )
    def test_another_header(self, door: TokenAuthenticator, authorization: str) -> None:
        """The answer says which one to send, or that it does not verify."""
        with pytest.raises(Unauthenticated):
            door.caller(authorization)

    @pytest.mark.parametrize(
        "bearer",
        [
            ".",
            "..",
            "...",
            "a.b.c",
            "é.é.é",
            "\ud800.\ud800.\ud800",
            "\0",
            f"{segment(b'[' * 5000)}.e30.e30",
            f"{segment(b'{' * 10)}.e30.e30",
            f"{segment([])}.e30.e30",
            f"{segment(5)}.e30.e30",
            f"{segment({})}.e30.e30",
            f"{segment({'alg': ['EdDSA'], 'kid': SIGNER.kid})}.e30.e30",
            f"{segment({'alg': {}, 'kid': SIGNER.kid})}.e30.e30",
        ],
        ids=lambda text: ascii(text[:12]),
    )
    def test_a_malformed_token(self, door: TokenAuthenticator, bearer: str) -> None:
        """It is the caller's fault, never a crash of ours."""
        refused(door, bearer)

    def test_a_signed_token_without_an_object(self, door: TokenAuthenticator) -> None:
        """The signature is good, the claims are none."""
        for payload in (b"[]", b"5", b"null", b"{", b"\xff", b"[" * 5000, b""):
            header = segment({"alg": "EdDSA", "kid": SIGNER.kid})
            signed = f"{header}.{segment(payload)}"
            refused(door, f"{signed}.{segment(SIGNER.sign(signed.encode()))}")

    def test_a_huge_token(self, door: TokenAuthenticator) -> None:
        """It is refused by its length, before anything of it is decoded."""
        began = time.thread_time()
        for bearer in ("x" * 10**7, token(junk="x" * 10**6), "." * 10**6):
            with pytest.raises(Unauthenticated, match="characters"):
                door.caller(f"Bearer {bearer}")
        assert time.thread_time() - began < 2
        fitting = token(junk="x" * ((TOKEN_CHARS_MAX - 500) * 3 // 4))
        assert door.caller(f"Bearer {fitting}").subject == "ann"

    @given(
        st.text(max_size=60)
        | st.builds("{}.{}.{}".format, st.text(), st.text(), st.text())
    )
    def test_any_text(self, door: TokenAuthenticator, text: str) -> None:
        """Only refusals leave."""
        with pytest.raises(Unauthenticated):
            door.caller(f"Bearer {text}")


class TestKeySet:
    """The file that the issuer's keys are read from."""

    @pytest.mark.parametrize(
        "content",
        [
            None,
            b"",
            b"{",
            b"[]",
            b"5",
            b"{}",
            b'{"keys": 5}',
            b'{"keys": []}',
            b'{"keys": [5]}',
            b'{"keys": [{}]}',
            b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "a"}]}',
            b"\xff",
        ],
        ids=ascii,
    )
    def test_a_key_set_that_cannot_be_read_is_our_fault(
        self, tmp_path: Path, content: bytes | None
    ) -> None:
        """Nobody comes in, and no good token is called bad."""
        path = tmp_path / "jwks.json"
        if content is not None:
            path.write_bytes(content)
        door = TokenAuthenticator(path, issuer=ISSUER, audience="guise")
        with pytest.raises(Unavailable) as caught:
            door.caller(f"Bearer {token()}")
        assert caught.value.detail == ""

    def test_it_is_read_again_until_it_can_be(self, tmp_path: Path) -> None:
        """A secret may be mounted a moment after the start."""
        path = tmp_path / "jwks.json"
        door = TokenAuthenticator(path, issuer=ISSUER, audience="guise")
        with pytest.raises(Unavailable):
            door.caller(f"Bearer {token()}")
        path.write_text(json.dumps(jwks_document(SIGNER)))
        assert door.caller(f"Bearer {token()}").subject == "ann"

    def test_a_development_issuers_set_holds_no_private_part(self) -> None:
        """It is published."""
        (key,) = jwks_document(SIGNER)["keys"]
        assert "d" not in key
        assert key["kid"] == SIGNER.kid


def test_a_callers_require_is_quiet_when_it_holds() -> None:
    """It returns, and that is all."""
    require: Callable[[str], None] = Caller(
        Tenant("acme"), "ann", frozenset({SWAP_READ})
    ).require
    require(SWAP_READ)
