"""A batch that goes to PostgreSQL in one statement: all of it, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.billing.counting import Posted
from functions.billing.ledger import Ledger
from functions.problems import Unavailable
from tests.billing.test_billing_closing import usage
from tests.billing.test_billing_counting import kept

if TYPE_CHECKING:
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
    ledger.post(usage("u0"))
    billing_database.tamper("ALTER TABLE usage ADD CONSTRAINT no CHECK (id <> 'u2')")
    with pytest.raises(Unavailable):
        ledger.post_all([usage("u1"), usage("u2")])
    assert set(kept(ledger)) == {"u0"}
    billing_database.tamper("ALTER TABLE usage DROP CONSTRAINT no")
    assert ledger.post_all([usage("u1"), usage("u2")]) == [Posted.NEW, Posted.NEW]


def hung_up(database: Database) -> None:
    """End every connection to a database, as a server does that goes down."""
    ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
    database.server.execute(f"{ended} WHERE datname = '{database.name}'")


def test_a_line_that_broke_is_taken_up_anew(
    ledger: Ledger, billing_database: Database
) -> None:
    """Whoever comes first after that is counted, and notices nothing."""
    assert ledger.post(usage("u1")) is Posted.NEW
    hung_up(billing_database)
    assert ledger.post(usage("u2")) is Posted.NEW
    assert ledger.post(usage("u1")) is Posted.DUPLICATE


def test_a_database_that_is_gone_is_unavailable(
    ledger: Ledger, billing_database: Database
) -> None:
    """A kept line that broke, and no other to be had: 503, until it is back."""
    ledger.post(usage("u1"))
    switch = f"ALTER DATABASE {billing_database.name} ALLOW_CONNECTIONS "
    billing_database.server.execute(switch + "false")
    hung_up(billing_database)
    with pytest.raises(Unavailable):
        ledger.post(usage("u2"))
    billing_database.server.execute(switch + "true")
    assert ledger.post(usage("u2")) is Posted.NEW


def test_attack_a_login_that_may_not_count(billing_database: Database) -> None:
    """Nothing is counted without the committer's role, and nothing is kept of it."""
    login = "guise_stranger"
    billing_database.tamper(f"CREATE ROLE {login} LOGIN NOINHERIT")
    billing_database.tamper("GRANT SELECT ON billing_version TO PUBLIC")
    stranger = Ledger.open(billing_database.url(login))
    try:
        for name in ("u1", "u2"):
            with pytest.raises(Unavailable) as caught:
                stranger.post(usage(name))
            assert "permission denied" in str(caught.value)
    finally:
        stranger.close()
        billing_database.tamper(f"DROP ROLE {login}")
