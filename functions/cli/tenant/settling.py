"""What of a spec takes effect elsewhere: the budget, and how long the log is kept.

The ledger and the log are databases of their own.  On one machine they are the home's,
and settled at once; of a cluster's it is said what is left to do.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from functions.problems import Conflict, InvalidRequest, NotFound
from functions.storage.base import StoreDenied
from functions.storage.opaque import files_in
from functions.tenant import BUDGET

if TYPE_CHECKING:
    from pathlib import Path

    from functions.cli.tenant.place import Place
    from functions.roster import Spec
    from functions.roster.spec import Budget
    from functions.storage import Stores
    from functions.tenant import Tenant


def check(place: Place, spec: Spec, before: Spec | None) -> None:
    """Raise `InvalidRequest` or `Conflict` for what could not be settled afterwards."""
    budget = spec.quotas.budget
    if budget is not None:
        from functions.cli.bill.close import rate_cards

        currency = rate_cards(None).currency
        if budget.currency != currency:
            raise InvalidRequest(
                f"quotas.budget.currency: the rate cards are in {currency}"
            )
    if before is None:
        return
    if before.retention.log_days and not spec.retention.log_days:
        raise InvalidRequest("retention.log_days: no log goes back to `for ever`")
    folder = None if spec.isolation.data else _folder(place, spec)
    if folder and next(files_in(folder), None):
        raise Conflict(
            "isolation.data: its objects lie encrypted, and nothing would read "
            "them; change it while the store is empty"
        )


def settle(place: Place, spec: Spec, before: Spec | None) -> list[str]:
    """Bring ledger and log to what the spec says; return what is left to do.

    By what they hold, where that can be told: a command that was cut off has changed
    the spec, and not them.
    """
    undone = []
    budget, had = spec.quotas.budget, before.quotas.budget if before else None
    if budget != had or (place.is_local and (budget or _has_ledger(place))):
        undone += _budget(place, spec, budget, lift=had is not None)
    days, had_days = spec.retention.log_days, before and before.retention.log_days
    if days is not None and (place.is_local or days != had_days):
        undone += _log_days(place, spec, days)
    if before and spec.isolation.data and not before.isolation.data:
        undone += _enveloping(place, spec)
    if place.is_local and spec.isolation.compute:
        level = spec.isolation.compute
        undone.append(
            f"guise tenant render {spec.id}, for a cluster: at compute {level} it has "
            "a door and a worker of its own, and `guise up` here does not serve it"
        )
    return undone


def _has_ledger(place: Place) -> bool:
    return (place.folder.root / "billing.db").is_file()


def _budget(
    place: Place, spec: Spec, budget: Budget | None, *, lift: bool
) -> list[str]:
    if not place.is_local:
        what = f"--limit {budget.limit}" if budget else "--lift"
        hard = " --hard" if budget and budget.hard else ""
        return [f"guise bill budget --tenant {spec.id} {what}{hard} --database …"]
    from functions.billing import budgeting, budgets
    from functions.cli.bill.budget import put
    from functions.cli.bill.place import Place as Ledger

    made = None
    if budget is not None:
        made = budgets.Budget.parse(
            spec.tenant,
            limit=budget.limit,
            alerts=",".join(map(str, budget.alerts)),
            hard=budget.hard,
            currency=budget.currency,
        )
    ledger = Ledger(place.home, place.folder.database_url("billing"))
    with closing(ledger.ledger()) as opened:
        held = budgeting.budget_of(opened, spec.id)
    stores = place.stores(spec.tenant)
    if made is None and held is not None and not lift:  # by its own command, perhaps
        lifts = f"guise bill budget --tenant {spec.id} --lift"
        return [f"{lifts}, unless the ledger's budget is to hold: the spec has none"]
    if made != held or (made and not _is_told(stores, spec.tenant)):
        put(ledger, spec.tenant, made, stores=stores)
    return []


def _is_told(stores: Stores, tenant: Tenant) -> bool:
    """Return whether the tenant's store says what there is left of its budget.

    One that is shut is not told, and would not be.
    """
    try:
        stores.of(tenant).head(BUDGET)
    except NotFound:
        return False
    except StoreDenied:
        return True
    return True


def _enveloping(place: Place, spec: Spec) -> list[str]:
    from functions.storage.resting import bare_keys

    folder = _folder(place, spec)
    if folder is None or next(bare_keys(folder), None) is None:
        return []
    return [f"guise tenant envelop {spec.id}: until then its store stays shut"]


def _folder(place: Place, spec: Spec) -> Path | None:
    """Return the folder of a tenant's store, None for one in a bucket."""
    from functions.storage.locate import folder_of

    return folder_of(place.store_of(spec.tenant))


def _log_days(place: Place, spec: Spec, days: int) -> list[str]:
    if not place.is_local:
        return [f"guise audit retention --tenant {spec.id} --days {days} --database …"]
    from functions.audit.pruning import retention_of, set_retention
    from functions.audit.store import Store as Log

    with closing(Log.open(place.folder.database_url("audit"))) as log:
        if retention_of(log, spec.id) != days:
            set_retention(log, spec.id, days)
    return []
