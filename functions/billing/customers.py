"""What a tenant is called, where the rate cards do not say whom its invoices are to.

The name in a tenant's spec is the operator's own word, as the rate cards are; an
address and a tax id stand in these alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.problems import UnknownTenant
from functions.roster import FolderRoster
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def names_in(folder: Path | None) -> Callable[[str], str]:
    """Return what gives the name in a tenant's spec, else its id.

    Whoever was deleted is still called by it.  What is returned raises `Unavailable`
    for a spec that cannot be read: an invoice is for ever, and can wait for that.
    """
    if folder is None:
        return str
    roster = FolderRoster(folder)

    def called(tenant: str) -> str:
        try:
            return roster.read(Tenant(tenant)).name or tenant
        except UnknownTenant:
            return tenant

    return called
