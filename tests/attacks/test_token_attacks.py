"""Tokens that are none, at the real doors.  Each attack is a test by its name."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from functions.auth import jwks_document
from functions.keys import MemoryKeys
from functions.problems import Unauthenticated
from tests.attacks.issuer import Issuer
from tests.attacks.town import EC, ISSUER, RSA, Town, segment
from tests.swap.house import SWAP

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.test import TestResponse

READS = {
    "swap": "/v1/swaps",
    "audit": "/v1/tenants/acme/log/entries",
    "billing": "/v1/tenants/acme/usage",
}
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def refused(town: Town, token: str, which: str = "swap") -> TestResponse:
    """See a door refuse a token, in words that say nothing of why but the rule."""
    answer = town.ask(which, READS[which], token)
    assert answer.status_code == Unauthenticated.status
    document = answer.get_json()
    assert set(document) <= {"type", "title", "status", "detail"}
    assert document["type"] == "urn:guise:problem:unauthenticated"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    return answer


@pytest.mark.parametrize("which", READS)
def test_the_good_token_that_these_attacks_bend(town: Town, which: str) -> None:
    """It opens each door; so what follows is refused for what was bent."""
    assert town.ask(which, READS[which], town.token()).status_code == 200


FORGED: dict[str, Callable[[Town], str]] = {
    "alg-none": lambda t: f"{segment(t.header(alg='none'))}.{segment(t.claims())}.",
    "alg-none-with-a-signature": lambda t: t.signed(t.header(alg="none"), t.claims()),
    "alg-none-in-other-case": lambda t: t.signed(t.header(alg="nOnE"), t.claims()),
    "alg-missing": lambda t: t.signed(t.header(alg=...), t.claims()),
    "alg-a-list": lambda t: t.signed(t.header(alg=["EdDSA"]), t.claims()),
    "alg-null": lambda t: t.signed(t.header(alg=None), t.claims()),
    "alg-in-lower-case": lambda t: t.signed(t.header(alg="eddsa"), t.claims()),
    "hs256-with-the-rsa-public-key": lambda t: hs256(t, "rsa", PEM),
    "hs256-with-the-ed25519-public-key": lambda t: hs256(
        t, t.keys.signer("tokens").kid, t.keys.signer("tokens").public_bytes()
    ),
    "hs256-with-a-secret-of-the-set": lambda t: hs256(t, "oct", b"0" * 32),
    "hs256-with-an-empty-secret": lambda t: hs256(t, "oct", b""),
    "rs256-by-a-key-of-ed25519": lambda t: encoded(
        t, RSA, "RS256", t.keys.signer("tokens").kid
    ),
    "es256-by-a-key-of-rsa": lambda t: encoded(t, EC, "ES256", "rsa"),
    "rs256-by-a-key-of-p256": lambda t: encoded(t, RSA, "RS256", "ec"),
    "ps256-by-a-key-for-rs256": lambda t: encoded(t, RSA, "PS256", "rsa"),
    "rs384-by-a-key-for-rs256": lambda t: encoded(t, RSA, "RS384", "rsa"),
    "es256-of-zeros": lambda t: es256(t, b"\0" * 64),  # CVE-2022-21449
    "es256-of-the-order": lambda t: es256(t, bytes.fromhex(P256_ORDER) * 2),
    "es256-as-der": lambda t: es256(t, der(t)),
    "signature-left-out": lambda t: t.token().rpartition(".")[0] + ".",
    "signature-cut-short": lambda t: t.token()[:-4],
    "signature-of-another-token": lambda t: ".".join(
        (*t.token(sub="eve").split(".")[:2], t.token().split(".")[2])
    ),
    "stranger-with-our-key-id": lambda t: stranger(t, kid=t.keys.signer("tokens").kid),
    "stranger-with-an-embedded-jwk": lambda t: stranger(t, jwk=strangers_jwk()),
    "stranger-with-a-certificate-chain": lambda t: stranger(t, x5c=["MIIB"]),
    "crit-with-nothing-in-it": lambda t: t.signed(t.header(crit=[]), t.claims()),
    "crit-of-a-known-claim": lambda t: t.signed(t.header(crit=["exp"]), t.claims()),
    "crit-b64-unencoded-payload": lambda t: t.signed(
        t.header(crit=["b64"], b64=False), t.claims()
    ),
    "b64-without-crit": lambda t: t.signed(t.header(b64=False), t.claims()),
    "typ-of-a-logout-token": lambda t: t.signed(t.header(typ="logout+jwt"), t.claims()),
    "typ-of-a-security-event": lambda t: t.signed(
        t.header(typ="secevent+jwt"), t.claims()
    ),
    "typ-a-number": lambda t: t.signed(t.header(typ=5), t.claims()),
    "encrypted-token": lambda _: "eyJhbGciOiJkaXIifQ..aaaa.bbbb.cccc",
    "json-serialization": lambda t: json.dumps(
        dict(
            zip(
                ("protected", "payload", "signature"), t.token().split("."), strict=True
            )
        )
    ),
    "four-segments": lambda t: t.token() + ".e30",
    "two-segments": lambda t: t.token().rpartition(".")[0],
    "segments-in-plain-base64": lambda t: (
        t.token().replace("-", "+").replace("_", "/") + "=="
    ),
    "line-break-in-a-segment": lambda t: t.token().replace(".", ".\t"),
    "homoglyph-of-a-dot": lambda t: t.token().replace(".", "\uff0e"),
    "nul-after-the-token": lambda t: t.token() + "%00",
    "header-an-array": lambda t: t.signed([t.header()], t.claims()),
    "header-deeply-nested": lambda t: t.signed(b"[" * 3000, t.claims()),
    "header-no-utf-8": lambda t: t.signed(b"\xff\xfe{}", t.claims()),
    "header-names-alg-twice": lambda t: t.signed(
        b'{"alg":"none",' + json.dumps(t.header()).encode()[1:], t.claims()
    ),
    "header-names-kid-twice": lambda t: t.signed(
        b'{"kid":"rsa",' + json.dumps(t.header()).encode()[1:], t.claims()
    ),
    "token-of-nine-thousand-characters": lambda t: t.token(junk="x" * 7000),
    "token-of-a-megabyte": lambda _: "e" * 10**6,
}
P256_ORDER = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"


def hs256(town: Town, kid: str, secret: bytes) -> str:
    text = f"{segment(town.header(alg='HS256', kid=kid))}.{segment(town.claims())}"
    return f"{text}.{segment(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def encoded(town: Town, key: Any, alg: str, kid: str) -> str:
    return jwt.encode(town.claims(), key, alg, headers={"kid": kid})


def es256(town: Town, signature: bytes) -> str:
    text = f"{segment(town.header(alg='ES256', kid='ec'))}.{segment(town.claims())}"
    return f"{text}.{segment(signature)}"


def der(town: Town) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    text = f"{segment(town.header(alg='ES256', kid='ec'))}.{segment(town.claims())}"
    return EC.sign(text.encode(), ECDSA(SHA256()))


STRANGER = MemoryKeys().signer("stranger")


def strangers_jwk() -> dict[str, Any]:
    [found] = jwks_document(STRANGER)["keys"]
    assert isinstance(found, dict)
    return found


def stranger(town: Town, **header: object) -> str:
    headers = {"kid": STRANGER.kid, **header}
    return jwt.encode(town.claims(), STRANGER.private, "EdDSA", headers=headers)


@pytest.mark.parametrize("attack", FORGED)
def test_attack_forged_token(town: Town, attack: str) -> None:
    """Whoever lacks the issuer's private key is nobody, whatever the header says."""
    refused(town, FORGED[attack](town))


