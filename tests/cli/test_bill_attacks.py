"""Attacks on `guise bill`: other coins, the same line twice, another stack's broker."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from functions.billing import closing
from functions.billing.ledger import Ledger
from functions.billing.rates import FILE
from functions.cli.bill.close import sink_of
from functions.cli.bill.place import Place
from functions.local.home import Home, Running
from tests.cli.finance import LONG_AGO, lines, run
from tests.cli.test_bill import home

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["home"]  # a fixture


@pytest.fixture
def yen(home: Path, tmp_path: Path) -> Path:
    """Return rate cards in yen, by which March 2025 was billed: acme 120 of them."""
    path = tmp_path / "yen.toml"
    text = FILE.read_text().replace("minor_digits = 2\n", "")
    path.write_text(text.replace('"USD"', '"JPY"'))
    return path


def test_attack_a_refund_in_another_currencys_coins(
    home: Path, yen: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A yen has no cents, whatever the rate cards that happen to be at hand say."""
    run(capfdbinary, home, "close", "--period", LONG_AGO, "--rates", yen)
    back = ("refund", "--tenant", "acme", "--number", "acme-000001", "--reason", "r")
    shown = json.loads(
        run(capfdbinary, home, "invoice", "--tenant", "acme", "--number", "acme-000001")
    )
    line = 1 + [each.get("sku") for each in shown["lines"]].index("request")
    assert "JPY" in run(capfdbinary, home, *back, "--line", f"{line}=1")
    said = run(capfdbinary, home, *back, "--line", f"{line}=0.5", code=1)
    assert "no line and amount" in said
    ledger = Ledger.open(f"sqlite:///{home}/billing.db")
    (_, note) = closing.issued_documents(ledger, "acme")
    ledger.close()
    assert (note.total, note.total_minor) == ("-1", -1)


def test_attack_a_line_that_is_taken_back_twice_at_once(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """One of the two amounts would be lost: nothing is taken back."""
    run(capfdbinary, home, "close", "--period", LONG_AGO)
    back = ("refund", "--tenant", "acme", "--number", "acme-000001", "--reason", "r")
    said = run(capfdbinary, home, *back, "--line", "2=1", "--line", "2=2", code=1)
    assert "line 2 is taken back twice" in said


def test_a_credit_is_in_the_currency_of_the_cards_that_are_named(
    home: Path, yen: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """As the invoice will be."""
    granted = ("credit", "--tenant", "acme", "--id", "hello", "--amount", "20")
    since = ("--from", "2025-01-01T00:00:00Z")
    run(capfdbinary, home, *granted, *since, "--rates", yen)
    closed = ("close", "--period", LONG_AGO, "--tenant", "acme", "--rates", yen)
    (made,) = lines(run(capfdbinary, home, *closed, "--json"))
    assert (made["total"], made["currency"]) == ("100", "JPY")


def test_attack_a_ledger_elsewhere_is_not_told_to_the_broker_here(
    home: Path, tmp_path: Path
) -> None:
    """Who subscribes there would never hear of it: it waits for K_SINK."""
    folder = Home(home.resolve())
    urls = {"broker": "http://127.0.0.1:1"}
    held = folder.lock()
    folder.announce(Running(os.getpid(), urls))
    try:
        assert sink_of(Place(home)) is not None
        assert sink_of(Place(home, folder.database_url("billing"))) is not None
        assert sink_of(Place(home, f"sqlite:///{tmp_path}/elsewhere.db")) is None
    finally:
        os.close(held)
