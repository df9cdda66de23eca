"""Budgets in the ledger's database, and what is spent of them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from functions.billing import statement
from functions.billing.budgets import Budget
from functions.billing.invoice import Period
from functions.billing.rates import Unpriced
from functions.billing.statement import Span
from functions.billing.tables import budgets
from functions.problems import Failed

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


def spent(ledger: Ledger, cards: RateCards, tenant: str, month: str) -> Decimal:
    """Return what the usage of a month comes to, exactly, before credits and tax.

    Raises `Failed` where something was used that no card has a price for.
    """
    period = Period.parse(month)
    span = Span(period.start_ms, period.stop_ms)
    try:
        shown = statement.usage(ledger, cards, tenant, span, "")
    except Unpriced as error:
        raise Failed(internal=f"{tenant}: {error}") from error
    return Decimal(shown["total"]["amount"])
