"""The roster: who the tenants are, from a folder of specs or from nobody.

A folder (`GUISE_TENANTS`) holds `<id>.yaml` for each tenant.  A file is looked at
whenever it is asked for and read again when it has changed, so that a spec takes
effect without a restart: at once on one machine, and in a cluster once the kubelet has
brought the ConfigMap up to date.  A file that cannot be read or parsed shuts out that
tenant and nobody else, until it is mended.

Beside the spec of somebody who ended lies a tombstone, `<id>.ended`, whose first word
is `deleted` or `shredded`: a spec that is put back as it was brings nobody back.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from functions.keys import FileKeys, events_key, is_there
from functions.problems import NotServedHere, Unavailable, UnknownTenant
from functions.roster.reading import BYTES_MAX, InvalidSpec, parse
from functions.roster.spec import RESERVED, Policy, Spec
from functions.settings import SettingsError
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from functions.roster.spec import State
    from functions.settings import Settings

SUFFIX: Final = ".yaml"
TOMBSTONE: Final = ".ended"
KEPT_MAX: Final = 16_384
"""How many specs one process keeps in memory."""
log = logging.getLogger(__name__)


class Roster(Protocol):
    """Knows the tenants."""

    def spec(self, tenant: Tenant) -> Spec:
        """Return the spec of a tenant that is active or suspended.

        Raises `UnknownTenant` for every other, `Unavailable` where it cannot be
        told, and `NotServedHere` for who is promised another function than this.
        """

    def all(self) -> Sequence[Spec]:
        """Return every tenant that is known, active or suspended, in order."""


@dataclass(frozen=True, slots=True)
class _Kept:
    stamp: tuple[int, ...]
    found: Spec | InvalidSpec


class FolderRoster:
    """The tenants whose specs lie in a folder.

    With a `region` none of another is served here.  For a `pooled` function, nobody
    is served who has a door and a worker of its own.  Nobody is who has a tombstone, or
    whose signing key in `keys` was destroyed: they were deleted, whatever a spec says
    that was put back.  At most `kept_max` specs are kept in memory.
    """

    def __init__(
        self,
        folder: Path,
        *,
        region: str = "",
        pooled: bool = False,
        keys: Path | None = None,
        kept_max: int = KEPT_MAX,
    ) -> None:
        self.folder = folder
        self._keys = None if keys is None else FileKeys(keys)
        self._region = region
        self._pooled = pooled
        self._kept_max = kept_max
        self._kept: dict[str, _Kept] = {}
        self._ended: set[str] = set()
        self._lock = threading.Lock()

    def spec(self, tenant: Tenant) -> Spec:
        """Return the tenant's spec; see `Roster`."""
        spec = self.read(tenant)
        if self.has_ended(spec):
            raise UnknownTenant(internal=f"{tenant.id} has ended: {spec.state}")
        if self._region and spec.region not in {"", self._region}:
            raise UnknownTenant(internal=f"{tenant.id} is of {spec.region}")
        if self._pooled and spec.isolation.compute > 0:
            raise NotServedHere(
                "this tenant has a door and a worker of its own",
                internal=f"isolation.compute of {tenant.id} is "
                f"{spec.isolation.compute}, and this function is everybody's: "
                f"`guise tenant render {tenant.id}`",
            )
        return spec

    def has_ended(self, spec: Spec) -> bool:
        """Return whether it is the spec of somebody who is no more.

        Also one that was put back as it had been: no spec brings anybody back.  Raises
        `Unavailable` where that cannot be told.
        """
        if not spec.living:
            return True
        if self.fate(spec.tenant) is None:
            return False
        if spec.id not in self._ended:
            self._ended.add(spec.id)
            log.warning(
                "%s is shut out: its spec says %s, and it was deleted or shredded",
                spec.id,
                spec.state,
            )
        return True

    def fate(self, tenant: Tenant) -> State | None:
        """Return what became of somebody who ended, whatever a spec says; else None.

        Any of two marks is enough: the tombstone, and that of a destroyed key.  Raises
        `Unavailable` where it cannot be told whether there is one.
        """
        tombstone = self.folder / f"{tenant.id}{TOMBSTONE}"
        if is_there(tombstone):
            return _said_by(tombstone)
        destroyed = self._keys and self._keys.is_destroyed(events_key(tenant.id))
        return "deleted" if destroyed else None

    def all(self) -> tuple[Spec, ...]:
        """Return every tenant that is known; one that is not is in the log."""
        return tuple(self._all())

    def _all(self) -> Iterator[Spec]:
        for tenant in self.names():
            try:
                yield self.spec(tenant)
            except (UnknownTenant, Unavailable):
                continue

    def names(self) -> list[Tenant]:
        """Return everybody who has a file, whatever is in it, in order."""
        try:
            files = [each.name for each in self.folder.iterdir() if _names(each.name)]
        except OSError as error:
            raise Unavailable(internal=f"{self.folder}: {error!r}") from error
        return [Tenant(name.removesuffix(SUFFIX)) for name in sorted(files)]

    def read(self, tenant: Tenant) -> Spec:
        """Return what the tenant's file says, whatever became of the tenant.

        Raises `UnknownTenant` where there is no file, `Unavailable` for a broken one.
        """
        path = self.folder / f"{tenant.id}{SUFFIX}"
        try:
            status = path.stat()
            stamp = (
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
            kept = self._kept.get(tenant.id)
            if kept is None or kept.stamp != stamp:
                kept = self._read(path, tenant, stamp)
        except FileNotFoundError as error:
            raise UnknownTenant(internal=f"{tenant.id}: {path} is not there") from error
        except OSError as error:
            raise Unavailable(internal=f"{path}: {error!r}") from error
        if isinstance(kept.found, InvalidSpec):
            raise Unavailable(internal=f"{path}: {kept.found.detail}") from kept.found
        return kept.found

    def _read(self, path: Path, tenant: Tenant, stamp: tuple[int, ...]) -> _Kept:
        text = _text_of(path)
        try:
            kept = _Kept(stamp, parse(text, tenant=tenant))
        except InvalidSpec as error:
            log.warning("%s is shut out: %s: %s", tenant.id, path, error.detail)
            kept = _Kept(stamp, error)
        with self._lock:
            if len(self._kept) >= self._kept_max:
                self._kept.clear()
            self._kept[tenant.id] = kept
        return kept


def _text_of(path: Path) -> bytes:
    """Return what a file holds, but for what is over the limit."""
    # A pipe would be waited for, but not like this.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        return file.read(BYTES_MAX + 1) or b""


def _said_by(tombstone: Path) -> State:
    """Return the state that a tombstone gives; where it says nothing, the lesser."""
    try:
        text = _text_of(tombstone)
    except OSError:
        text = b""
    return "shredded" if text.startswith(b"shredded") else "deleted"


def _names(name: str) -> bool:
    try:
        Tenant(name.removesuffix(SUFFIX))
    except UnknownTenant:
        return False
    return name.endswith(SUFFIX)


class EveryTenant:
    """Whoever has a token, on the defaults; for a function pinned to one, that one."""

    def __init__(self, pinned: Tenant | None = None) -> None:
        self._pinned = pinned

    def spec(self, tenant: Tenant) -> Spec:
        """Return the defaults; the tenant's own gate policy is all there is."""
        if self._pinned is not None and tenant != self._pinned:
            raise UnknownTenant(internal=f"pinned to {self._pinned.id}: {tenant.id}")
        if tenant.id in RESERVED:
            raise UnknownTenant(internal=f"{tenant.id!r} is no tenant")
        return Spec(id=tenant.id, policy=Policy(gate="tenant"))

    def all(self) -> tuple[Spec, ...]:
        """Return the one it is pinned to; of others it has not heard."""
        return () if self._pinned is None else (self.spec(self._pinned),)


def roster_of(settings: Settings) -> Roster:
    """Return the roster that a deployment names; where it names none, everybody.

    A function without `GUISE_TENANT` is pooled: it serves nobody at compute 1 or 2.
    Raises `SettingsError` for a pooled function of the production profile without
    one: whoever had a token would be a tenant, and without a quota.
    """
    if settings.tenants is not None:
        pooled = settings.tenant is None
        return FolderRoster(
            settings.tenants,
            region=settings.region,
            pooled=pooled,
            keys=settings.keys,
        )
    if settings.tenant is None:
        if settings.profile == "production":
            raise SettingsError(
                "GUISE_TENANTS: not set: a function that serves every tenant "
                "needs to know who they are"
            )
        log.warning("GUISE_TENANTS is not set: whoever has a token is a tenant")
    return EveryTenant(settings.tenant)
