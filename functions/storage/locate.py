"""From a URL to a store, and from what an event names to a tenant's own key.

```
file:///srv/{tenant}                                  a folder each
s3://guise-{tenant}?endpoint=http://minio:9000        a bucket each
s3://shared/eu/{tenant}?region=eu-central-1           a prefix each, of one bucket
gs://guise-{tenant}                                   a bucket of Google's each
memory:                                               for tests and a laptop
```
Credentials are never in the URL; each service's own tools say where they are.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from functions.problems import UnknownTenant
from functions.settings import SettingsError
from functions.storage.memory import MemoryStore
from functions.storage.protection import Wanted
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from functions.settings import Settings
    from functions.storage.base import Store
    from functions.storage.resting import Resting

PLACE: Final = "{tenant}"
_AS_IT_IS: Final = Wanted()


@dataclass(frozen=True, slots=True)
class Location:
    """A store's URL taken apart: `bucket` is the host, `options` are the query."""

    scheme: str
    bucket: str
    path: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the parts of a URL, or raise `SettingsError`."""
        try:
            parts = urlsplit(url)
            path = unquote(parts.path, errors="strict")
            options = dict(parse_qsl(parts.query, strict_parsing=True))
        except ValueError as error:
            raise SettingsError(f"GUISE_STORE: {url!r} is no URL") from error
        if "@" in parts.netloc:
            raise SettingsError("GUISE_STORE: credentials have no place in a URL")
        if "\0" in path:
            raise SettingsError(f"GUISE_STORE: {url!r} is no URL")
        return cls(parts.scheme, parts.netloc, path, options)

    @property
    def container(self) -> str:
        """What an event calls the bucket: for a file store, the last folder."""
        return self.bucket or self.path.rstrip("/").rpartition("/")[2]

    @property
    def prefix(self) -> str:
        """What every object's name in the bucket begins with, a slash at its end."""
        inner = self.path.strip("/")
        return f"{inner}/" if self.bucket and inner else ""

    def chosen(self, *names: str) -> dict[str, str]:
        """Return the options, of which these are known, or raise `SettingsError`."""
        if strangers := sorted(self.options.keys() - set(names)):
            raise SettingsError(
                f"GUISE_STORE: {self.scheme} has no {', '.join(strangers)}"
            )
        endpoint = self.options.get("endpoint", "https://")
        if not endpoint.startswith(("http://", "https://")):
            raise SettingsError(f"GUISE_STORE: {endpoint!r} is no http(s) URL")
        return dict(self.options)


def is_template(url: str) -> bool:
    """Return whether there is a place in a store's URL for the tenant to go."""
    return PLACE in url.partition("?")[0]


def folder_of(url: str) -> Path | None:
    """Return the folder that a store's URL names; None for one of another kind."""
    where = Location.parse(url)
    if where.scheme == "file" and where.path.startswith("/") and not where.bucket:
        return Path(where.path)
    return None


def open_store(url: str) -> Store:
    """Return the store at `url`, or raise `SettingsError`."""
    where = Location.parse(url)
    folder = folder_of(url)
    if folder is not None:
        from functions.storage.file import FileStore

        return FileStore(folder)
    if where.scheme == "memory":
        return MemoryStore()
    if where.scheme == "s3" and where.bucket:
        return _s3(where)
    if where.scheme == "gs" and where.bucket:
        return _gcs(where)
    raise SettingsError(f"GUISE_STORE: no store is known for {url!r}")


def _gcs(where: Location) -> Store:
    endpoint = where.chosen("endpoint").get("endpoint", "")
    try:
        from functions.storage.gcs import GcsStore
    except ModuleNotFoundError as error:
        raise SettingsError("GUISE_STORE: install guise[gcs] for gs://") from error
    return GcsStore(where.bucket, prefix=where.prefix, endpoint=endpoint)