KIDS: dict[str, object] = {
    "path": "../../../../dev/null",
    "absolute-path": "/etc/passwd",
    "file-url": "file:///dev/null",
    "sql": "' OR '1'='1' --",
    "sql-union": "x' UNION SELECT 'key",
    "command": "|/bin/true",
    "nul": "rsa\0",
    "crlf": "rsa\r\nX: y",
    "format-string": "{0.__class__}%s%n",
    "template": "{{7*7}}${7*7}",
    "attribute": "__class__",
    "huge": "k" * 4096,
    "just-too-long": "k" * 257,
    "empty": "",
    "missing": ...,
    "null": None,
    "list": ["rsa"],
    "number": 0,
    "object": {"rsa": 1},
    "true": True,
    "upper-case": "RSA",
    "blank-around": " rsa ",
    "unicode-look-alike": "r\u0455a",
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("attack", KIDS)
def test_attack_kid_injection(town: Town, attack: str) -> None:
    """A key's id is looked up as it stands among those of the set, and nowhere else."""
    refused(town, town.signed(town.header(kid=KIDS[attack]), town.claims()))


@pytest.mark.parametrize("member", ["jku", "x5u"])
def test_attack_ssrf_through_the_header(town: Town, member: str) -> None:
    """No address that a token names is ever asked for anything."""
    with Issuer.open() as evil:
        evil.answer = (200, {}, json.dumps(jwks_document(STRANGER)).encode())
        for kid in (STRANGER.kid, town.keys.signer("tokens").kid):
            refused(town, stranger(town, kid=kid, **{member: evil.url}))
        assert evil.seen == []


HOUR = 3600
CLAIMS: dict[str, dict[str, object]] = {
    "expired": {"exp": int(time.time()) - 31},
    "expired-long-ago": {"exp": 0},
    "exp-missing": {"exp": ...},
    "exp-null": {"exp": None},
    "exp-text": {"exp": "9999999999"},
    "exp-a-list": {"exp": [9999999999]},
    "exp-true": {"exp": True},
    "exp-negative": {"exp": -1},
    "not-yet": {"nbf": int(time.time()) + HOUR},
    "nbf-true": {"nbf": True},
    "nbf-text": {"nbf": "0"},
    "issued-in-the-future": {"iat": int(time.time()) + HOUR},
    "iat-an-object": {"iat": {}},
    "issuer-of-others": {"iss": "https://evil.example"},
    "issuer-with-a-slash": {"iss": ISSUER + "/"},
    "issuer-as-a-prefix": {"iss": ISSUER + ".evil.example"},
    "issuer-in-upper-case": {"iss": ISSUER.upper()},
    "issuer-a-list": {"iss": [ISSUER]},
    "issuer-missing": {"iss": ...},
    "audience-of-others": {"aud": "other"},
    "audience-as-a-part": {"aud": "guise-admin"},
    "audience-missing": {"aud": ...},
    "audience-null": {"aud": None},
    "audience-an-object": {"aud": {"guise": 1}},
    "audience-within-a-list-within-a-list": {"aud": [["guise"]]},
    "tenant-missing": {"tenant": ...},
    "tenant-null": {"tenant": None},
    "tenant-empty": {"tenant": ""},
    "tenant-a-list": {"tenant": ["acme"]},
    "tenant-an-object": {"tenant": {"id": "acme"}},
    "tenant-a-number": {"tenant": 1},
    "tenant-in-upper-case": {"tenant": "ACME"},
    "tenant-with-a-cyrillic-a": {"tenant": "\u0430cme"},
    "tenant-in-full-width": {"tenant": "\uff41\uff43\uff4d\uff45"},
    "tenant-with-a-trailing-dot": {"tenant": "acme."},
    "tenant-with-a-blank": {"tenant": "acme "},
    "tenant-with-a-line-break": {"tenant": "acme\n"},
    "tenant-with-a-nul": {"tenant": "acme\0"},
    "tenant-with-a-soft-hyphen": {"tenant": "ac\u00adme"},
    "tenant-a-path": {"tenant": "../acme"},
    "tenant-two-of-them": {"tenant": "acme globex"},
    "tenant-a-wildcard": {"tenant": "*"},
    "tenant-a-placeholder": {"tenant": "{tenant}"},
    "subject-missing": {"sub": ...},
    "subject-empty": {"sub": ""},
    "subject-a-list": {"sub": ["ann"]},
    "subject-with-a-line-break": {"sub": "ann\nERROR forged"},
    "subject-with-an-escape": {"sub": "\x1b[2Jann"},
    "subject-right-to-left": {"sub": "ann\u202egnp"},
    "subject-of-a-thousand": {"sub": "a" * 1000},
    "scopes-a-list": {"scope": ["swap:read"]},
    "scopes-an-object": {"scope": {"swap:read": True}},
}


@pytest.mark.parametrize("attack", CLAIMS)
def test_attack_claims_amiss(town: Town, attack: str) -> None:
    """Well signed is not enough: each claim is there, of its kind, and meant for us."""
    refused(town, town.token(**CLAIMS[attack]))  # type: ignore[arg-type]  # a tenant amiss


@pytest.mark.parametrize("claim", ["tenant", "exp", "aud", "scope"])
def test_attack_duplicate_claim(town: Town, claim: str) -> None:
    """Of two values one parser takes the first and another the last: neither is."""
    good = json.dumps(town.claims())
    twice = good[:-1] + f", {json.dumps(claim)}: {json.dumps(town.claims()[claim])}}}"
    refused(town, town.signed(town.header(), twice.encode()))


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"null", b"5", b'"x"', b"", b"{", b"[" * 3000, b"\xff"],
    ids=ascii,
)
def test_attack_payload_that_is_no_object(town: Town, payload: bytes) -> None:
    """A good signature over nonsense is nonsense."""
    refused(town, town.signed(town.header(), payload))


