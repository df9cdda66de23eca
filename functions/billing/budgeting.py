"""Budgets in the ledger's database, and what is spent of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from functions import events
from functions.billing import statement
from functions.billing.budgets import Budget
from functions.billing.invoice import Period
from functions.billing.money import total
from functions.billing.rates import Unpriced
from functions.billing.rating import rate
from functions.billing.tables import budgets
from functions.problems import Failed
from functions.structs import prepare

if TYPE_CHECKING:
    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards


class _Row(msgspec.Struct, frozen=True):
    currency: str
    limit: str
    alerts: tuple[int, ...]
    hard: bool


def budget_of(ledger: Ledger, tenant: str) -> Budget | None:
    """Return a tenant's budget; None where there is none, or none any more."""
    query = sa.select(budgets.c.content).where(budgets.c.tenant == tenant)
    with ledger.reading(tenant) as db:
        content = db.execute(query).scalar_one_or_none()
    row = None if content is None else msgspec.json.decode(content, type=_Row | None)
    if row is None:
        return None
    return Budget(
        tenant=tenant,
        currency=row.currency,
        limit=Decimal(row.limit),
        alerts=row.alerts,
        hard=row.hard,
    )


def set_budget(ledger: Ledger, tenant: str, budget: Budget | None) -> None:
    """Give a tenant a budget, or lift the one there is: `null` stands for none."""
    row = None
    if budget is not None:
        limit = f"{budget.limit:f}"
        row = _Row(budget.currency, limit, budget.alerts, budget.hard)
    content = msgspec.json.encode(row)
    insert = ledger.insert(budgets).values(tenant=tenant, content=content)
    stated = insert.on_conflict_do_update(
        index_elements=[budgets.c.tenant], set_={"content": content}
    )
    with ledger.closing() as db:
        db.execute(stated)


def spent(
    ledger: Ledger,
    cards: RateCards,
    tenant: str,
    month: str,
    now: datetime | None = None,
) -> Decimal:
    """Return what the usage of a month comes to, exactly, before credits and tax.

    A reserved device counts up to `now`: what it will cost by the month's end is
    spent day by day, or it would use a budget up on the first.
    Raises `Failed` where something was used that no card has a price for.
    """
    period = Period.parse(month)
    now_ms = events.milliseconds(events.rfc3339(now or datetime.now(UTC)))
    so_far = [
        replace(each, stop_ms=max(each.start_ms, min(each.stop_ms, now_ms)))
        for each in statement.metered_of(ledger, cards, tenant, period, period)
    ]
    try:
        return total(charge.amount for charge in rate(so_far))
    except Unpriced as error:
        raise Failed(internal=f"{tenant}: {error}") from error


prepare()
