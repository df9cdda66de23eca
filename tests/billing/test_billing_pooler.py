"""A pooler that hands PostgreSQL's connections on after each transaction."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from functions.billing.counting import Posted
from functions.billing.ledger import Ledger, Selection
from functions.problems import Unavailable
from tests.billing.test_billing_closing import usage
from tests.postgres import APP

if TYPE_CHECKING:
    from tests.postgres import Database

DATABASES = ("postgresql",)
ALL = Selection("acme", 0, 2**53)


class HandedOn(psycopg.Connection[Any]):
    """Each transaction finds what a login begins with, as on another connection."""

    def execute(self, query: Any, params: Any = None, **how: Any) -> Any:
        if self.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            super().execute("RESET ALL")
            super().execute("RESET ROLE")
            if not self.autocommit:
                self.rollback()
        return super().execute(query, params, **how)


def behind(database: Database) -> Ledger:
    """Return a ledger behind such a pooler."""
    where = database.url().replace("+psycopg", "")
    return Ledger(
        sa.create_engine(
            "postgresql+psycopg://", creator=lambda: HandedOn.connect(where)
        )
    )


def test_a_login_that_begins_as_the_committer_needs_no_session(
    billing_database: Database,
) -> None:
    """As the page says: then whichever connection it gets counts and reads."""
    set_role = "SET role = guise_billing_committer"
    name = billing_database.name
    billing_database.tamper(f"ALTER ROLE {APP} IN DATABASE {name} {set_role}")
    Ledger.open(billing_database.url()).close()  # its tables are found to be new
    with closing(behind(billing_database)) as ledger:
        for number in range(20):  # psycopg prepares what it has run five times
            assert ledger.post(usage(f"u{number}")) is Posted.NEW
        assert ledger.post(usage("u0")) is Posted.DUPLICATE
        many = [usage(f"m{number}") for number in range(1_001)]
        assert set(ledger.post_all(many)) == {Posted.NEW}
        assert ledger.sums(ALL)[0].sum.events == 1_021


def test_another_login_is_refused_and_nothing_is_counted(
    billing_database: Database,
) -> None:
    """503, and the broker comes again: nobody counts in a role that it has not."""
    with closing(behind(billing_database)) as ledger:
        with pytest.raises(Unavailable):
            ledger.post(usage("u1"))
        assert ledger.sums(ALL) == []
