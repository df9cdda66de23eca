"""A batch that goes to PostgreSQL in one pipeline: all of it, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.billing.counting import Posted
from functions.problems import Unavailable
from tests.billing.test_billing_closing import usage
from tests.billing.test_billing_counting import kept

if TYPE_CHECKING:
    from functions.billing.ledger import Ledger
    from tests.postgres import Database

DATABASES = ("postgresql",)


def test_attack_an_account_that_is_gone(
    ledger: Ledger, billing_database: Database
) -> None:
    """Usage is refused until its account is back, and never counted without one."""
    ledger.post(usage("u1"))
    billing_database.tamper("DELETE FROM account")
    with pytest.raises(Unavailable):
        ledger.post(usage("u2"))
    assert set(kept(ledger)) == {"u1"}
    assert ledger.post(usage("u2")) is Posted.NEW


def test_what_the_database_refuses_is_counted_by_the_next_attempt(
    ledger: Ledger, billing_database: Database
) -> None:
    """A batch that fails leaves nothing behind, an opened account neither."""
    billing_database.tamper("ALTER TABLE usage ADD CONSTRAINT no CHECK (id <> 'u2')")
    with pytest.raises(Unavailable):
        ledger.post_all([usage("u1"), usage("u2")])
    assert kept(ledger) == {}
    billing_database.tamper("ALTER TABLE usage DROP CONSTRAINT no")
    assert ledger.post_all([usage("u1"), usage("u2")]) == [Posted.NEW, Posted.NEW]
