"""Sign a pack, as its publisher or its approver.  Never needed to serve.

The signature is made by the OpenSSF's `model_signing` with a plain elliptic-curve
key: nothing is sent anywhere.  It lies in the pack's folder and is no part of the
pack: two people can sign one after the other, and neither changes the digest.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from models import signature
from models.errors import KeyRefused, PackRefused, SignFailed
from models.signature import NAMES, ROLES, Trust
from models.verify import signatures, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from models.signature import Role


def sign(
    folder: Path, *, key: Path, role: Role, password: bytes | None = None
) -> tuple[Path, str]:
    """Sign the pack in `folder` with the private `key`; return the file and the hint.

    Everything in the pack is proved first, and the signature read back by the
    verifier that serves.  A former signature of the same role is replaced.  `key` is
    PEM, on P-256, P-384 or P-521; `password` opens one that is encrypted.

    Raises:
        PackRefused: the folder is not a whole pack.
        KeyRefused: the key cannot be read or used, or has signed in the other role.
        SignFailed: the library is not installed, or refused.
        OSError: the folder cannot be written.
    """
    pack = verify(folder)
    public, named = _public(key, password)
    there = signatures(folder)
    others = [other for other in ROLES if other != role]
    if any(named.encode() in there.get(other, b"") for other in others):
        raise KeyRefused(f"{key.name}: it has signed as the {others[0]}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".sign-") as fresh:
        path = Path(fresh, NAMES[role])
        _write(folder, path, key, password)
        alone = Trust({role: {named: public}})
        signature.check_one(pack, path.read_bytes(), role, alone)
        _settle(path, folder / NAMES[role])
    return folder / NAMES[role], named


def _public(path: Path, password: bytes | None) -> tuple[EllipticCurvePublicKey, str]:
    """Return the public half of a private key, and its hint."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        private = load_pem_private_key(path.read_bytes(), password)
    except OSError as error:
        raise KeyRefused(f"{path.name}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # A TypeError says that the key is encrypted, or that it is not.
        raise KeyRefused(f"{path.name}: no private key to be read") from error
    spki = PublicFormat.SubjectPublicKeyInfo
    pem = private.public_key().public_bytes(Encoding.PEM, spki)
    public = signature.public_key(pem, path.name)
    return public, signature.hint(public)


def _write(folder: Path, path: Path, key: Path, password: bytes | None) -> None:
    try:
        from model_signing import hashing, signing
    except ImportError as error:
        raise SignFailed("signing needs its extra: pip install 'guise[signing]'") from (
            error
        )
    # Git's files are hashed, too: what is not in the manifest must not be there.
    files = hashing.Config().set_ignored_paths(  # type: ignore[no-untyped-call]
        paths=sorted(NAMES.values()), ignore_git_paths=False
    )
    config = signing.Config().set_hashing_config(files)  # type: ignore[no-untyped-call]
    try:
        # Bytes, whatever the annotation says: text it hands on as it is, and fails.
        config.use_elliptic_key_signer(private_key=key, password=password)  # type: ignore[arg-type]
        config.sign(folder, path)
    except (ValueError, TypeError) as error:
        raise SignFailed(f"{path.name}: {error}") from error


def _settle(path: Path, place: Path) -> None:
    """Put the file into the pack's folder, which is read-only but for this moment."""
    path.chmod(0o444)
    with _writable(place.parent):
        path.replace(place)
        for each in (place, place.parent):
            handle = os.open(each, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    mode = folder.stat().st_mode
    folder.chmod(mode | 0o200)
    try:
        yield
    finally:
        folder.chmod(mode)


__all__ = ["KeyRefused", "PackRefused", "SignFailed", "sign"]
