"""Salted commitments to images, and what opens them, on its way to audit.

The log holds a commitment to each image, HMAC-SHA-256 under a salt that each job has
of its own, of the image's SHA-256.  Who holds a photo and not the salt learns nothing
from it.  So that a person's question about a photo can be answered while the job is
not erased, two CloudEvents extensions go to audit beside the signed event:

* `sidecar`, with `started`: the salt and the digest of every image the job uses,
  base64url JSON.  It goes to audit alone, in the body, where no proxy logs it.
* `sealed`, with an ending that has a result: the result's digest, base64url of a
  12-byte nonce and AES-256-GCM under a key derived from the salt.  Subscribers that
  get the ending, too, cannot open it.

Neither is signed nor part of a leaf: audit believes them as far as they open the
commitments that are.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Role = Literal["source", "target", "reference", "result"]
"""What an image was to a job: a reference only says which face is meant."""

SIDECAR: Final = "sidecar"
SEALED: Final = "sealed"
SIDECAR_CHARACTERS_MAX: Final = 32_768
"""Room for 240 images, where a job has 17 unless its limits are raised."""
SEALED_CHARACTERS_MAX: Final = 80

_NAMES: Final[Mapping[str, Role]] = {
    "sources": "source",
    "target": "target",
    "references": "reference",
    "result": "result",
}
"""What an event's `commitments` calls the images of each role."""

_NONCE_BYTES: Final = 12
_DIGEST_BYTES: Final = 32
_RESULT: Final = b"guise result v1"

Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""32 bytes as lower-case hex: a salt, or a SHA-256."""


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image that a job used, and as what; `sha256` is of its bytes as stored."""

    role: Role
    sha256: Hex32


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What opens a job's commitments; whoever erases it makes them say nothing."""

    salt: Hex32
    images: tuple[Image, ...]

    def text(self) -> str:
        """Return it as the extension that `started` carries."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()

    @classmethod
    def parse(cls, text: str) -> Sidecar:
        """Return the sidecar in an extension, or raise `InvalidRequest`."""
        if len(text) > SIDECAR_CHARACTERS_MAX:
            raise InvalidRequest(f"{SIDECAR}: over {SIDECAR_CHARACTERS_MAX} characters")
        try:
            return msgspec.json.decode(_decoded(text, SIDECAR), type=cls)
        except (ValueError, RecursionError):  # not what it said: it holds the salt
            raise InvalidRequest(f"{SIDECAR}: not a salt and images as JSON") from None


def commitment(salt: str, sha256: str) -> str:
    """Return HMAC-SHA-256 under the job's `salt` of an image's SHA-256 (all hex)."""
    return hmac.digest(bytes.fromhex(salt), bytes.fromhex(sha256), "sha256").hex()


def sidecar_of(salt: str, images: Iterable[tuple[Role, str]]) -> Sidecar:
    """Return the sidecar of `images`, pairs of role and SHA-256, each named once."""
    return Sidecar(salt, tuple(Image(*each) for each in dict.fromkeys(images)))


def committed(data: Mapping[str, Any]) -> set[tuple[Role, str]]:
    """Return every commitment in an event's data, with the role of its image.

    Names that we do not know are passed over: a later version may commit to more.
    Raises `InvalidRequest` where those we know are not text.
    """
    found: set[tuple[Role, str]] = set()
    commitments = data.get("commitments", {})
    if not isinstance(commitments, dict):
        raise InvalidRequest("commitments: not an object")
    for name, role in _NAMES.items():
        said = commitments.get(name, [])
        each = said if isinstance(said, list) else [said]
        if not all(isinstance(one, str) for one in each):
            raise InvalidRequest(f"commitments.{name}: not text")
        found.update((role, one) for one in each)
    return found


def seal_result(salt: str, job: str, sha256: str) -> str:
    """Return a result's digest as the extension that the job's ending carries."""
    nonce = os.urandom(_NONCE_BYTES)
    digest = bytes.fromhex(sha256)
    sealed = nonce + _cipher(salt).encrypt(nonce, digest, _associated(job))
    return base64.urlsafe_b64encode(sealed).decode()


def open_result(salt: str, job: str, text: str) -> str:
    """Return the digest (hex) in an extension, or raise `InvalidRequest`."""
    from cryptography.exceptions import InvalidTag

    if len(text) > SEALED_CHARACTERS_MAX:
        raise InvalidRequest(f"{SEALED}: over {SEALED_CHARACTERS_MAX} characters")
    raw = _decoded(text, SEALED)
    nonce, sealed = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
    try:
        digest = _cipher(salt).decrypt(nonce, sealed, _associated(job))
    except (InvalidTag, ValueError) as error:
        raise InvalidRequest(f"{SEALED}: does not open") from error
    if len(digest) != _DIGEST_BYTES:
        raise InvalidRequest(f"{SEALED}: not a digest")
    return digest.hex()


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{name}: not base64url") from error


def _cipher(salt: str) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(derived(bytes.fromhex(salt), _RESULT))


def derived(secret: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA-256 (RFC 5869), without salt, of a secret."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), _DIGEST_BYTES, salt=None, info=info).derive(secret)


def _associated(job: str) -> bytes:
    return _RESULT + b"\n" + job.encode()
