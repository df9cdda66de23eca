"""The audit log of a home in which no stack runs: written to as its function would."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from functions.audit.log import Log
from functions.audit.recording import record
from functions.events import TENANT_CHANGED
from functions.problems import NoReceipt
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.audit.store import Store
    from functions.events import Event
    from functions.keys import FileKeys
    from functions.local.home import Home
    from functions.roster.spec import State
    from functions.sink import Receipt

ENDINGS: Final[tuple[State, ...]] = ("shredded", "deleted")
"""What a change is called after which a tenant is no more; so is its state."""


class LogAuditor:
    """Gives receipts out of a log that is open here."""

    def __init__(self, log: Log, keys: FileKeys) -> None:
        self._log = log
        self._keys = keys

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        """Return the receipt of `event`, or raise what the function would answer."""
        del timeout  # the log has its own
        appended = record(event, Tenant(event.tenant), self._log, self._keys)
        if appended is None or appended.conflict:
            raise NoReceipt(internal=f"{event.id} of {event.tenant} is not recorded")
        return appended.receipt

    def wake(self) -> None:
        """Do nothing: it is awake."""


def has_entries(home: Home, tenant: Tenant) -> bool:
    """Return whether the home's log has anything of a tenant."""
    from functions.audit.store import Selection, Store, select_entries

    if not (home.root / "audit.db").is_file():
        return False
    url = home.database_url("audit")
    with closing(Store.open(url)) as store, store.reading(tenant.id) as db:
        return bool(select_entries(db, Selection(tenant.id), 1))


def end_on_record(store: Store, tenant: Tenant) -> State | None:
    """Return how a tenant ended, where a change in a log says so; `shredded` if both.

    Any counts, and not the last alone: who was put back may have been changed since.
    What is pruned says nothing any more.
    """
    import sqlalchemy as sa
    from msgspec import json

    from functions.audit.tables import entries

    changes = (
        sa.select(entries.c.leaf)
        .where(entries.c.tenant == tenant.id, entries.c.job == "")  # has an index
        .where(entries.c.type == TENANT_CHANGED, entries.c.leaf.is_not(None))
    )
    with store.reading(tenant.id) as db:
        leaves = db.execute(changes).scalars().all()
    found = {json.decode(leaf)["data"]["change"] for leaf in leaves}
    return next((state for state in ENDINGS if state in found), None)


@contextmanager
def open_log(home: Home, keys: FileKeys) -> Iterator[LogAuditor]:
    """Yield the log in the home's database, made where there is none."""
    keys.create("audit")
    with closing(Log.at(home.database_url("audit"), keys)) as log:
        yield LogAuditor(log, keys)
