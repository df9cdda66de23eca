"""Which month a document is of, and which it is charged in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from functions.billing import closing, focus
from functions.billing.rates import RateCards
from tests.billing.house import BOTH
from tests.billing.test_billing_closing import CLOSING, OCTOBER, usage

if TYPE_CHECKING:
    from functions.billing.ledger import Ledger
    from tests.billing.house import House

DATABASES = BOTH
LATER = datetime(2027, 2, 14, tzinfo=UTC)


def test_a_credit_note_is_of_one_month_and_charged_in_another(
    house: House, office: Ledger
) -> None:
    """The door lists both; whatever is charged in a month says which it corrects."""
    house.ledger.post(usage("u1", requests=100_000))
    closing.close(office, "acme", OCTOBER, CLOSING)
    closing.issued(office, RateCards.load(), "acme", OCTOBER, CLOSING)
    closing.credit_note(office, "acme", "acme-000001", now=LATER, reason="An outage")
    listed = house.get("invoices").get_json()["invoices"]
    assert [(each["period"], each["billing_period"]) for each in listed] == [
        ("2026-10", "2026-10"),
        ("2026-10", "2027-02"),
    ]
    (_, note) = closing.issued_documents(house.ledger, "acme")
    (row, *_) = focus.rows(note)
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (
        "2027-02-01T00:00:00Z",
        "2027-03-01T00:00:00Z",
    )
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (
        "2026-10-01T00:00:00Z",
        "2026-11-01T00:00:00Z",
    )
    assert (row["ChargeClass"], row["x_CorrectedInvoiceId"]) == (
        "Correction",
        "acme-000001",
    )
