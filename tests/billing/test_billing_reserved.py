"""Reserved devices, from the ledger to the draft."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from functions.billing import budgeting, statement
from functions.billing.drafting import Bill, Late, versions
from functions.billing.rating import Meter
from tests.billing.bills import OCTOBER, spans
from tests.billing.house import usage_data
from tests.billing.prices import CONTRACT, HEAD, NOVEMBER, PRICES, cards_of, used

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.rates import RateCards
    from tests.billing.house import House

TEN_DAYS = 10 * 86_400


def reserving(tmp_path: Path) -> RateCards:
    """Return a list, and a contract that reserves two L4 from 10 to 20 November."""
    return cards_of(tmp_path, HEAD + PRICES + CONTRACT)


def busy(house: House) -> None:
    """Post two swaps on different days, each 100 s on an L4."""
    device = {**usage_data()["device"], "name": "L4"}
    for name, day in (("a", 12), ("b", 15)):
        moment = {"time": f"2026-11-{day}T00:00:00.000Z"}
        house.post(
            house.event(
                name,
                attributes=moment,
                lease_ms=100_000,
                gpu_seconds="100",
                device=device,
                leased_at=f"2026-11-{day - 1}T23:58:20.000Z",
            )
        )


def test_a_budget_counts_a_reserved_device_up_to_now(
    house: House, tmp_path: Path
) -> None:
    """What it will cost by the month's end is not spent on the first."""
    busy(house)
    cards = reserving(tmp_path)
    days = (1, 10, 13, 20, 30)
    found = [
        budgeting.spent(
            house.ledger, cards, "acme", "2026-11", datetime(2026, 11, day, tzinfo=UTC)
        )
        for day in days
    ]
    shown = house.total("?from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z")
    work = sum(
        Decimal(quantity) * price
        for quantity, price in (
            (shown["gpu_seconds"], Decimal("0.000222")),
            (shown["cpu_seconds"], Decimal("0.000024")),
            (shown["requests"], Decimal("0.0001")),
        )
    )
    idle_days = (0, 0, 3, 10, 10)
    assert found == [
        work + max(0, 2 * each * 86_400 - 200) * Decimal("0.00005")
        for each in idle_days
    ]


def idle(shown: dict[str, Any]) -> list[str]:
    return [c["quantity"] for c in shown["charges"] if c["sku"] == "gpu.idle"]


def test_a_draft_owes_what_is_reserved_less_what_it_did(
    house: House, tmp_path: Path
) -> None:
    """Two devices for the contract's ten days, also before they are over."""
    busy(house)
    found = statement.draft(house.ledger, reserving(tmp_path), "acme", NOVEMBER)
    quantities = {Meter(x.sku, x.model): x.quantity for x in found.lines if x.quantity}  # type: ignore[arg-type]  # a SKU's name
    assert quantities[Meter("gpu.exec", "L4")] == "200"
    assert quantities[Meter("gpu.idle", "L4")] == str(2 * TEN_DAYS - 200)


def test_no_group_is_idle_and_the_total_is_once(house: House, tmp_path: Path) -> None:
    """Two days of usage are not twice ten days of idling."""
    busy(house)
    span = statement.Span(NOVEMBER.start_ms, NOVEMBER.stop_ms)
    for by in ("day", "device", "job", "operation"):
        shown = statement.usage(house.ledger, reserving(tmp_path), "acme", span, by)
        assert idle(shown["total"]) == [str(2 * TEN_DAYS - 200)]
        assert [idle(group) for group in shown["groups"] if idle(group)] == []
        parts = sum(Decimal(group["amount"]) for group in shown["groups"])
        kept = [c for c in shown["total"]["charges"] if c["sku"] == "gpu.idle"]
        assert parts + Decimal(kept[0]["amount"]) == Decimal(shown["total"]["amount"])


def test_a_contract_that_is_on_no_line_is_held_all_the_same(tmp_path: Path) -> None:
    """What changes a tax or a minimum, or reserves, is as immutable as a price."""
    found = reserving(tmp_path)
    month = spans(found, NOVEMBER, used(cpu_exec=1))
    late = Late(OCTOBER, (), spans(found, OCTOBER, used(request=1)))
    bill = Bill(tenant="acme", period=NOVEMBER, metered=month, late=(late,))
    assert versions(bill) == {"a", "acme-1"}
    assert versions(Bill(tenant="acme", period=OCTOBER, metered=late.after)) == {"a"}
