"""Who signs, and who may verify: keys by name, from a `KeyProvider`.

Names in use: `events/<tenant>` (each tenant's events), `audit` (checkpoints),
`billing` (what billing says of a tenant: budgets, stored bytes),
`provenance` (Content Credentials), `tokens` (the development profile's own issuer).
A verifier keeps every public key a name ever had, so what was signed before a
rotation still verifies.

`audit` also has a secret, which does not change: keys that encrypt and index what
the log's sidecars hold are derived from it.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from functions.problems import Failed, Gone, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SECRET_BYTES: Final = 32
WITH_SECRET: Final = frozenset({"audit"})
"""The names that have a secret beside their pair."""

DESTROYED: Final = ".destroyed"
"""What the file is called that a private key leaves, in place of its `.key`."""

T = TypeVar("T")

FILES_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was, by its inode and times, and what was made of it."""

    path: str
    stamp: tuple[int, int, int]
    made: Any


_NAME: Final = re.compile(r"[a-z0-9-]+(?:/[a-z0-9-]+)?")


@dataclass(frozen=True, slots=True)
class Signer:
    """An Ed25519 private key and the id its signatures carry."""

    kid: str
    private: Ed25519PrivateKey

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature of `data`."""
        return self.private.sign(data)

    def public_bytes(self) -> bytes:
        """Return the raw 32-byte public key."""
        return self.private.public_key().public_bytes_raw()


@dataclass(frozen=True, slots=True)
class Verifier:
    """An Ed25519 public key and its id."""

    kid: str
    public: Ed25519PublicKey

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Return whether `signature` is this key's over `data`."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.public.verify(signature, data)
        except InvalidSignature:
            return False
        return True


Verifiers = Mapping[str, Verifier]
"""Verifiers by key id."""

BILLING: Final = "billing"
"""The name of the key that signs what billing says of a tenant."""


class KeyProvider(Protocol):
    """Where keys come from."""

    def signer(self, name: str) -> Signer:
        """Return the current private key of `name`, or raise `Failed`."""

    def verifiers(self, name: str) -> Verifiers:
        """Return every public key `name` has had; empty when there is no such."""

    def secret(self, name: str) -> bytes:
        """Return the 32 secret bytes of `name`, or raise `Failed`."""


def key_id(public: bytes) -> str:
    """Return the id of a raw public key: 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


