"""Budgets from a person's command to the door's 402: kept, watched, written, lifted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.billing import budgeting, budgets
from functions.billing.app import create_app
from functions.billing.budgets import Budget
from functions.billing.rates import RateCards
from functions.cli.bill.budget import Wanted, run
from functions.cli.bill.place import Place
from functions.keys import BILLING, FileKeys, MemoryKeys
from functions.problems import Failed, InvalidRequest
from functions.storage import Stores, open_store
from functions.storage.memory import MemoryStore
from functions.tenant import BUDGET, Tenant
from tests.billing.house import BOTH, House, TokensByName
from tests.local.subscriber import subscriber
from tests.postgres import APP, OPERATOR

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.ledger import Ledger
    from functions.storage import Store

DATABASES = BOTH
ACME = Tenant("acme")
LIMITED = Budget(tenant="acme", currency="USD", limit=Decimal("0.01"), hard=True)


def test_a_budget_is_kept_and_lifted(ledger: Ledger, office: Ledger) -> None:
    """The latest stands; lifted, there is none; and another tenant has its own."""
    assert budgeting.budget_of(ledger, "acme") is None
    budgeting.set_budget(office, "acme", LIMITED)
    second = replace(LIMITED, limit=Decimal("20.50"), alerts=(10,), hard=False)
    budgeting.set_budget(office, "acme", second)
    assert budgeting.budget_of(ledger, "acme") == second
    assert budgeting.budget_of(ledger, "umbrella") is None
    budgeting.set_budget(office, "acme", None)
    assert budgeting.budget_of(ledger, "acme") is None


@pytest.fixture
def house(ledger: Ledger) -> House:
    """Return a billing function by the real clock, as budgets go by the real month."""
    keys = MemoryKeys()
    app = create_app(ledger=ledger, keys=keys, authenticator=TokensByName())
    return House(ledger, keys, app.test_client())


def today(house: House, name: str, **data: Any) -> Any:
    """Return a usage event of now: budgets go by the real month."""
    now = events.rfc3339(datetime.now(UTC))
    return house.event(name, attributes={"time": now}, **data)


def test_what_is_spent_is_what_the_month_s_usage_comes_to(
    house: House, ledger: Ledger
) -> None:
    """Exactly: 136 ms of a GPU, 412 ms of a CPU and one request."""
    cards, month = RateCards.load(), budgets.this_month()
    assert budgeting.spent(ledger, cards, "acme", month) == 0
    headers, body = events.encode(today(house, "u1"))
    house.client.post("/v1/tenants/acme/events", headers=headers, data=body)
    shown = Decimal(house.total(f"?from={month}-01T00:00:00Z")["amount"])
    assert budgeting.spent(ledger, cards, "acme", month) == shown > 0


def test_billing_keeps_the_ledger_s_budgets_by_itself(
    ledger: Ledger, office: Ledger
) -> None:
    """As it is wired in production: usage comes, the door's file says so."""
    keys, store = MemoryKeys(), MemoryStore()
    app = create_app(
        ledger=ledger,
        keys=keys,
        authenticator=TokensByName(),
        stores=Stores("memory://{tenant}", opener=lambda _: store),
    )
    house = House(ledger, keys, app.test_client())
    budgeting.set_budget(office, "acme", LIMITED)
    event = today(house, "u1", lease_ms=136_000, gpu_seconds="136.000")
    answer = house.post(event)
    assert answer.status_code == 200
    told = events.decode(dict(answer.headers), answer.data)
    assert told.data["exhausted"] is True
    kept = budgets.current(ACME, store, keys)
    assert kept.event == told


def test_what_no_card_prices_is_a_fault_of_ours(ledger: Ledger, house: House) -> None:
    """The usage is counted, and its budget is for the operator to mend."""
    device = {"kind": "cuda", "name": "Abacus 9", "uuid": "GPU-1", "share": "1"}
    headers, body = events.encode(today(house, "u1", device=device))
    house.client.post("/v1/tenants/acme/events", headers=headers, data=body)
    cards = RateCards.load()
    [card] = cards.cards[-1:]
    prices = dict(card.prices)
    prices["gpu.exec"] = msgspec.structs.replace(
        prices["gpu.exec"], price=None, graduated=(), volume=()
    )
    bare = replace(cards, cards=(msgspec.structs.replace(card, prices=prices),))
    with pytest.raises(Failed):
        budgeting.spent(ledger, bare, "acme", budgets.this_month())


@pytest.fixture
def place(ledger: Ledger, url: str, tmp_path: Path) -> Place:
    """Return a home with billing's key and the tenant's store."""
    del ledger  # its tables are there
    FileKeys(tmp_path / "keys").create(BILLING)
    return Place(tmp_path, url.replace(f"//{APP}@", f"//{OPERATOR}@"))


def store_of(place: Place) -> Store:
    return open_store(f"file://{place.home}/tenants/acme")


def test_a_person_sets_a_budget_and_the_door_can_read_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signed by billing, in the tenant's store; shown; and told again if run again."""
    wanted = Wanted("acme", "100.00", "50,80,100", hard=True)
    run(place, wanted)
    assert "0 of 100.00 USD" in capsys.readouterr().out
    kept = budgets.current(ACME, store_of(place), FileKeys(place.home / "keys"))
    assert kept.state is not None
    assert (kept.state.limit, kept.state.hard) == ("100.00", True)
    run(place, wanted)
    again = budgets.current(ACME, store_of(place), FileKeys(place.home / "keys"))
    assert again == kept
    capsys.readouterr()
    run(place, Wanted("acme", "", "", json=True))
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert shown["budget"]["alerts"] == [50, 80, 100]


def test_a_budget_that_is_used_up_is_shown_as_such(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to compare two numbers to see why nothing runs."""
    run(place, Wanted("acme", "0.00", "50", hard=True))
    assert "0 of 0.00 USD" in (said := capsys.readouterr().out)
    assert "which is all of it" in said


def test_who_subscribes_is_told_of_a_budget_a_person_set(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By K_SINK; and again when it is run again, word for word."""
    with subscriber() as taker:
        monkeypatch.setenv("K_SINK", taker.url)
        for _ in range(2):
            run(place, Wanted("acme", "100.00", "50"))
    first, again = taker.seen
    assert (first.type, first) == (events.BUDGET_CHANGED, again)


@pytest.mark.parametrize("json", [True, False])
def test_a_person_lifts_a_budget(
    place: Place,
    capsys: pytest.CaptureFixture[str],
    json: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """From the ledger and from the tenant's store."""
    run(place, Wanted("acme", "1", ""))
    run(place, Wanted("acme", "", "", lift=True, json=json))
    assert store_of(place).list(BUDGET).objects == ()
    said = capsys.readouterr().out.splitlines()[-1]
    assert ("null" if json else "no budget") in said


def test_a_budget_is_not_set_and_lifted_at_once(place: Place) -> None:
    """Whichever was meant."""
    with pytest.raises(InvalidRequest):
        run(place, Wanted("acme", "1", "", lift=True))
