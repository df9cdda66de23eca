"""What finance watches: from usage events, tenant by tenant, pushed and on no page."""

from __future__ import annotations

from decimal import Decimal

from functions.billing.app import create_app
from functions.billing.figures import PRICED_AT_ONCE_MAX, Figures
from functions.billing.usage import usage_of
from functions.metrics import Metrics
from functions.settings import Settings
from tests.billing.house import House, TokensByName, clock
from tests.collector import collecting, eventually


def test_usage_is_counted_once_and_priced_for_its_tenant(house: House) -> None:
    """With what the month has cost so far; a duplicate adds nothing."""
    with collecting() as collector:
        client = create_app(
            Settings(otlp_url=collector.url),
            ledger=house.ledger,
            keys=house.keys,
            authenticator=TokensByName(),
            now=clock,
        ).test_client()
        there = House(house.ledger, house.keys, client)
        for name in ("u1", "u2", "u1"):
            assert there.post(there.event(name)).status_code == 204
        eventually(lambda: collector.points("guise_cost"))
        eventually(
            lambda: (
                [
                    points[-1]["asDouble"]
                    for points in collector.points("guise_usage_requests").values()
                ]
                == [2]
            )
        )
        [(labels, points)] = collector.points("guise_cost").items()
        assert dict(labels) == {
            "tenant": "acme",
            "month": "2026-11",
            "currency": "USD",
        }
        assert Decimal(str(points[-1]["asDouble"])) > 0
        assert "acme" not in client.get("/metrics").text


def test_a_crowd_is_priced_a_few_at_a_time(house: House) -> None:
    """So that one push asks the ledger for so many months at most."""
    asked: list[str] = []

    def spent(tenant: str, _month: str) -> Decimal:
        asked.append(tenant)
        return Decimal(1)

    figures = Figures(Metrics())
    for number in range(PRICED_AT_ONCE_MAX + 5):
        event = house.event(tenant=f"t{number}")
        figures.note(usage_of(event, now=clock()))
    figures.price("2026-11", "USD", spent)
    assert len(asked) == PRICED_AT_ONCE_MAX
    figures.price("2026-11", "USD", spent)
    figures.price("2026-11", "USD", spent)
    assert len(asked) == len(set(asked)) == PRICED_AT_ONCE_MAX + 5
