"""The folder `.guise/`: what one machine keeps, and the keys it makes for itself."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from functions.auth import (
    AUDIT_READ,
    BILLING_READ,
    SWAP_READ,
    SWAP_WRITE,
    issue_token,
    jwks_document,
)
from functions.keys import BILLING, FileKeys, events_key
from functions.problems import Unavailable, UnknownTenant
from functions.roster import FolderRoster, write
from functions.roster.reading import of_plain
from functions.settings import DEVELOPMENT_ISSUER, DEVELOPMENT_MARK, SettingsError
from functions.storage.locate import PLACE
from functions.swap.provenance import chain as provenance
from functions.tenant import REQUESTS, UPLOADS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from functions.keys import Signer
    from functions.roster import Spec
    from functions.tenant import Tenant

ISSUER: Final = DEVELOPMENT_ISSUER
AUDIENCE: Final = "guise"
TOKEN_SECONDS: Final = 30 * 24 * 3600
_OWNERS: Final = 0o700
_OWNERS_FILE: Final = 0o600
_LOCK_SECONDS_MAX: Final = 1.0
_LOCK_PAUSE_SECONDS: Final = 0.02
_MARK: Final = b"Keys for this machine alone: production refuses this folder.\n"
_SCOPES: Final = f"{SWAP_WRITE} {SWAP_READ} {AUDIT_READ} {BILLING_READ}"


class HomeTaken(Exception):
    """Another stack runs in this home; the message says which, and where."""


class Running(msgspec.Struct, frozen=True):
    """A stack that serves: its process, and the address of each of its doors."""

    pid: int
    urls: Mapping[str, str]


class Places(msgspec.Struct, frozen=True):
    """Where the stack of a home keeps what is not in it.

    `store` (a URL) and `envelopes` (as `GUISE_ENVELOPES`) are "" for the home's own;
    `tenant` is the one whom a store without `{tenant}` is pinned to.
    """

    store: str = ""
    envelopes: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Home:
    """Where everything lies under `root`, an absolute path."""

    root: Path

    @property
    def keys(self) -> Path:
        """The keys of every function."""
        return self.root / "keys"

    @property
    def envelopes(self) -> Path:
        """The keys under which the objects of some tenants rest."""
        return self.keys / "envelopes"

    @property
    def chain(self) -> Path:
        """The certificates that outputs are signed with, the leaf first."""
        return self.keys / "provenance.pem"

    @property
    def roots(self) -> Path:
        """Every root of our own making there has been, for who checks outputs."""
        return self.keys / "provenance-roots.pem"

    @property
    def trust(self) -> Path:
        """Who must have signed a pack, if it is there: two files of public keys."""
        return self.root / "trust"

    @property
    def acceptances(self) -> Path:
        """What the operator answers for, on record."""
        return self.root / "acceptances"

    @property
    def jwks(self) -> Path:
        """The public key of our own token issuer."""
        return self.keys / "jwks.json"

    @property
    def token(self) -> Path:
        """A bearer token of the first tenant."""
        return self.root / "token"

    @property
    def tenants(self) -> Path:
        """The tenants: each one's spec in a file by its id, its store in a folder."""
        return self.root / "tenants"

    @property
    def run(self) -> Path:
        """What belongs to the running stack: logs, lock, addresses."""
        return self.root / "run"

    @property
    def places_file(self) -> Path:
        """Where the stack that ran last kept what is not in the home."""
        return self.root / "places.json"

    @property
    def queue(self) -> Path:
        """The broker's queue."""
        return self.root / "broker.db"

    @property
    def store_url(self) -> str:
        """`GUISE_STORE` for functions that serve every tenant."""
        return f"file://{quote(str(self.tenants))}/{PLACE}"

    def database_url(self, name: str) -> str:
        """Return `GUISE_DATABASE` of the function `name`."""
        return f"sqlite:///{quote(str(self.root / name))}.db"

    def pack(self) -> Path | None:
        """Return the newest prepared lite pack, None when there is none."""
        packs = (self.root / "models" / "lite").glob("*/pack.json")
        found = sorted(packs, key=lambda path: _version(path.parent.name))
        return found[-1].parent if found else None

    def prepare(self, tenants: Iterable[Tenant]) -> None:
        """Make every folder and key that is missing, and a fresh token of the first.

        Raises `ValueError` when there is no tenant.
        """
        tenants = tuple(tenants)
        if not tenants:
            raise ValueError("at least one tenant")
        self.shut()
        for folder in (self.keys, self.tenants, self.run, self.acceptances):
            folder.mkdir(exist_ok=True, mode=0o700)
        _write(self.keys / DEVELOPMENT_MARK, _MARK)  # before there is a key
        keys = FileKeys(self.keys)
        keys.create("audit")
        keys.create(BILLING)
        self._certify(keys.create(provenance.KEY))
        document = jwks_document(keys.create("tokens"), development=True)
        _write(self.jwks, msgspec.json.encode(document))
        for tenant in tenants:
            self.found(tenant)
            # A broken spec, or that of somebody deleted, shuts out its tenant alone.
            with suppress(Unavailable, UnknownTenant):
                self.welcome(self.roster().spec(tenant))
        _write(self.token, self.issue(tenants[0]).encode())

    def shut(self) -> None:
        """Make the folder, and whatever is in it, its owner's alone.

        Also one that somebody else made: a pack is put on its shelf before there is
        anything here to be kept from others.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_IMODE(self.root.stat().st_mode) != _OWNERS:
            self.root.chmod(_OWNERS)
            for file in (*self.root.glob("*.db*"), *self.tenants.glob("*.yaml")):
                file.chmod(_OWNERS_FILE)

    def roster(self, region: str = "") -> FolderRoster:
        """Return the tenants, from their specs."""
        return FolderRoster(self.tenants, region=region, keys=self.keys)

    def found(self, tenant: Tenant) -> None:
        """Write the spec of a tenant that has none: who sits here is its operator.

        `guise up` has made it before, on record; nobody makes one of who has ended.
        """
        path = self.tenants / f"{tenant.id}.yaml"
        if not path.exists() and not self.roster().fate(tenant):
            _write(path, write(first_spec(tenant)))

    def welcome(self, spec: Spec) -> None:
        """Make the keys and folders that are missing of a tenant that there is.

        Raises `Gone` for one who was deleted, and whose spec somebody put back.
        """
        if not spec.living:
            return
        FileKeys(self.keys).create(events_key(spec.id))
        if spec.isolation.data == 0:  # else their names are the store's to make
            for inner in ("", REQUESTS, UPLOADS):
                path = self.tenants / spec.id / inner
                path.mkdir(exist_ok=True, mode=0o700)

    def _certify(self, signer: Signer) -> None:
        """Make the chain of our own unless there is one that fits the key."""
        try:
            provenance.check(self.chain.read_text("ascii"), signer, production=False)
        except (FileNotFoundError, SettingsError):
            pem, root = provenance.self_made(signer.private.public_key())
            known = self.roots.read_text("ascii") if self.roots.exists() else ""
            # The root first: a crash between the two leaves one too many.
            _write(self.roots, (known + root).encode())
            _write(self.chain, pem.encode())

    def issue(self, tenant: Tenant, *, subject: str = "developer") -> str:
        """Return a bearer token for everything `tenant` may do, good for 30 days."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "tenant": tenant.id,
            "scope": _SCOPES,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
        }
        return issue_token(FileKeys(self.keys).signer("tokens"), claims)

    def lock(self) -> int:
        """Return the descriptor that holds this home, or raise `HomeTaken`.

        The kernel lets go of it when the process ends, however it does.  No more
        is made than the lock needs: until it is held, the home is another's.
        """
        self.shut()
        self.run.mkdir(exist_ok=True, mode=0o700)
        deadline = time.monotonic() + _LOCK_SECONDS_MAX
        descriptor = self._open_lock()
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:  # longer than anybody looks in
                os.close(descriptor)
                raise HomeTaken(self._holder())
            time.sleep(_LOCK_PAUSE_SECONDS)
        return descriptor

    def _open_lock(self) -> int:
        return os.open(self.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)

    def announce(self, running: Running) -> None:
        """Write down where the stack answers."""
        _write(self.run / "stack.json", msgspec.json.encode(running))

    def running(self) -> Running | None:
        """Return the stack that serves this home, None when there is none."""
        try:
            descriptor = self._open_lock()
        except FileNotFoundError:  # nothing was ever run here
            return None
        try:
            free = _locked(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)
        return None if free else self._announced()

    def put_places(self, *, store: str, envelopes: str, tenant: str = "") -> None:
        """Write down where the stack keeps what commands on this home work on.

        The home's own places are told apart from others, so that it can be moved.
        """
        places = Places(
            "" if store == self.store_url else store,
            "" if envelopes == str(self.envelopes) else envelopes,
            tenant,
        )
        _write(self.places_file, msgspec.json.encode(places))

    def places(self) -> Places | None:
        """Return where its stack keeps things, None where none ever ran.

        Raises `SettingsError` where that cannot be read.
        """
        try:
            text = self.places_file.read_bytes()
            return msgspec.json.decode(text, type=Places)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise SettingsError(f"{self.places_file}: {error}") from error

    def _announced(self) -> Running | None:
        try:
            text = (self.run / "stack.json").read_bytes()
            return msgspec.json.decode(text, type=Running)
        except (OSError, msgspec.DecodeError):
            return None

    def _holder(self) -> str:
        running = self._announced()
        if running is None:
            return f"{self.root} is in use by a stack that is starting or ending"
        door = running.urls.get("door")
        return f"{self.root} is in use by process {running.pid}, which serves {door}"


def first_spec(tenant: Tenant) -> Spec:
    """Return the spec of a home's first tenant: no quotas, and its own content gate.

    Raises `InvalidSpec` for an id that is the operator's own.
    """
    return of_plain({"id": tenant.id, "policy": {"gate": "tenant"}}, tenant=tenant)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _version(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return what sorts versions: 1.10 after 1.9, and text after numbers."""
    parts = name.split(".")
    return tuple(
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in parts
    )


def _write(path: Path, data: bytes) -> None:
    """Replace a small private file; a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
