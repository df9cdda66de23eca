"""Closing a month for one tenant or for all, and telling who subscribes."""

from __future__ import annotations

import os
from contextlib import closing as ending
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from functions.cli.terminal import counted, err, out, print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.billing.invoice import Invoice
    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards
    from functions.cli.bill.place import Place
    from functions.keys import FileKeys
    from functions.sink import Sink


@dataclass(frozen=True, slots=True)
class Closing:
    """What to close, with which keys and rate cards."""

    place: Place
    period: str
    tenant: str
    keys: Path | None
    rates: Path | None
    hold: bool
    json: bool


def close_period(what: Closing, *, now: datetime | None = None) -> None:
    """Close a period for each tenant, issue the invoices unless held, and tell.

    Each tenant is a transaction of its own: what fails is said at the end, and stops
    nobody else's.  Raises `InvalidRequest` for a month that is not due, before anything
    is begun, and `NotFound` for a tenant that nobody knows.
    """
    from functions.billing import closing, order
    from functions.billing.invoice import Period
    from functions.problems import Failed, Problem

    now = now or datetime.now(UTC)
    period = Period.parse(what.period)
    order.refuse_early(period, now)
    cards = rate_cards(what.rates, what.place.called())
    made: list[Invoice] = []
    faults: list[str] = []
    with ending(what.place.ledger()) as ledger:
        if what.tenant:
            what.place.refuse_nobody(ledger, what.tenant, cards, what.keys)
        for tenant in [what.tenant] if what.tenant else _everybody(ledger, cards):
            try:
                closing.close(ledger, tenant, period, now)
                if not what.hold:
                    invoice = closing.issued(ledger, cards, tenant, period, now)
                    made += [invoice] if invoice else []
                closing.expire(ledger, tenant, now)
            except (Problem, ValueError) as problem:
                faults.append(f"{tenant}: {problem}")
        waiting = tell_all(ledger, what.place, what.keys, now)
    _show(made, waiting, json=what.json)
    for fault in faults:
        err().print(fault, markup=False, style="red")
    if faults:
        raise Failed(f"{len(faults)} not closed: mend what is told above, then again")


def _everybody(ledger: Ledger, cards: RateCards) -> list[str]:
    """Return who has an account, or a contract: that may ask for a minimum."""
    from functions.billing.closing import tenants

    agreed = {contract.tenant for contract in cards.contracts}
    return sorted({*tenants(ledger), *agreed})


def rate_cards(path: Path | None, called: Callable[[str], str] = str) -> RateCards:
    """Return the rate cards of a file; else of GUISE_RATES, else those we ship."""
    from pathlib import Path as Named

    from functions.billing.rates import FILE, RateCards

    named = path or os.environ.get("GUISE_RATES", "")
    return RateCards.load(Named(named) if named else FILE, called)


def tell_all(
    ledger: Ledger, place: Place, keys: Path | None, now: datetime
) -> list[Invoice]:
    """Tell of every document nobody was told of; return those that wait on."""
    from functions.billing import telling

    sink = sink_of(place)
    if sink is None:
        return telling.untold(ledger)
    return telling.tell(ledger, key_folder(place, keys), sink, now)


def sink_of(place: Place) -> Sink | None:
    """Return where events go: K_SINK, or the broker of the ledger's own stack."""
    from functions.local.home import Home
    from functions.settings import Settings
    from functions.sink import HttpSink

    names = ("K_SINK", "K_CE_OVERRIDES", "K_CA_CERTS", "GUISE_TOKEN_FILE")
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    if "K_SINK" in given:
        return HttpSink.from_settings(Settings.from_env(given))
    home = Home(place.home.resolve())
    if place.named not in {"", home.database_url("billing")}:
        return None  # the stack that runs here has another ledger
    running = home.running()
    return HttpSink(running.urls["broker"]) if running else None


def key_folder(place: Place, folder: Path | None) -> FileKeys:
    """Return the keys in a folder; else of GUISE_KEYS, else this machine's."""
    from pathlib import Path as Named

    from functions.keys import FileKeys
    from functions.local.home import Home

    named = folder or os.environ.get("GUISE_KEYS", "")
    return FileKeys(Named(named) if named else Home(place.home.resolve()).keys)


def _show(made: list[Invoice], waiting: list[Invoice], *, json: bool) -> None:
    if json:
        for invoice in made:
            print_json(
                {
                    "number": invoice.number,
                    "tenant": invoice.tenant,
                    "period": invoice.period,
                    "total": invoice.total,
                    "currency": invoice.currency,
                }
            )
        return
    from rich.table import Table

    table = Table("number", "period", "events", "net", "credits", "tax", "total")
    for each in made:
        total = f"{each.total} {each.currency}"
        events = f"{each.events.count:,}"
        sums = each.net, each.credits, each.tax, total
        table.add_row(each.number, each.period, events, *sums)
    if made:
        out().print(table)
    else:
        say("nothing to invoice")
    if waiting:
        say(f"to be told of: {counted(len(waiting), 'document')}; no broker took them")
