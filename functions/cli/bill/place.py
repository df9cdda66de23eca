"""Where the ledger lies that a command works on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path  # Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from functions.problems import NotFound, UnknownTenant

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Database = Annotated[
    str,
    typer.Option(
        help="The ledger's database; else GUISE_DATABASE, else the one in --home."
    ),
]


def moment_ms(text: str) -> int:
    """Return a time in milliseconds since the epoch; a mere day begins at 0:00 UTC.

    Raises `InvalidRequest`.
    """
    from functions import events

    return events.milliseconds(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)


@dataclass(frozen=True, slots=True)
class Place:
    """A ledger's database: named, of the environment, or of a home."""

    home: Path
    database: str = ""

    @property
    def named(self) -> str:
        """The database that was named, and is not the home's; "" if none was."""
        return self.database or os.environ.get("GUISE_DATABASE", "")

    def url(self) -> str:
        """Return the database's URL, or raise `NotFound` where the home has none."""
        from functions.local.home import Home as Folder

        if self.named:
            return self.named
        home = Folder(self.home.resolve())
        if not (home.root / "billing.db").is_file():
            raise NotFound(f"{self.home} holds no ledger")
        return home.database_url("billing")

    def called(self) -> Callable[[str], str]:
        """Return what says how a tenant is called: its spec, of GUISE_TENANTS or here.

        Those of a home are of its own ledger's tenants, and of no other's.
        """
        from functions.billing.customers import names_in

        return names_in(self._specs())

    def refuse_nobody(
        self, ledger: Ledger, tenant: str, cards: RateCards, keys: Path | None = None
    ) -> None:
        """Raise `NotFound` for whom neither ledger, contract, spec nor key knows.

        A mistyped id would else be billed nothing, and that looks like an answer.
        """
        from functions.billing.closing import has_account

        agreed = any(contract.tenant == tenant for contract in cards.contracts)
        if agreed or has_account(ledger, tenant) or self._is_known(tenant, keys):
            return
        raise NotFound(
            f"nobody is called {tenant} here: there is no usage in the ledger, no spec "
            "and no key of such a tenant; --tenant says whose"
        )

    def _is_known(self, tenant: str, keys: Path | None) -> bool:
        """Return whether there is a spec, or the key that signs a tenant's usage."""
        from functions.cli.bill.close import key_folder
        from functions.keys import events_key
        from functions.roster.folder import SUFFIX
        from functions.tenant import Tenant

        try:
            name = Tenant(tenant).id
        except UnknownTenant:
            return False
        specs = self._specs()
        if specs and (specs / f"{name}{SUFFIX}").exists():
            return True
        return bool(key_folder(self, keys).verifiers(events_key(name)))

    def _specs(self) -> Path | None:
        """Return the folder of specs: of GUISE_TENANTS, or the ledger's own home's."""
        from functions.local.home import Home as Folder

        if named := os.environ.get("GUISE_TENANTS", ""):
            return Path(named)
        home = Folder(self.home.resolve())
        ours = self.named in {"", home.database_url("billing")}
        return home.tenants if ours else None

    def ledger(self) -> Ledger:
        """Return the opened ledger; the caller closes it."""
        from functions.billing.ledger import Ledger

        return Ledger.open(self.url())