class FileKeys:
    """Keys in a folder: `<name>.key` (PKCS #8 PEM), `<name>.pub`, `<name>.secret`.

    `.pub` holds one base64 public key a line, the newest last; `.secret`, of the few
    names that have one, base64 of 32 bytes.  A function that only verifies is given
    the `.pub` files and none of the others.  A file is read again when it has changed.

    No key of a Kubernetes Secret has a slash in it: where it is mounted, `events/acme`
    is found as `events.acme`, which is nobody else's name.  Nothing is written so.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[tuple[str, str], _Read] = {}

    def signer(self, name: str) -> Signer:
        """Return the private key of `name`, or raise `Failed`."""
        from cryptography.exceptions import UnsupportedAlgorithm

        try:
            return self._parsed(name, ".key", _signer_in)
        # A TypeError is how it says that the key is encrypted.
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise Failed(internal=f"no private key {name!r}: {error}") from error

    def verifiers(self, name: str) -> Verifiers:
        """Return every public key of `name`, or raise `Failed` if one is no key."""
        try:
            return self._parsed(name, ".pub", _verifiers)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise Failed(internal=f"public keys {name!r}: {error}") from error

    def _parsed(self, name: str, suffix: str, parse: Callable[[bytes], T]) -> T:
        """Return what `parse` makes of a file; of the same file, what it has made.

        To read a small file lets go of the interpreter half a dozen times, and in a
        crowd of threads each time costs a turn.  Even to put its path together takes
        a tenth of what a whole receipt does.
        """
        known = self._read.get((name, suffix))
        path = known.path if known else str(self._found(name, suffix))
        status = os.stat(path)  # noqa: PTH116  # a `Path` would put it together anew
        stamp = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        if known is None or known.stamp != stamp:
            if len(self._read) >= FILES_MAX:
                self._read.clear()
            known = _Read(path, stamp, parse(self._found(name, suffix).read_bytes()))
            self._read[name, suffix] = known
        found: T = known.made
        return found

    def secret(self, name: str) -> bytes:
        """Return the secret of `name`, or raise `Failed`."""
        try:
            text = self._path(name, ".secret").read_text("ascii").strip()
            found = base64.b64decode(text, validate=True)
        except (OSError, ValueError) as error:
            what = type(error).__name__  # its text may hold what was read
            raise Failed(internal=f"no secret {name!r}: {what}") from None
        if len(found) != SECRET_BYTES:
            raise Failed(internal=f"the secret {name!r} has not {SECRET_BYTES} bytes")
        return found

    def create(self, name: str) -> Signer:
        """Make a key pair for `name` unless there is one, and return the signer.

        So with the secret of a name that has one.  Whoever comes second, in this
        process or another, gets the first's key.  Raises `Gone` for a name whose key
        was destroyed.
        """
        path = self._path(name, ".key")
        for folder in (self._root, path.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (path.parent / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._refuse_destroyed(name)
            if not path.exists():
                self._write_new(name)
            secret = self._path(name, ".secret")
            if name in WITH_SECRET and not secret.exists():
                fresh = base64.b64encode(secrets.token_bytes(SECRET_BYTES))
                put_durably(secret, fresh + b"\n", mode=0o600)
        return self.signer(name)

    def rotate(self, name: str) -> Signer:
        """Make a new key pair for `name`, which signs from now on, and return it.

        What the earlier ones signed still verifies.  Raises `Failed` if there is none
        to rotate.
        """
        self.signer(name)
        with (self._path(name, ".key").parent / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._write_new(name)
        return self.signer(name)

    def destroy(self, name: str) -> None:
        """Destroy the private half of `name`, for ever: none is made anew.

        What it signed still verifies.  To destroy it again does what a crash left.
        """
        path = self._path(name, ".key")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (path.parent / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            put_durably(self._path(name, DESTROYED), b"", mode=0o644)
            destroy_file(path)
        self._read.pop((name, ".key"), None)

    def is_destroyed(self, name: str) -> bool:
        """Return whether the private half of `name` was destroyed, or that begun.

        Raises `Unavailable` where that cannot be told.
        """
        return is_there(self._path(name, DESTROYED))

    def _refuse_destroyed(self, name: str) -> None:
        if self.is_destroyed(name):
            raise Gone(internal=f"the private key {name!r} was destroyed")

    def _write_new(self, name: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = base64.b64encode(private.public_key().public_bytes_raw())
        path = self._path(name, ".pub")
        known = path.read_bytes().split() if path.exists() else []
        # The public half first: a crash between the two leaves a verifier too
        # many, never a signer whose signatures nobody can verify.
        put_durably(path, b"\n".join([*known, public, b""]), mode=0o644)
        put_durably(self._path(name, ".key"), pem, mode=0o600)

    def _found(self, name: str, suffix: str) -> Path:
        """Return where a file is to be read: in its folder, or as a Secret has it."""
        path = self._path(name, suffix)
        of_secret = self._root / f"{mounted(name)}{suffix}"
        return path if path.exists() or not of_secret.exists() else of_secret

    def _path(self, name: str, suffix: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Failed(internal=f"bad key name {name!r}")
        return self._root / (name + suffix)


def _signer_in(data: bytes) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = load_pem_private_key(data, password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise TypeError("it is not an Ed25519 key")
    return _signer(private)


def _verifiers(data: bytes) -> Verifiers:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raws = [base64.b64decode(line, validate=True) for line in data.split()]
    publics = [Ed25519PublicKey.from_public_bytes(raw) for raw in raws]
    kids = [key_id(raw) for raw in raws]
    return {
        kid: Verifier(kid, public) for kid, public in zip(kids, publics, strict=True)
    }


def _signer(private: Ed25519PrivateKey) -> Signer:
    return Signer(key_id(private.public_key().public_bytes_raw()), private)


def is_there(path: Path) -> bool:
    """Return whether anything lies at `path`, or raise `Unavailable`.

    `Path.exists` says no to a folder that it may not look into, too.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unavailable(internal=f"{path}: {error}") from error
    return True


def put_durably(path: Path, data: bytes, *, mode: int) -> None:
    """Put `data` at `path` durably: all of it or, after a crash, none."""
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)


def destroy_file(path: Path) -> None:
    """Write over a small file, then remove it, durably; it may be gone already.

    On a disk that writes in place nothing of it is left.  An SSD, a file system that
    copies on write and a backup keep what they please; no program can tell them.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(os.fstat(descriptor).st_size))
        file.flush()
        os.fsync(descriptor)
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Have a folder remember what was put into it, renamed in it and removed."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class MemoryKeys:
    """Keys that live as long as the process; every name has one from the start."""

    def __init__(self) -> None:
        self._signers: dict[str, Signer] = {}
        self._secrets: dict[str, bytes] = {}

    def signer(self, name: str) -> Signer:
        """Return the private key of `name`, made at first sight."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if name not in self._signers:  # `setdefault`: two threads get the same one
            self._signers.setdefault(name, _signer(Ed25519PrivateKey.generate()))
        return self._signers[name]

    def verifiers(self, name: str) -> Verifiers:
        """Return the one public key of `name`."""
        signer = self.signer(name)
        return {signer.kid: Verifier(signer.kid, signer.private.public_key())}

    def secret(self, name: str) -> bytes:
        """Return the secret of `name`, drawn at first sight."""
        return self._secrets.setdefault(name, secrets.token_bytes(SECRET_BYTES))


def mounted(name: str) -> str:
    """Return what a key is called in a Secret of Kubernetes, which takes no slash."""
    return name.replace("/", ".")


def events_key(tenant: str) -> str:
    """Return the name of the key that signs a tenant's events."""
    return f"events/{tenant}"
