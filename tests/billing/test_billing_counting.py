"""What counting a batch makes of each use, on either database."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from functions.billing import closing, storing
from functions.billing.counting import Posted
from functions.billing.tables import usages
from functions.problems import InvalidRequest
from functions.tenant import Tenant
from tests.billing.house import BOTH
from tests.billing.test_billing_closing import usage
from tests.billing.test_billing_order import DECEMBER, JANUARY, NOVEMBER, due

if TYPE_CHECKING:
    from functions.billing.ledger import Ledger

DATABASES = BOTH


def kept(ledger: Ledger, tenant: str = "acme") -> dict[str, tuple[str, bool]]:
    """Return the month that takes up each of a tenant's uses; whether it was late."""
    query = sa.select(usages.c.id, usages.c.period, usages.c.late)
    with ledger.reading(tenant) as db:
        rows = db.execute(query.where(usages.c.tenant == tenant)).all()
    return {row.id: (row.period, row.late) for row in rows}


def test_what_is_late_waits_for_the_month_after_the_last_closed(
    ledger: Ledger, office: Ledger
) -> None:
    """Over the turn of a year, too, and for its own account alone."""
    closing.close(office, "acme", DECEMBER, due(DECEMBER))
    days = {"u1": "2026-11-30", "u2": "2026-12-03"}
    batch = [usage(name, day=day) for name, day in days.items()]
    ledger.post_all([*batch, usage("u1", tenant="other", day="2026-11-30")])
    assert kept(ledger) == dict.fromkeys(days, (str(JANUARY), True))
    assert kept(ledger, "other") == {"u1": (str(NOVEMBER), False)}


def test_a_batch_larger_than_a_statement_is_counted_whole(ledger: Ledger) -> None:
    """Two thousand and one, and again: each new once."""
    batch = [usage(f"u{each}") for each in range(2_001)]
    assert set(ledger.post_all(batch)) == {Posted.NEW}
    assert set(ledger.post_all(batch)) == {Posted.DUPLICATE}
    assert len(kept(ledger)) == 2_001


def test_nothing_is_counted_of_no_events(ledger: Ledger) -> None:
    """An empty batch has an empty answer."""
    assert ledger.post_all([]) == []


def test_what_is_counted_is_found_again(ledger: Ledger) -> None:
    """By its source and id, or by its time; each tenant's own."""
    made = usage("u1", day="2026-11-30")
    ledger.post_all([made])
    assert ledger.has("acme", made.source, "u1")
    assert not ledger.has("acme", made.source, "u2")
    assert not ledger.has("acme", "/elsewhere", "u1")
    assert not ledger.has("other", made.source, "u1")
    assert ledger.has_before("acme", made.at_ms + 1)
    assert not ledger.has_before("acme", made.at_ms)
    assert not ledger.has_before("other", made.at_ms + 1)


def test_a_day_is_due_until_its_month_is_closed(ledger: Ledger, office: Ledger) -> None:
    """The function may look; a closed month takes no more of what is stored."""
    acme, day = Tenant("acme"), date(2026, 11, 30)
    assert storing.is_due(ledger, acme, day, due(NOVEMBER))
    closing.close(office, "acme", NOVEMBER, due(NOVEMBER))
    with pytest.raises(InvalidRequest):
        storing.is_due(ledger, acme, day, due(NOVEMBER))
