"""Who vouches for a pack: two detached signatures, checked before anything is loaded.

The publisher says what was built, the approver that it may serve; each signs the
names and digests of every file, `pack.json` among them, with a key of its own.  The
files are what the OpenSSF's `model_signing` writes for a plain elliptic-curve key: a
Sigstore bundle (v0.3) holding a DSSE envelope around an in-toto statement.  Its own
verifier takes 0.3 to 0.5 s to import; this one needs `cryptography` alone, takes
nothing that the other refuses, and refuses what no pack needs: shards, hashes other
than SHA-256, the formats before 1.0, several signatures in an envelope.

Sources: github.com/secure-systems-lab/dsse (protocol), in-toto.io/Statement/v1,
docs.sigstore.dev/about/bundle, the docstring of `model_signing._signing.signing`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from models import manifest
from models.errors import KeyRefused, PackRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

log = logging.getLogger(__name__)
T = TypeVar("T")

Role = Literal["publisher", "approver"]
ROLES: Final[tuple[Role, ...]] = ("publisher", "approver")
NAMES: Final[Mapping[Role, str]] = {role: f"{role}.sig.json" for role in ROLES}
"""The signature files.  No manifest can list one: a listed name has one dot."""
BYTES_MAX: Final = 262_144
"""How long a signature file may be: 256 files of a pack make 60 KB."""
_KEYS_BYTES_MAX: Final = 65_536

_PAYLOAD: Final = "application/vnd.in-toto+json"
_PEM: Final = re.compile(
    rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL
)
_HASHES: Final = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""The digest that goes with each curve, as Sigstore pairs them."""


# --- what a signature file holds.  Fields we do not know are passed over, as the
# --- formats ask: whatever counts is under the signature and compared.


class _Signature(msgspec.Struct, frozen=True):
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=1)]


class _PublicKey(msgspec.Struct, frozen=True):
    hint: manifest.Digest


class _Material(msgspec.Struct, frozen=True, rename="camel"):
    public_key: _PublicKey


class _Bundle(msgspec.Struct, frozen=True, rename="camel"):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]
    verification_material: _Material
    dsse_envelope: _Envelope


class _Digests(msgspec.Struct, frozen=True):
    sha256: manifest.Digest


class _Subject(msgspec.Struct, frozen=True):
    digest: _Digests


class _Resource(msgspec.Struct, frozen=True):
    name: str
    algorithm: Literal["sha256"]
    digest: manifest.Digest


class _Serialization(msgspec.Struct, frozen=True):
    method: Literal["files"]


class _Predicate(msgspec.Struct, frozen=True):
    serialization: _Serialization
    resources: tuple[_Resource, ...]


class _Statement(msgspec.Struct, frozen=True, rename="camel"):
    kind: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: Annotated[tuple[_Subject, ...], Meta(min_length=1, max_length=1)]
    predicate_type: Literal["https://model_signing/signature/v1.0"]
    predicate: _Predicate


_BUNDLE: Final = msgspec.json.Decoder(_Bundle)  # made on one thread: see `manifest`
_STATEMENT: Final = msgspec.json.Decoder(_Statement)


# --- whom we trust -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trust:
    """Which keys may vouch for a pack, by role and by hint, and whether they must.

    A hint is the SHA-256 of a public key's PEM form, 64 hexadecimal digits.
    """

    keys: Mapping[Role, Mapping[str, EllipticCurvePublicKey]]
    required: bool = True

    @classmethod
    def load(cls, folder: Path, *, required: bool = True) -> Trust:
        """Return the trust in `publisher.pem` and `approver.pem` of `folder`.

        Each holds one public key or several, so that keys can be changed.  With
        `required` unset, a pack without signatures passes with a warning; a wrong
        signature never does.

        Raises:
            KeyRefused: a file is missing, holds no key or another kind of key, or
                one key has both roles; the message names the file.
        """
        keys = {role: _keys(folder / f"{role}.pem") for role in ROLES}
        if keys["publisher"].keys() & keys["approver"].keys():
            raise KeyRefused("approver.pem: it holds a key of publisher.pem")
        return cls(keys, required)

    def role_of(self, hint: str) -> Role | None:
        """Return whose key `hint` names, None if nobody's."""
        return next((role for role in self.keys if hint in self.keys[role]), None)


def _keys(path: Path) -> dict[str, EllipticCurvePublicKey]:
    try:
        with path.open("rb") as file:
            raw = file.read(_KEYS_BYTES_MAX)
    except OSError as error:
        raise KeyRefused(f"{path.name}: {error.strerror}") from error
    keys = [public_key(pem, path.name) for pem in _PEM.findall(raw)]
    if not keys:
        raise KeyRefused(f"{path.name}: no public key in it")
    return {hint(key): key for key in keys}