@pytest.mark.parametrize(
    "header",
    [
        "Basic YTpi",
        "bearer",
        "Bearer",
        "Bearer ",
        "Token x",
        "Negotiate",
        "Bearer\x00x",
    ],
    ids=ascii,
)
def test_attack_other_scheme(town: Town, header: str) -> None:
    """There is one scheme, and no way round it."""
    answer = town.door.get("/v1/swaps", headers={"Authorization": header})
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["access_token", "token", "Authorization", "jwt"])
@pytest.mark.parametrize("which", READS)
def test_attack_token_in_the_query(town: Town, which: str, name: str) -> None:
    """Queries are logged, cached and referred to: a token there is not one."""
    client = town.clients[which]
    answer = client.get(READS[which], query_string={name: town.token()})
    assert answer.status_code == 401


def test_attack_token_in_a_form_or_a_cookie(town: Town) -> None:
    """What a browser sends by itself lets nobody in."""
    form = {"access_token": town.token()}
    assert town.door.post("/v1/swaps", data=form).status_code == 401
    cookie = {"Cookie": f"access_token={town.token()}; Authorization={town.token()}"}
    assert town.door.get("/v1/swaps", headers=cookie).status_code == 401


def test_attack_token_of_another_scope(town: Town) -> None:
    """Each call asks for its own; who may read may not write, erase or see bills."""
    calls = (
        ("swap", "/v1/swaps", "GET", "swap:read"),
        ("swap", "/v1/swaps", "POST", "swap:write"),
        ("swap", "/v1/swaps/j", "DELETE", "swap:write"),
        ("swap", "/v1/swaps/j/cancel", "POST", "swap:write"),
        ("audit", "/v1/tenants/acme/log/checkpoint", "GET", "audit:read"),
        ("audit", "/v1/tenants/acme/log/searches", "POST", "audit:read"),
        ("audit", "/v1/tenants/acme/log/erasures", "POST", "audit:erase"),
        ("billing", "/v1/tenants/acme/invoices", "GET", "billing:read"),
    )
    every = {scope for *_, scope in calls} | {"operator", "*", "swap", "swap:*"}
    for which, path, method, scope in calls:
        token = town.token(scope=" ".join(every - {scope}))
        answer = town.ask(which, path, token, method=method, json=SWAP)
        assert answer.status_code == 403, path
        assert answer.get_json()["type"] == "urn:guise:problem:forbidden"


def test_attack_replay_after_expiry(fresh: Town) -> None:
    """A token that was good a minute ago is no longer, at a door that knows it."""
    soon = time.time() - 29
    token = fresh.token(exp=soon)
    assert fresh.ask("swap", "/v1/swaps", token).status_code == 200
    time.sleep(max(0.0, soon + 30.05 - time.time()))
    refused(fresh, token)
