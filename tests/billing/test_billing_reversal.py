"""Credit notes that should not have been: what reverses them, and what counts then."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from functions.billing import closing, focus
from functions.billing.canonical import canonical
from functions.billing.credits import Credit
from functions.billing.invoice import parse
from functions.billing.sheet import sheet
from functions.problems import Conflict, InvalidRequest
from tests.billing.focus_rules import broken
from tests.billing.house import BOTH
from tests.billing.prices import HEAD, NOVEMBER, PRICES, cards_of
from tests.billing.test_billing_closing import (
    CLOSING,
    NEXT_CLOSING,
    OCTOBER,
    closed,
    usage,
)

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.invoice import Invoice
    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards
    from tests.billing.house import House

DATABASES = BOTH
LATER = datetime(2027, 1, 20, tzinfo=UTC)
TAXED = 'tax = { name = "VAT", rate = "0.19" }'
BONUS = Credit(id="bonus", tenant="acme", currency="USD", amount_minor=500, from_ms=0)


@pytest.fixture
def cards(tmp_path: Path) -> RateCards:
    return cards_of(tmp_path, HEAD + TAXED + PRICES)


@pytest.fixture
def invoice(house: House, office: Ledger, cards: RateCards) -> Invoice:
    """Return October's invoice: 40.00 of requests, 5.00 of it paid by a credit."""
    closing.grant(office, BONUS)
    house.ledger.post(usage("u1", requests=100_000))
    closed(office)
    found = closing.issued(office, cards, "acme", OCTOBER, CLOSING)
    assert found is not None
    return found


def back(office: Ledger, number: str, amounts: dict[int, int] | None = None) -> Invoice:
    """Take a document back, or amounts of its lines."""
    return closing.credit_note(
        office, "acme", number, now=LATER, reason="A slip", amounts=amounts
    )


def requests_of(invoice: Invoice) -> int:
    """Return the number of the line for requests."""
    return 1 + [line.sku for line in invoice.lines].index("request")


def test_a_note_is_reversed_by_an_invoice(
    house: House, office: Ledger, invoice: Invoice
) -> None:
    """Line by line to the coin, tax too; it is of the same month, and due as any."""
    note = back(office, invoice.number, {requests_of(invoice): 1001})
    made = back(office, note.number)
    assert (made.kind, made.refers, made.period) == ("invoice", note.number, "2026-10")
    assert (note.total, made.total, made.tax) == ("-11.91", "11.91", "1.90")
    assert [(a.amount_minor, a.sku, a.tax) for a in made.lines] == [
        (-b.amount_minor, b.sku, b.tax) for b in note.lines
    ]
    assert (made.issued, made.due) == ("2027-01-20", "2027-02-19")
    assert parse(canonical(made)) == made
    told = house.get(f"invoices/{made.number}").get_json()
    assert (told["kind"], told["reason"]) == ("invoice", "A slip")
    row = sheet(made).sections[0].rows[0]
    assert row.detail.startswith(f"line 1 of {note.number}")
    rows = list(focus.rows(made))
    assert [broken(each) for each in rows] == [[] for _ in rows]
    billed = sum(Decimal(each["BilledCost"] or 0) for each in rows)
    assert billed == Decimal("11.91")


def test_what_was_reversed_counts_no_more(office: Ledger, invoice: Invoice) -> None:
    """The invoice can be taken back as if the note had never been."""
    note = back(office, invoice.number, {requests_of(invoice): 1001})
    back(office, note.number)
    whole = back(office, invoice.number)
    assert whole.total_minor == -invoice.total_minor
    assert whole.tax_minor == -invoice.tax_minor
    assert closing.available(office, "acme")[0].left_minor == 500


def test_a_note_is_reversed_once_and_as_a_whole(
    office: Ledger, invoice: Invoice
) -> None:
    """Nor is what reverses it taken back: each leaves no number used."""
    note = back(office, invoice.number, {requests_of(invoice): 1001})
    with pytest.raises(InvalidRequest, match="as a whole"):
        back(office, note.number, {1: 5})
    made = back(office, note.number)
    with pytest.raises(InvalidRequest, match="reversed already"):
        back(office, note.number)
    with pytest.raises(InvalidRequest, match="not taken back itself"):
        back(office, made.number)
    assert len(closing.issued_documents(office, "acme")) == 3


def test_credits_that_a_note_returned_are_taken_again(
    house: House, office: Ledger, invoice: Invoice, cards: RateCards
) -> None:
    """As long as they are there; where another invoice used them, nothing happens."""
    first = back(office, invoice.number)
    assert closing.available(office, "acme")[0].left_minor == 500
    made = back(office, first.number)
    assert closing.available(office, "acme")[0].left_minor == 0
    assert made.total_minor == invoice.total_minor
    rows = list(focus.rows(made))
    assert [broken(each) for each in rows] == [[] for _ in rows]
    assert {row["ChargeCategory"] for row in rows} >= {"Usage", "Credit"}
    second = back(office, invoice.number)
    house.ledger.post(usage("u2", day="2026-11-05", requests=100_000))
    closed(office, NOVEMBER, NEXT_CLOSING)
    closing.issued(office, cards, "acme", NOVEMBER, NEXT_CLOSING)
    with pytest.raises(Conflict, match="bonus, which it returned, is used up since"):
        back(office, second.number)
    assert len(closing.issued_documents(office, "acme")) == 5