def public_key(pem: bytes, name: str) -> EllipticCurvePublicKey:
    """Return the public key in `pem`; `name` is what the message calls it.

    Raises:
        KeyRefused: it is no key, or not one on P-256, P-384 or P-521.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyRefused(f"{name}: not a public key") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise KeyRefused(f"{name}: not a key on P-256, P-384 or P-521")
    return key


def hint(key: EllipticCurvePublicKey) -> str:
    """Return how a bundle names `key`: the SHA-256 of its PEM form."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


# --- the check ---------------------------------------------------------------


def check(
    pack: manifest.Pack, signatures: Mapping[Role, bytes], trust: Trust
) -> dict[str, str]:
    """Return who vouches for `pack`: the hint of the key, by role.

    `signatures` holds the signature files there are.  What they sign must be exactly
    what the manifest says lies in the pack, and the manifest itself.

    Raises:
        PackRefused: a signature is wrong, or missing where it is required; the
            message names the signature file, or the file it is not over.
    """
    vouching: dict[str, str] = {}
    for role in ROLES:
        if role in signatures:
            vouching[role] = check_one(pack, signatures[role], role, trust)
        elif trust.required:
            raise PackRefused(f"{NAMES[role]}: missing; the {role} did not sign")
        else:
            log.warning("%s %s: the %s did not sign", pack.id, pack.version, role)
    return vouching


def check_one(pack: manifest.Pack, raw: bytes, role: Role, trust: Trust) -> str:
    """Return the hint of the key by which `raw` vouches for `pack` in `role`.

    Raises:
        PackRefused: it does not; as `check`.
    """
    name = NAMES[role]
    if len(raw) > BYTES_MAX:
        raise PackRefused(f"{name}: more than {BYTES_MAX} bytes")
    bundle = _decode(raw, _BUNDLE, name)
    named = bundle.verification_material.public_key.hint
    key = trust.keys[role].get(named)
    if key is None:
        other = trust.role_of(named)
        whose = f"by the {other}" if other else "by a key that is not trusted"
        raise PackRefused(f"{name}: signed {whose}, not by the {role}")
    payload = _opened(bundle.dsse_envelope, key, name)
    statement = _decode(payload, _STATEMENT, name)
    resources = statement.predicate.resources
    _compare(pack, resources, name)
    if not hmac.compare_digest(_root(resources), statement.subject[0].digest.sha256):
        raise PackRefused(f"{name}: its digest is not that of the files it names")
    return named


def _opened(envelope: _Envelope, key: EllipticCurvePublicKey, name: str) -> bytes:
    """Return the payload, once `key` is proved to have signed it."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    try:
        payload = base64.b64decode(envelope.payload, validate=True)
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
    except ValueError as error:
        raise PackRefused(f"{name}: not base64") from error
    digest = getattr(hashes, _HASHES[key.curve.name])()
    try:
        key.verify(signature, pae(payload), ECDSA(digest))
    except InvalidSignature as error:
        raise PackRefused(f"{name}: the signature is wrong") from error
    return payload


def pae(payload: bytes) -> bytes:
    """Return what is signed: DSSE's pre-authentication encoding of an envelope."""
    head = f"DSSEv1 {len(_PAYLOAD)} {_PAYLOAD} {len(payload)} "
    return head.encode() + payload


def _decode(raw: bytes, decoder: msgspec.json.Decoder[T], name: str) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PackRefused(f"{name}: {error}") from error


def _compare(pack: manifest.Pack, resources: Iterable[_Resource], name: str) -> None:
    """Refuse the first file, the manifest before all, that is not what was signed."""
    signed: dict[str, str] = {}
    for each in resources:
        if each.name in signed:
            raise PackRefused(f"{each.name}: named twice in {name}")
        signed[each.name] = each.digest
    there = {manifest.NAME: pack.pack_digest}
    there |= {file.name: file.sha256 for file in pack.files}
    for file, digest in there.items():
        if file not in signed:
            raise PackRefused(f"{file}: not among what {name} signs")
        if not hmac.compare_digest(signed[file], digest):
            raise PackRefused(f"{file}: not the one that {name} signs")
    for file in sorted(signed.keys() - there.keys()):
        raise PackRefused(f"{file}: signed in {name}, and not in the pack")


def _root(resources: Iterable[_Resource]) -> str:
    """Return the SHA-256 over all digests in their order: the statement's subject."""
    joined = b"".join(bytes.fromhex(each.digest) for each in resources)
    return hashlib.sha256(joined).hexdigest()
