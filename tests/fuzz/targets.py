"""What strangers' bytes reach first: each parser, and what it may answer.

A target takes any bytes and returns; whatever it raises is a finding.  A refusal is
an answer, and each says which.  What is accepted must hold what the parser promises.
"""

from __future__ import annotations

import base64
import json
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from functions import events, roster
from functions.audit.checking import verify_bundle, verify_proof
from functions.audit.merkle import VerificationError
from functions.auth import TokenAuthenticator, jwks_document
from functions.auth.keysets import parse as parse_key_set
from functions.envelopes import Envelopes
from functions.keys import MemoryKeys
from functions.problems import Refused, Unavailable
from functions.settings import Limits
from functions.storage.base import StoreDamaged
from functions.storage.encrypted import EncryptedStore
from functions.storage.memory import MemoryStore
from functions.storage.opaque import is_opaque
from functions.swap import uploads, webhooks
from functions.swap.calling import check_url
from functions.swap.job import SwapJob
from functions.swap.media import decode, encode
from functions.tenant import WEBHOOKS, Key, Tenant
from tests.audit.golden import GOLDEN, verifiers
from tests.fuzz import seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ACME: Final = Tenant("acme")
PIXELS_MAX: Final = 250_000
LIMITS: Final = Limits()
ISSUER: Final = "https://id.example"


@dataclass(frozen=True, slots=True)
class Target:
    """One parser: `run` it; `seeds` are good inputs, `mend` what a mutation breaks."""

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    mend: Callable[[bytes], bytes] = bytes
    bytes_max: int = 4096


# --- pictures ----------------------------------------------------------------


def image(data: bytes) -> None:
    """Decode a picture: within the limits, or refused."""
    try:
        found = decode(data, pixels_max=PIXELS_MAX)
    except Refused:
        return
    require(found.width * found.height <= PIXELS_MAX, "over the limit")
    require(found.pixels.dtype == "uint8", "not of eight bits")
    again = decode(encode(found, "png"))
    require(bool((again.pixels == found.pixels).all()), "other pixels")


def mended_png(data: bytes) -> bytes:
    """Return a PNG whose checksums hold again: else no mutation gets past them."""
    magic = b"\x89PNG\r\n\x1a\n"
    if not data.startswith(magic):
        return data
    found, at = bytearray(magic), len(magic)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        at += 12 + length
        crc = zlib.crc32(body)
        found += struct.pack(">I", max(0, len(body) - 4)) + body
        found += struct.pack(">I", crc)
    return bytes(found)


# --- events ------------------------------------------------------------------


def binary(data: bytes) -> None:
    """Read an event in binary mode: lines of a head, an empty one, the body."""
    headers, body = _message(data)
    try:
        found = events.decode(headers, body)
    except Refused:
        return
    again = events.decode(*events.encode(found))
    require(again == found, "an event changes on its way")


def structured(data: bytes) -> None:
    """Read an event in structured mode, and write it as it is signed."""
    headers = {"Content-Type": "application/cloudevents+json"}
    try:
        found = events.decode(headers, data)
    except Refused:
        return
    try:
        events.canonical(found.data)
    except Refused:
        return  # it could not be signed: nobody takes it
    require(events.from_dict(events.as_dict(found)) == found, "it changes in a store")


def batch(data: bytes) -> None:
    """Read a batch of events."""
    try:
        found = events.decode_batch({}, data)
    except Refused:
        return
    require(len(found) <= events.BATCH_EVENTS_MAX, "over the limit")


def notice(data: bytes) -> None:
    """Read what a bucket tells, in the words of any service."""
    headers, body = _message(data)
    try:
        found = uploads.read(headers, body)
    except Refused:
        return
    if isinstance(found, tuple):
        require(all(each.bucket and each.name for each in found), "of nothing")


def _message(data: bytes) -> tuple[dict[str, str], bytes]:
    """Return headers as a server gives them, and the body."""
    head, _, body = data.partition(b"\n\n")
    lines = (line.partition(": ") for line in head.decode("latin-1").split("\n"))
    return {name: text for name, colon, text in lines if colon}, body


# --- what tenants and operators write ----------------------------------------


def job(data: bytes) -> None:
    """Parse a request into a job, all of whose keys are the tenant's."""
    try:
        found = SwapJob.parse(data, job="j-1", tenant=ACME, actor="ann", limits=LIMITS)
    except Refused:
        return
    require(all(key.startswith("uploads/") for key in found.inputs), "elsewhere")
    require(".." not in "".join(found.inputs).split("/"), "a way up")
    found.digest(dict.fromkeys(found.inputs, "0" * 64))


def webhook(data: bytes) -> None:
    """Read a tenant's wish for webhooks, and look at each address in it."""
    store = MemoryStore()
    store.put(WEBHOOKS, data)
    try:
        said = webhooks.read_policy(store)
    except webhooks.Unreadable:
        return
    for endpoint in said.endpoints:
        try:
            check_url(endpoint.url)
        except Refused:
            continue
        require(endpoint.url.lower().startswith("https://"), "not https")


def tenant(data: bytes) -> None:
    """Read a tenant's spec; what is a spec reads back as itself."""
    try:
        found = roster.parse(data, tenant=ACME)
    except roster.InvalidSpec:
        return
    require(found.id == "acme", "another tenant's")
    require(roster.parse(roster.write(found), tenant=ACME) == found, "it changes")


# --- tokens and bundles --------------------------------------------------------

_SIGNERS: Final = MemoryKeys()


@cache
def _authenticator() -> TokenAuthenticator:
    folder = Path(tempfile.mkdtemp(prefix="guise-fuzz-"))
    path = folder / "jwks.json"
    path.write_text(json.dumps(jwks_document(_SIGNERS.signer("tokens"))))
    return TokenAuthenticator(path, issuer=ISSUER, audience="guise")


