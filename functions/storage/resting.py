"""How each tenant's data rest, by what the operator wrote down; wired here.

| store | rests |
|---|---|
| `file:` with a roster | enveloped where the spec says `isolation.data` 1 or 2 |
| `file:` without one | enveloped where `GUISE_ENVELOPES` is set |
| a bucket | as its default KMS key has it, which is looked at once, before use |

What cannot be is refused before the first byte: fail closed.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from functions.storage.base import StoreDenied, StoreShut
from functions.storage.protection import Bucket, Wanted
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.envelopes import Envelopes
    from functions.roster import FolderRoster
    from functions.settings import Settings
    from functions.storage.base import Store
    from functions.storage.encrypted import EncryptedStore
    from functions.tenant import Tenant

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resting:
    """Who says how data rest, and the keys for those that are enveloped."""

    roster: FolderRoster | None = None
    envelopes: Envelopes | None = None
    production: bool = False

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Return what a deployment says, None where it says nothing of it."""
        production = settings.profile == "production"
        if not (settings.tenants or settings.envelopes or production):
            return None
        roster, envelopes = None, None
        if settings.tenants:
            from functions.roster import FolderRoster

            roster = FolderRoster(settings.tenants)
        if settings.envelopes:
            from functions.envelopes import open_envelopes

            envelopes = open_envelopes(settings.envelopes, pinned=settings.tenant)
        return cls(roster, envelopes, production)

    def wanted(self, tenant: Tenant) -> Wanted:
        """Return how the tenant's data are to rest, whatever became of the tenant.

        Raises `UnknownTenant` for one that the roster has never heard of.
        """
        if self.roster is None:
            return Wanted(production=self.production)
        spec = self.roster.read(tenant)
        return Wanted(spec.isolation.data, spec.key, self.production)

    def encrypts(self, tenant: Tenant, wanted: Wanted) -> bool:
        """Return whether a folder is to be enveloped, or raise `StoreDenied`."""
        if wanted.level is None:
            return self.envelopes is not None
        if wanted.level and self.envelopes is None:
            raise StoreDenied(
                internal=f"isolation.data of {tenant.id} is {wanted.level}, "
                "and GUISE_ENVELOPES names no keys"
            )
        return wanted.level > 0

    def encrypted(self, tenant: Tenant, folder: Path) -> EncryptedStore:
        """Return the tenant's enveloped store.

        Raises `StoreShut` where objects lie in the folder as they are: they would
        be found no more, and would not be encrypted either.
        """
        from functions.storage.encrypted import EncryptedStore

        if self.envelopes is None:
            raise ValueError("there are no envelopes")
        if bare := next(bare_keys(folder), None):
            # The cure first: of what a tenant calls its files a log keeps nothing.
            raise StoreShut(
                "this tenant's data is shut until the operator has encrypted all of it",
                internal=f"`guise tenant envelop {tenant.id}` encrypts what lies as it "
                f"is in {folder}: {bare}",
            )
        return EncryptedStore(folder, tenant, self.envelopes)

    def refuse_enveloped(self, tenant: Tenant, folder: Path) -> None:
        """Raise `StoreDenied` where encrypted objects lie in a folder of plain ones.

        Nobody would find them, and what is written next would lie as it is.
        """
        from functions.storage.opaque import files_in

        if next(files_in(folder), None):
            raise StoreDenied(
                internal=f"{folder} holds encrypted objects, and isolation.data of "
                f"{tenant.id} is 0: its spec is to say 1, as it did"
            )

    def vet(self, store: Store, tenant: Tenant, wanted: Wanted) -> None:
        """Raise `StoreDenied` where a bucket keeps data otherwise than is wanted."""
        if not (isinstance(store, Bucket) and wanted.asks):
            return
        reasons = list(wanted.refusals(store.protection()))
        if reasons:
            raise StoreDenied(
                internal=f"the bucket of {tenant.id} may not hold its data: "
                + "; ".join(reasons)
            )


def bare_keys(folder: Path) -> Iterator[Key]:
    """Yield the key of each object that lies in `folder` as it is.

    In a plain folder every name is plain, also one that looks like ours.
    """
    from functions.storage.opaque import is_opaque

    def is_ours(name: str, inner: Path) -> bool:
        return name.startswith(".") or (not inner.parts and is_opaque(name))

    for place, folders, files in os.walk(folder):
        inner = Path(place).relative_to(folder)
        bare = [name for name in files if not is_ours(name, inner)]
        yield from (Key(str(inner / name)) for name in bare)
        folders[:] = [name for name in folders if not is_ours(name, inner)]