def _s3(where: Location) -> Store:
    chosen = where.chosen("endpoint", "region")
    endpoint, region = chosen.get("endpoint", ""), chosen.get("region", "")
    try:
        from functions.storage.s3 import S3Store
    except ModuleNotFoundError as error:
        raise SettingsError("GUISE_STORE: install guise[s3] for s3://") from error
    return S3Store(where.bucket, prefix=where.prefix, endpoint=endpoint, region=region)


class Stores:
    """Each tenant's own store, opened once.

    `url` with `{tenant}` in its bucket or path serves every tenant that has a
    store there; one without serves the pinned tenant alone.  `resting` says how
    each tenant's data are to rest there; without it, as they are.
    """

    def __init__(
        self,
        url: str,
        *,
        pinned: Tenant | None = None,
        opener: Callable[[str], Store] = open_store,
        resting: Resting | None = None,
    ) -> None:
        if not is_template(url) and pinned is None:
            raise SettingsError(
                f"GUISE_STORE: {url!r} is one tenant's: set GUISE_TENANT, "
                f"or write {PLACE} where the tenant goes",
            )
        self.url = url
        self.pinned = pinned
        self._opener = opener
        self._resting = resting
        self._open: dict[tuple[Tenant, Wanted], Store] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> Stores:
        """Return the stores a deployment names."""
        from functions.storage.resting import Resting

        resting = Resting.from_settings(settings)
        return cls(settings.store, pinned=settings.tenant, resting=resting)

    def of(self, tenant: Tenant) -> Store:
        """Return the tenant's store.

        Raises `UnknownTenant` if pinned elsewhere or never heard of, and `StoreDenied`
        where the tenant's data may not rest as they would.
        """
        if self.pinned is not None and tenant != self.pinned:
            raise UnknownTenant(internal=f"pinned to {self.pinned.id}: {tenant.id}")
        wanted = self._resting.wanted(tenant) if self._resting else _AS_IT_IS
        with self._lock:  # two stores in memory would be two truths
            if (tenant, wanted) not in self._open:
                self._open[tenant, wanted] = self._opened(tenant, wanted)
            return self._open[tenant, wanted]

    def _opened(self, tenant: Tenant, wanted: Wanted) -> Store:
        url = self.url.replace(PLACE, tenant.id)
        folder = folder_of(url)
        if self._resting is not None and folder is not None:
            if self._resting.encrypts(tenant, wanted):
                return self._resting.encrypted(tenant, folder)
            self._resting.refuse_enveloped(tenant, folder)
        elif self._resting is not None:
            shared = PLACE not in Location.parse(self.url).bucket and not self.pinned
            store = self._opener(url)
            self._resting.vet(store, tenant, replace(wanted, shared=shared))
            return store
        return self._opener(url)

    def place(self, tenant: Tenant) -> tuple[str, str]:
        """Return the tenant's bucket, and what their objects' names begin with."""
        here = Location.parse(self.url.replace(PLACE, tenant.id))
        return here.container, here.prefix

    def locate(self, bucket: str, name: str) -> tuple[Tenant, str]:
        """Return whose object an event speaks of, and its name in their store.

        Raises `UnknownTenant` for any that lies in no tenant's store here.
        """
        tenant = self.pinned or _named(Location.parse(self.url), bucket, name)
        container, prefix = self.place(tenant)
        if container != bucket or not name.startswith(prefix):
            raise UnknownTenant(internal=f"nobody here owns {name!r} in {bucket!r}")
        return tenant, name[len(prefix) :]


def _named(template: Location, bucket: str, name: str) -> Tenant:
    """Return the tenant that would stand where the template has its place.

    Whether the rest fits is for the caller to see.
    """
    pairs = [(template.container, bucket)]
    if template.bucket:
        pairs += zip(template.prefix.split("/"), name.split("/"), strict=False)
    for pattern, text in pairs:
        before, place, after = pattern.partition(PLACE)
        if place:
            inner = text.removeprefix(before)
            return Tenant(inner[: len(inner) - len(after)])
    raise UnknownTenant(internal=f"{name!r} in {bucket!r} names nobody")
