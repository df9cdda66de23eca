"""What `guise up` does to the tenants of a home before a stack runs in it.

The stack itself knows no database.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from functions.audit.store import Store
from functions.cli.tenant.ending import bury
from functions.cli.tenant.log import end_on_record, open_log
from functions.cli.tenant.making import in_state, make_keys
from functions.cli.tenant.place import Place
from functions.cli.terminal import err
from functions.keys import put_durably
from functions.local.home import Home, first_spec
from functions.problems import Unavailable, UnknownTenant
from functions.roster import RECEIPT_SECONDS_MAX, changed, put_on_record, write

if TYPE_CHECKING:
    from pathlib import Path

    from functions.roster.spec import State
    from functions.tenant import Tenant


def before_up(home: Path, tenant: Tenant) -> None:
    """Have a home's tenants be as its log says, and `tenant` be one of them.

    Nothing is done in a home that is served already.
    """
    folder = Home(home.resolve())
    if folder.running() is not None:
        return
    place = Place(home, folder.tenants, folder.keys)  # whatever the shell says
    if (folder.root / "audit.db").is_file():
        bury_who_ended(place)
    found(place, tenant)


def bury_who_ended(place: Place) -> None:
    """Shut out whoever ended by the home's log, and whose spec and keys say otherwise.

    So it is where both were restored as they had been before.
    """
    roster = place.roster()
    with closing(Store.open(place.folder.database_url("audit"))) as store:
        for tenant in roster.names() if place.specs.is_dir() else ():
            try:
                living = not roster.has_ended(roster.read(tenant))
            except (UnknownTenant, Unavailable):  # a broken one is served by nobody
                continue
            state = end_on_record(store, tenant) if living else None
            if state is not None:
                _bury(place, tenant, state)


def _bury(place: Place, tenant: Tenant, state: State) -> None:
    with place.changing(tenant):
        bury(place, in_state(place.roster().read(tenant), state))
    err().print(
        f"{tenant.id} was {state}, by its log: its spec was put back; "
        f"`guise tenant delete {tenant.id} --yes` takes what else was",
        markup=False,
    )


def found(place: Place, tenant: Tenant) -> None:
    """Make the first tenant of a home unless it is there, on record as every other.

    Who sits at the machine is its operator: whose spec alone is lost gets it anew.
    """
    spec = first_spec(tenant)
    with place.changing(tenant):
        if place.path(tenant).exists() or place.roster().fate(tenant):
            return
        put_durably(place.making(tenant), b"", mode=0o600)
        make_keys(place, tenant)
        keys = place.key_provider()
        with open_log(place.folder, keys) as log:
            put_on_record(
                changed("created", spec, actor=place.actor),
                keys=keys,
                auditor=log,
                timeout=RECEIPT_SECONDS_MAX,
            )
        place.put(tenant, write(spec))
