"""Attacks on budgets: what changes while somebody looks at how one stands."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from functions.billing import budgets
from functions.billing.budgets import Budget
from functions.storage.memory import MemoryStore
from functions.tenant import BUDGET
from tests.billing.test_billing_budgets import ACME, Books

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.storage import Object
    from functions.tenant import Key


class Meanwhile(MemoryStore):
    """A store in which something happens once, right after it was read."""

    def __init__(self, what: Callable[[], object]) -> None:
        super().__init__()
        self.what: Callable[[], object] | None = what

    def get(self, key: Key, **limits: Any) -> Object:
        try:
            return super().get(key, **limits)
        finally:
            what, self.what = self.what, None
            if what is not None:
                what()


def test_attack_a_budget_is_lifted_while_it_is_looked_at() -> None:
    """Nothing is left of it: no file stops a tenant that has no budget."""
    books = Books(spent=Decimal(200))

    def lifted() -> None:
        books.budget = None
        budgets.lift(ACME, books.store)

    store = books.store = Meanwhile(lambda: None)
    books.watch().look(ACME)
    store.what = lifted
    books.spent = Decimal(50)
    assert books.watch().look(ACME) is None
    assert books.store.list(BUDGET).objects == ()


def test_attack_a_limit_is_raised_and_the_month_over_while_it_is_looked_at() -> None:
    """Who was slow does not write the old limit, nor the old month, over the new."""
    books = Books(spent=Decimal(200))

    def raised() -> None:
        books.budget = Budget(tenant="acme", currency="USD", limit=Decimal(900))
        books.month = "2026-12"
        books.watch().look(ACME)

    books.store = Meanwhile(raised)
    books.watch().look(ACME)
    state = books.state()
    assert state is not None
    assert (state.limit, state.period) == ("900", "2026-12")
