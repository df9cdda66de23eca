"""Where the tenants are whom a command works on: specs, keys, stores and log."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path  # Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Final

import typer

from functions.cli.tenant.locks import held
from functions.keys import put_durably, sync_folder
from functions.problems import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from functions.events import Event
    from functions.keys import FileKeys
    from functions.local.home import Home as Folder
    from functions.local.home import Places
    from functions.roster import Change, FolderRoster, Spec
    from functions.sink import Auditor, Receipt
    from functions.storage import Stores
    from functions.tenant import Tenant

_CLEARED: Final = "what no key opened was deleted"

Id = Annotated[str, typer.Argument(help="The tenant's id.")]
Tenants = Annotated[
    Path | None,
    typer.Option(help="The folder of specs; else GUISE_TENANTS, else the home's."),
]
Store = Annotated[
    str,
    typer.Option(help="The tenants' stores; else GUISE_STORE, else the home's."),
]
Audit = Annotated[
    str,
    typer.Option(help="The audit function; else GUISE_AUDIT_URL, else the home's log."),
]
Actor = Annotated[
    str, typer.Option(help="Who does it, for the log: a login or a role.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """An installation: named, of the environment, or of a home."""

    home: Path
    tenants: Path | None = None
    keys: Path | None = None
    store: str = ""
    audit: str = ""
    actor: str = "operator"
    json: bool = False

    @property
    def folder(self) -> Folder:
        """The home, as the local stack knows it."""
        from functions.local.home import Home as Folder

        return Folder(self.home.resolve())

    @property
    def specs(self) -> Path:
        """The folder of specs."""
        named = self.tenants or os.environ.get("GUISE_TENANTS", "")
        return Path(named) if named else self.folder.tenants

    @property
    def key_folder(self) -> Path:
        """The folder of keys."""
        named = self.keys or os.environ.get("GUISE_KEYS", "")
        return Path(named) if named else self.folder.keys

    @property
    def is_local(self) -> bool:
        """Whether it is this machine's own: its keys are the home's."""
        return self.key_folder == self.folder.keys

    @property
    def places(self) -> Places | None:
        """Where the stack of this home keeps store and keys; None if none ever ran.

        None too for an installation that is not this home's.  Raises `Conflict` for
        one that is half of it.
        """
        home = self.folder
        known = home.places()
        if known is None:
            return None
        same = [
            self.specs.resolve() == home.tenants.resolve(),
            self.key_folder.resolve() == home.keys.resolve(),
        ]
        if any(same) and not all(same):
            raise Conflict(
                f"specs in {self.specs} and keys in {self.key_folder}: one of them is "
                f"the home's, {home.root}, and the other is not"
            )
        return known if all(same) else None

    @property
    def envelopes(self) -> str:
        """Where the keys lie under which tenants' objects rest."""
        here = str(self.folder.envelopes) if self.is_local else ""
        known = self.places
        used = None if known is None else known.envelopes or here
        return self.chosen(_named_envelopes(), used, here)

    def key_provider(self) -> FileKeys:
        """Return the keys that sign tenants' events."""
        from functions.keys import FileKeys

        return FileKeys(self.key_folder)

    def roster(self) -> FolderRoster:
        """Return the tenants, as functions would see them."""
        from functions.roster import FolderRoster

        return FolderRoster(self.specs, keys=self.key_folder)

    def store_url(self) -> str:
        """Return the URL of the tenants' stores."""
        named = self.store or os.environ.get("GUISE_STORE", "")
        here, known = self.folder.store_url, self.places
        used = None if known is None else known.store or here
        return self.chosen(named, used, here)

    def store_of(self, tenant: Tenant) -> str:
        """Return the URL of the tenant's own store.

        Raises `Conflict` where the stack of this home is pinned to another.
        """
        from functions.storage.locate import PLACE

        known = self.places
        if known and known.tenant not in {"", tenant.id}:
            raise Conflict(f"the stack of {self.home} serves {known.tenant} alone")
        return self.store_url().replace(PLACE, tenant.id)

    def chosen(self, said: str, known: str | None, here: str) -> str:
        """Return a place that is said, or that the stack uses, or the home's own.

        Raises `Conflict` for another than the stack uses: what is done there would
        be done to nobody.
        """
        if known is None:
            return said or here
        if said and said.rstrip("/") != known.rstrip("/"):
            raise Conflict(
                f"{said} is not what the stack of {self.home} uses: {known}; "
                f"start it so first, or remove {self.folder.places_file}"
            )
        return known

    def stores(self, tenant: Tenant) -> Stores:
        """Return the stores of which `tenant` has one, encrypted where it is said.

        Of who has no spec nothing is said, but by GUISE_ENVELOPES.
        """
        from functions.settings import Settings
        from functions.storage import Stores
        from functions.storage.locate import is_template

        url, known = self.store_url(), self.path(tenant).is_file()
        self.store_of(tenant)  # or it is another's
        settings = Settings(
            profile="development",
            tenant=None if is_template(url) else tenant,
            tenants=self.specs if known else None,
            store=url,
            keys=self.key_folder,
            envelopes=self.envelopes if known else _named_envelopes(),
        )
        return Stores.from_settings(settings)

    @contextmanager
    def auditor(self) -> Iterator[Auditor]:
        """Yield who gives receipts: a function at a URL, or the home's log itself.

        Raises `NotFound` where the keys are not the home's: the log is another's.
        """
        from functions.sink import HttpAuditor

        running = self.folder.running() if self.is_local else None
        here = running.urls["audit"] if running else ""
        url = self.audit or os.environ.get("GUISE_AUDIT_URL", "")
        url = self.chosen(url, None if self.places is None else here, here)
        if url:
            token = os.environ.get("GUISE_AUDIT_TOKEN_FILE", "")
            yield HttpAuditor(url.rstrip("/"), token=Path(token) if token else None)
            return
        if not self.is_local:
            raise NotFound("say --audit: the log of these tenants is not in --home")
        from functions.cli.tenant.log import open_log

        with open_log(self.folder, self.key_provider()) as auditor:
            yield auditor

    def tell(self, change: Change, spec: Spec, before: Spec | None = None) -> Receipt:
        """Put a change on record, or raise `NoReceipt`: then it is not to be done."""
        from functions.roster import RECEIPT_SECONDS_MAX, changed, put_on_record

        event: Event = changed(change, spec, actor=self.actor, before=before)
        with self.auditor() as auditor:
            return put_on_record(
                event,
                keys=self.key_provider(),
                auditor=auditor,
                timeout=RECEIPT_SECONDS_MAX,
            )

    def changing(self, tenant: Tenant) -> AbstractContextManager[None]:
        """Hold a tenant's spec: two commands that change it at once take turns."""
        self._make_specs()
        return held(self.specs, tenant, "spec")

    def working(
        self, tenant: Tenant, *, wait: bool = True
    ) -> AbstractContextManager[None]:
        """Hold a tenant's objects and keys; taken before its spec, see `locks`.

        Raises `Conflict` where another has them and this is not to `wait`.
        """
        self._make_specs()
        return held(self.specs, tenant, "work", wait=wait)

    def _make_specs(self) -> None:
        if self.specs == self.folder.tenants:
            self.folder.shut()
        self.specs.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, tenant: Tenant) -> Path:
        """Return where a tenant's spec lies."""
        from functions.roster.folder import SUFFIX

        return self.specs / f"{tenant.id}{SUFFIX}"

    def entomb(self, spec: Spec) -> None:
        """Leave a mark, durably, that a tenant has ended as its spec says."""
        from functions.events import now

        text = f"{spec.state} by {now()}; leave this file beside the spec for ever\n"
        path = self._tombstone(spec.tenant)
        if self.roster().fate(spec.tenant) != spec.state or not path.exists():
            put_durably(path, text.encode(), mode=0o600)

    def mark_cleared(self, tenant: Tenant) -> None:
        """Have a shredded tenant's tombstone say that what was left is deleted."""
        from functions.events import now

        path = self._tombstone(tenant)
        text = path.read_text() + f"{_CLEARED} by {now()}\n"
        put_durably(path, text.encode(), mode=0o600)

    def is_cleared(self, tenant: Tenant) -> bool:
        """Return whether what was left of a shredded tenant is said to be deleted."""
        try:
            return _CLEARED in self._tombstone(tenant).read_text()
        except FileNotFoundError:
            return False

    def _tombstone(self, tenant: Tenant) -> Path:
        from functions.roster.folder import TOMBSTONE

        return self.specs / f"{tenant.id}{TOMBSTONE}"

    def making(self, tenant: Tenant) -> Path:
        """Return what is there from when a tenant is begun until there is a spec."""
        return self.specs / f".{tenant.id}.making"

    def put(self, tenant: Tenant, text: bytes) -> Path:
        """Put a spec in its place durably: all of it or, after a crash, none.

        Of a tenant in the making the mark becomes the spec, so that none is left.
        """
        path = self.path(tenant)
        making = self.making(tenant)
        if not making.exists():
            put_durably(path, text, mode=0o600)
            return path
        put_durably(making, text, mode=0o600)
        making.replace(path)
        sync_folder(path.parent)
        return path


def _named_envelopes() -> str:
    return os.environ.get("GUISE_ENVELOPES", "")