def token(data: bytes) -> None:
    """Verify a token; one whose second part is signed for it is of good form.

    `S` and two lines are a header and claims that the issuer signs; `K` a key set;
    all else is a token as it is.
    """
    if data[:1] == b"K":
        try:
            parse_key_set(data[1:], production=True)
        except Unavailable:
            return
        return
    good = data[:1] == b"S"
    text = _signed(data[1:]) if good else data.decode("latin-1")
    try:
        found = _authenticator().caller(f"Bearer {text}")
    except (Refused, Unavailable):
        return
    require(good, "a stranger's token")
    require(bool(found.tenant.id and found.subject), "nobody's")


def _signed(data: bytes) -> str:
    parts = [data.partition(b"\n")[0], data.partition(b"\n")[2]]
    text = ".".join(
        base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts
    )
    mark = _SIGNERS.signer("tokens").sign(text.encode())
    return f"{text}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"


def _token_seeds() -> list[bytes]:
    signer = _SIGNERS.signer("tokens")
    header = {"alg": "EdDSA", "kid": signer.kid, "typ": "JWT"}
    claims = {
        "iss": ISSUER,
        "aud": ["guise"],
        "sub": "ann",
        "tenant": "acme",
        "scope": "swap:read",
        "iat": 1,
        "nbf": 1.5,
        "exp": 9_999_999_999,
    }
    parts = [msgspec.json.encode(each) for each in (header, claims)]
    signed = b"S" + b"\n".join(parts)
    return [
        signed,
        b"T" + _signed(signed[1:]).encode(),
        b"K" + json.dumps(jwks_document(signer)).encode(),
    ]


@cache
def _bundle() -> dict[str, bytes]:
    with zipfile.ZipFile(GOLDEN / "v1" / "job.zip") as file:
        return {name: file.read(name) for name in file.namelist()}


def bundle(data: bytes) -> None:
    """Verify a bundle: never one that is not ours to the byte.

    The first byte says which file of a good bundle the rest is put in place of; 255
    that it is a whole zip, 254 a single proof.
    """
    if data[:1] == b"\xfe":
        try:
            verify_proof(data[1:].decode("latin-1"), verifiers())
        except VerificationError:
            return
        return
    files = _bundle()
    path = _scratch() / "b.zip"
    if data[:1] == b"\xff":
        path.write_bytes(data[1:])
        verify_bundle(path, verifiers())
        return
    name = list(files)[(data[:1] or b"\0")[0] % len(files)]
    changed = files | {name: data[1:]}
    with zipfile.ZipFile(path, "w") as file:
        for each, content in changed.items():
            file.writestr(each, content)
    report = verify_bundle(path, verifiers())
    trusted = name not in {"README.md", "keys.txt", "manifest.json"}
    same = data[1:] == files[name] or name.startswith("checkpoint")
    require(same or not (trusted and report.verified), f"{name} is another, and passes")


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="guise-fuzz-"))


def _bundle_seeds() -> list[bytes]:
    files = _bundle()
    parts = [bytes((n,)) + content for n, content in enumerate(files.values())]
    whole = b"\xff" + (GOLDEN / "v1" / "job.zip").read_bytes()
    proof = b"\xfe" + (GOLDEN / "v1" / "entry.tlog-proof").read_bytes()
    return [*parts, whole, proof]


# --- what lies on a disk -------------------------------------------------------

OBJECT: Final = Key("uploads/a.jpg")
CONTENT: Final = b"\xff\xd8\xff\xe0 a picture"


@cache
def _sealed() -> tuple[EncryptedStore, Path]:
    """Return an encrypted store of one object, and that object's file."""
    folder = Path(tempfile.mkdtemp(prefix="guise-fuzz-"))
    store = EncryptedStore(folder / "acme", ACME, Envelopes(folder / "keys"))
    store.put(OBJECT, CONTENT)
    files = [each for each in (folder / "acme").rglob("*") if is_opaque(each.name)]
    [found] = [each for each in files if each.is_file()]
    return store, found


def envelope(data: bytes) -> None:
    """Open an object whose file was changed: what was written, or nothing."""
    store, file = _sealed()
    file.write_bytes(data)
    try:
        found = store.get(OBJECT).data
    except StoreDamaged:
        return
    require(found == CONTENT, "other bytes than were written")


def require(holds: bool, what: str) -> None:  # noqa: FBT001  # as an assertion
    """Raise what no target catches, whatever Python was told of assertions."""
    if not holds:
        raise RuntimeError(what)


@cache
def targets() -> dict[str, Target]:
    """Return every target by its name."""
    in_head, in_body = seeds.event()
    spec = roster.write(roster.Spec(id="acme"))
    requests = [msgspec.json.encode(each) for each in (seeds.REQUEST, seeds.KEEP)]
    found = (
        Target("image", image, seeds.pictures(), mended_png),
        Target("event-binary", binary, in_head),
        Target("event-structured", structured, in_body),
        Target("event-batch", batch, [b"[" + b",".join(in_body) + b"]"]),
        Target("notice", notice, seeds.notices()),
        Target("job", job, requests),
        Target("token", token, _token_seeds()),
        Target("bundle", bundle, _bundle_seeds(), bytes_max=8192),
        Target("envelope", envelope, [_sealed()[1].read_bytes()]),
        Target("webhook", webhook, [msgspec.json.encode(seeds.WISH)]),
        Target("tenant", tenant, [spec, b"{id: acme, tier: trial}"]),
    )
    return {each.name: each for each in found}
