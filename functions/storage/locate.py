"""From a URL to a store, and from a bucket to the tenant it belongs to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from functions.problems import UnknownTenant
from functions.settings import SettingsError
from functions.storage.memory import MemoryStore
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.settings import Settings
    from functions.storage.base import Store

PLACE: Final = "{tenant}"


def open_store(url: str) -> Store:
    """Return the store at `url`, or raise `SettingsError`."""
    scheme, bucket, path = _parts(url)
    if scheme == "file" and path.startswith("/") and not bucket:
        from functions.storage.file import FileStore

        return FileStore(Path(path))
    if scheme == "memory":
        return MemoryStore()
    raise SettingsError(f"GUISE_STORE: no store is known for {url!r}")


class Stores:
    """Each tenant's own store, opened once.

    `url` with `{tenant}` in it serves every tenant that has a store there; one
    without serves the pinned tenant alone.
    """

    def __init__(
        self,
        url: str,
        *,
        pinned: Tenant | None = None,
        opener: Callable[[str], Store] = open_store,
    ) -> None:
        if PLACE not in url and pinned is None:
            raise SettingsError(
                f"GUISE_STORE: {url!r} is one tenant's: set GUISE_TENANT, "
                f"or write {PLACE} where the tenant goes",
            )
        self._url = url
        self._pinned = pinned
        self._opener = opener
        self._open: dict[Tenant, Store] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> Stores:
        """Return the stores a deployment names."""
        return cls(settings.store, pinned=settings.tenant)

    def of(self, tenant: Tenant) -> Store:
        """Return the tenant's store, or raise `UnknownTenant` if pinned elsewhere."""
        if self._pinned is not None and tenant != self._pinned:
            raise UnknownTenant(internal=f"pinned to {self._pinned.id}: {tenant.id}")
        with self._lock:  # two stores in memory would be two truths
            if tenant not in self._open:
                self._open[tenant] = self._opener(self._url.replace(PLACE, tenant.id))
            return self._open[tenant]

    def owner(self, bucket: str) -> Tenant:
        """Return whose `bucket` an event speaks of, or raise `UnknownTenant`.

        The bucket is the last part of a file store's path, the host of the
        others' URL.
        """
        if self._pinned is not None:
            tenant = self._pinned
        else:
            before, _, after = _bucket(self._url).partition(PLACE)
            inner = bucket.removeprefix(before)
            tenant = Tenant(inner[: len(inner) - len(after)])
        if _bucket(self._url.replace(PLACE, tenant.id)) != bucket:
            raise UnknownTenant(internal=f"no tenant owns bucket {bucket!r}")
        return tenant


def _bucket(url: str) -> str:
    _, bucket, path = _parts(url)
    return bucket or path.rstrip("/").rpartition("/")[2]


def _parts(url: str) -> tuple[str, str, str]:
    """Return scheme, bucket and path, or raise `SettingsError`."""
    try:
        parts = urlsplit(url)
        path = unquote(parts.path, errors="strict")
    except ValueError as error:
        raise SettingsError(f"GUISE_STORE: {url!r} is no URL") from error
    if "\0" in path:
        raise SettingsError(f"GUISE_STORE: {url!r} is no URL")
    return parts.scheme, parts.netloc, path
