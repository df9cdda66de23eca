"""What earlier invoices billed of a month, against what the rate cards say now.  Pure.

A correction takes off what was billed, which is rated anew.  Were a card taken out of
the file since, or one added that begins in the past, that would come to something
else than the tenant was billed; then there is no invoice.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from functions.billing.money import EXACT
from functions.billing.rating import Item, rate
from functions.problems import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.billing.drafting import Late
    from functions.billing.invoice import Invoice, Line
    from functions.billing.rates import Sku


def check(late: Late, invoices: Iterable[Invoice]) -> None:
    """Raise `Conflict` unless `invoices` billed of a month what its rating says."""
    billed: defaultdict[Item, Decimal] = defaultdict(Decimal)
    for invoice in invoices:
        for line in invoice.lines:
            if line.quantity and line.period == str(late.period):
                item = _item(line)
                billed[item] = EXACT.add(billed[item], Decimal(line.quantity))
    said = {each.item: each.quantity for each in rate(late.before)}
    if said != {item: quantity for item, quantity in billed.items() if quantity}:
        raise Conflict(
            f"the rate cards price {late.period} otherwise than it was billed: one is"
            " gone, or begins in a month that was invoiced"
        )


def _item(line: Line) -> Item:
    return Item(
        sku=cast("Sku", line.sku),
        model=line.model,
        rate_card=line.rate_card,
        tier_from=Decimal(line.tier_from),
        unit_price=Decimal(line.unit_price),
        list_price=Decimal(line.list_price),
        included=line.included,
        tax=line.tax,
    )
