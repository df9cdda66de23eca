"""A tenant's budget: in the ledger, and in the tenant's store."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.billing import budgeting, budgets
from functions.billing.budgets import Budget, Watch
from functions.cli.bill.close import key_folder, rate_cards, sink_of
from functions.cli.terminal import print_json, say
from functions.problems import InvalidRequest
from functions.tenant import Tenant

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards
    from functions.cli.bill.place import Place
    from functions.events import Event
    from functions.storage import Stores

_DELIVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks for; no `limit` asks to see it."""

    tenant: str
    limit: str
    alerts: str
    hard: bool = False
    lift: bool = False
    json: bool = False


def run(
    place: Place,
    wanted: Wanted,
    *,
    store: str = "",
    keys: Path | None = None,
    rates: Path | None = None,
) -> None:
    """Show, set or lift a budget."""
    if wanted.lift and wanted.limit:
        raise InvalidRequest("a budget is set, or it is lifted")
    tenant, cards = Tenant(wanted.tenant), rate_cards(rates)
    with closing(place.ledger()) as ledger:
        if wanted.lift:
            budgeting.set_budget(ledger, tenant.id, None)
            budgets.lift(tenant, _stores(place, store, tenant).of(tenant))
        elif wanted.limit:
            budget = Budget.parse(
                tenant,
                limit=wanted.limit,
                alerts=wanted.alerts,
                hard=wanted.hard,
                currency=cards.currency,
            )
            budgeting.set_budget(ledger, tenant.id, budget)
            _write(place, ledger, cards, tenant, store, keys)
        _show(ledger, cards, tenant, json=wanted.json)


def put(place: Place, tenant: Tenant, budget: Budget | None, *, stores: Stores) -> None:
    """Give a tenant a budget, or lift it; the keys are those of `place`."""
    cards = rate_cards(None)
    with closing(place.ledger()) as ledger:
        budgeting.set_budget(ledger, tenant.id, budget)
        if budget is None:
            budgets.lift(tenant, stores.of(tenant))
        else:
            _look(place, ledger, cards, tenant, stores=stores, keys=None)


def _write(  # the ledger, whose, and where to
    place: Place,
    ledger: Ledger,
    cards: RateCards,
    tenant: Tenant,
    store: str,
    keys: Path | None,
) -> None:
    stores = _stores(place, store, tenant)
    _look(place, ledger, cards, tenant, stores=stores, keys=keys)


def _look(
    place: Place,
    ledger: Ledger,
    cards: RateCards,
    tenant: Tenant,
    *,
    stores: Stores,
    keys: Path | None,
) -> None:
    watch = Watch(
        budget_of=lambda who: budgeting.budget_of(ledger, who),
        spent=lambda who, month: budgeting.spent(ledger, cards, who, month),
        stores=stores,
        keys=key_folder(place, keys),
    )
    # The same again is told again, should the first have got lost.
    changed = watch.look(tenant, cause="guise bill budget")
    if changed is not None:
        _tell(place, changed)


def _tell(place: Place, changed: Event) -> None:
    sink = sink_of(place)
    if sink is not None:
        sink.deliver(changed, timeout=_DELIVERY_SECONDS)


def _stores(place: Place, store: str, tenant: Tenant) -> Stores:
    from functions.cli.tenant.place import Place as Installation

    return Installation(place.home, store=store).stores(tenant)


def _show(ledger: Ledger, cards: RateCards, tenant: Tenant, *, json: bool) -> None:
    budget = budgeting.budget_of(ledger, tenant.id)
    if budget is None:
        if json:
            print_json({"tenant": tenant.id, "budget": None})
        else:
            say(f"{tenant.id} has no budget")
        return
    month = budgets.this_month()
    state = budgets.decide(
        budget, month, budgeting.spent(ledger, cards, tenant.id, month)
    )
    if json:
        print_json({"tenant": tenant.id, "budget": state})
        return
    kind = "hard" if state.hard else "soft"
    alerts = ", ".join(f"{each} %" for each in state.alerts) or "none"
    limit = f"{state.limit} {state.currency}"
    spent = f"{state.spent} of {limit} in {month}"
    spent += ", which is all of it" if state.exhausted else ""
    say(f"{tenant.id}: {spent}; {kind}; alerts {alerts}")
