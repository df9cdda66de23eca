"""From sums of usage to exact charges: tiers, included quantities, minimums.  Pure.

A tier counts over the tenant's whole period, whatever event, day or rate card its
units came by: where a new card begins in the middle of a period, its first unit is
the one after the last unit before it.  A charge is a quantity at one unit price, and
its amount their exact product.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from functions.billing import money
from functions.billing.money import EXACT
from functions.billing.rates import UNITS, Rate, Sku, Terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from functions.billing.rates import Tax


class Meter(NamedTuple):
    """What is counted: a SKU, and the GPU model where it knows one."""

    sku: Sku
    model: str = ""


@dataclass(frozen=True, slots=True)
class Metered:
    """What a tenant used, to be billed, while the same terms held.

    Quantities are in the SKU's unit (`rates.UNITS`), as NUMERIC(20,6).  From
    `start_ms` to before `stop_ms`, in milliseconds since the epoch: reserved devices
    are owed for all of it, also where it is not over yet.
    """

    terms: Terms
    start_ms: int
    stop_ms: int
    quantities: Mapping[Meter, Decimal] = field(default_factory=dict)

    def billed(self) -> dict[Meter, Decimal]:
        """Return its quantities that are not nothing, with `gpu.idle`.

        A reserved device is idle whenever it does no work for its tenant.  Raises
        `ValueError` for what is no quantity.
        """
        found = {meter: money.quantity(each) for meter, each in self.quantities.items()}
        contract = self.terms.contract
        for model, devices in (contract.reserved if contract else {}).items():
            held = money.seconds((self.stop_ms - self.start_ms) * devices)
            idle = EXACT.subtract(held, found.get(Meter("gpu.exec", model), Decimal(0)))
            found[Meter("gpu.idle", model)] = max(idle, Decimal(0))
        return {meter: each for meter, each in found.items() if each}


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """What a charge is for: the same item at the same price is one charge.

    `tier_from` is the quantity of the period above which this price is paid.
    """

    sku: Sku
    model: str
    rate_card: str
    tier_from: Decimal
    unit_price: Decimal
    list_price: Decimal
    included: bool
    tax: Tax

    @property
    def unit(self) -> str:
        """What one of its quantity is."""
        return UNITS[self.sku]


@dataclass(frozen=True, slots=True)
class Charge:
    """A quantity of one item; below zero where a correction takes it back."""

    item: Item
    quantity: Decimal

    @property
    def amount(self) -> Decimal:
        """The exact price of the quantity."""
        return EXACT.multiply(self.quantity, self.item.unit_price)


def rate(period: Iterable[Metered]) -> list[Charge]:
    """Return what a period's usage comes to, ordered by item.

    Raises `Unpriced` where no card has a price, `ValueError` for no quantity.
    """
    charges: defaultdict[Item, Decimal] = defaultdict(Decimal)
    for part in rate_parts(period):
        for charge in part:
            charges[charge.item] = EXACT.add(charges[charge.item], charge.quantity)
    return [Charge(item, charges[item]) for item in sorted(charges)]


def rate_parts(period: Iterable[Metered]) -> list[list[Charge]]:
    """Return what each part of a period comes to; the parts add up to the whole.

    A part's tiers begin where those of the parts before it ended.
    """
    spans = [(span.terms, span.billed()) for span in period]
    whole: defaultdict[Meter, Decimal] = defaultdict(Decimal)
    for _, quantities in spans:
        for meter, quantity in quantities.items():
            whole[meter] = EXACT.add(whole[meter], quantity)
    counted: defaultdict[Meter, Decimal] = defaultdict(Decimal)
    parts = []
    for terms, quantities in spans:
        part: list[Charge] = []
        for meter, quantity in sorted(quantities.items()):
            start = counted[meter]
            counted[meter] = EXACT.add(start, quantity)
            part += _charges(terms, meter, start, counted[meter], whole[meter])
        parts.append(part)
    return parts


def _charges(
    terms: Terms, meter: Meter, start: Decimal, stop: Decimal, whole: Decimal
) -> Iterator[Charge]:
    """Yield a charge for each price between two quantities of a period."""
    agreed = terms.agreed(*meter)
    for step in _steps(agreed.rate, whole):
        last = stop if step.stop is None else min(stop, step.stop)
        part = EXACT.subtract(last, max(start, step.start))
        if part > 0:
            item = Item(
                sku=meter.sku,
                model=meter.model,
                rate_card=agreed.version,
                tier_from=step.start,
                unit_price=step.price,
                list_price=_price_at(agreed.listed, step.start, whole),
                included=step.included,
                tax=terms.tax,
            )
            yield Charge(item, part)


class _Step(NamedTuple):
    """One price between two quantities of a period; the last has no end."""

    start: Decimal
    stop: Decimal | None
    price: Decimal
    included: bool


def _steps(rate: Rate, whole: Decimal) -> Iterator[_Step]:
    """Yield the prices of a rate, from the first unit of a period on."""
    start = Decimal(rate.included)
    if start:
        yield _Step(Decimal(0), start, Decimal(0), included=True)
    for end, price in rate.tiers(whole):
        if end is None or end > start:
            yield _Step(start, end, price, included=False)
            start = end or start


def _price_at(rate: Rate, position: Decimal, whole: Decimal) -> Decimal:
    """Return the price of the next unit after `position` of a period."""
    steps = _steps(rate, whole)
    return next(s.price for s in steps if s.stop is None or position < s.stop)


def difference(before: Sequence[Charge], after: Sequence[Charge]) -> list[Charge]:
    """Return what has to be added to `before` to make it `after`, ordered by item."""
    found: defaultdict[Item, Decimal] = defaultdict(Decimal)
    for charge in after:
        found[charge.item] = EXACT.add(found[charge.item], charge.quantity)
    for charge in before:
        found[charge.item] = EXACT.subtract(found[charge.item], charge.quantity)
    return [Charge(item, found[item]) for item in sorted(found) if found[item]]
