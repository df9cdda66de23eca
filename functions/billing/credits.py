"""Credits: granted, used up in a fixed order, expired; each step an entry.  Pure.

A credit is a price reduction agreed beforehand, so it comes after rating and the
minimum and before tax, and lowers what is taxed (as the EU's VAT directive treats
price reductions, article 79).  Money paid in advance is not a credit but a payment.

The order is the one of OpenMeter's and Stripe's grants: the lower `priority` number
first, then the one that expires earliest, then the oldest, then by id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from functions.structs import prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from functions.billing.rates import Tax


class Credit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grant to one tenant; amounts count the currency's smallest coins.

    It pays for a period if it holds at some moment of it: from `from_ms` to before
    `until_ms`, in milliseconds since the epoch; for ever where that is None.
    """

    id: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}\Z")]
    tenant: str
    currency: str
    amount_minor: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    from_ms: int
    until_ms: int | None = None
    priority: Annotated[int, Meta(ge=0, le=1000)] = 100
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse a credit that never holds."""
        if self.until_ms is not None and self.until_ms <= self.from_ms:
            raise ValueError("a credit expires after it is granted")

    def holds(self, start_ms: int, stop_ms: int) -> bool:
        """Return whether it pays for a span."""
        over = self.until_ms is not None and self.until_ms <= start_ms
        return self.from_ms < stop_ms and not over


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the credits' own ledger; `(credit, id)` names it for ever.

    `amount_minor` is what it adds to the credit: above 0 for `granted` and
    `returned`, below for `applied` and `expired`.  `document` is the number of the
    invoice or credit note that made it.
    """

    id: str
    credit: str
    kind: Literal["granted", "applied", "returned", "expired"]
    amount_minor: int
    document: str = ""


@dataclass(frozen=True, slots=True)
class Available:
    """A credit and what is left of it, in smallest coins."""

    credit: Credit
    left_minor: int


@dataclass(frozen=True, slots=True)
class Spent:
    """A part of a credit that lowers what is taxed with `tax`."""

    credit: Credit
    tax: Tax
    amount_minor: int


def granted(credit: Credit) -> Entry:
    """Return the entry with which a credit begins."""
    return Entry(
        id="granted",
        credit=credit.id,
        kind="granted",
        amount_minor=credit.amount_minor,
    )


def left(entries: Iterable[Entry]) -> int:
    """Return what is left of the credit whose entries these are."""
    return sum(each.amount_minor for each in entries)


def expired(available: Available, moment_ms: int, times: int = 0) -> Entry | None:
    """Return the entry that ends what is left of a credit, if it is over by then.

    `times` is how often it has ended before: a credit note may have returned it.
    """
    until_ms = available.credit.until_ms
    if until_ms is None or until_ms > moment_ms or available.left_minor <= 0:
        return None
    return Entry(
        id=f"expired {times + 1}" if times else "expired",
        credit=available.credit.id,
        kind="expired",
        amount_minor=-available.left_minor,
    )


def in_order(found: Iterable[Available]) -> list[Available]:
    """Return credits in the order in which they are used up."""
    return sorted(found, key=lambda each: _turn(each.credit))


def _turn(credit: Credit) -> tuple[int, bool, int, int, str]:
    forever = credit.until_ms is None
    return (
        credit.priority,
        forever,
        credit.until_ms or 0,
        credit.from_ms,
        credit.id,
    )


def spend(found: Iterable[Available], owed: Mapping[Tax, int]) -> list[Spent]:
    """Return which credits pay how much of what is `owed` under each tax.

    Nothing is paid beyond what is owed in all, nor beyond any one part of it; parts
    are paid in the order of `owed`.
    """
    open_ = {tax: minor for tax, minor in owed.items() if minor > 0}
    limit = max(0, sum(owed.values()))
    spent = []
    for each in in_order(found):
        left_minor = each.left_minor
        for tax, minor in open_.items():
            part = min(left_minor, minor, limit)
            if part > 0:
                spent.append(Spent(each.credit, tax, part))
                open_[tax] -= part
                left_minor -= part
                limit -= part
    return spent


prepare()
