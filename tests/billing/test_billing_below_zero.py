"""Months that come out below zero: more is given back of earlier ones than was used."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from functions.billing import closing, focus
from functions.billing.canonical import canonical
from functions.billing.documents import as_html
from functions.billing.drafting import Bill, Late, draft
from functions.billing.invoice import issue, parse
from functions.billing.notes import credit_note
from functions.billing.sheet import sheet
from functions.problems import InvalidRequest
from tests.billing.focus_rules import broken
from tests.billing.house import BOTH
from tests.billing.prices import HEAD, NOVEMBER, cards_of, metered, used
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
# 1,000 requests cost 10.00, and one more makes it 1.001.
TERMS = """
tax = { name = "VAT", rate = "0.19" }
minimum = "0.50"
[card.prices]
"gpu.exec" = { unit = "second", price = "0" }
"gpu.load" = { unit = "second", price = "0" }
"cpu.exec" = { unit = "second", price = "0" }
[card.prices."request"]
unit = "request"
volume = [{ upto = "1000", price = "0.01" }, { price = "0.001" }]
"""
LATER = datetime(2027, 1, 20, tzinfo=UTC)


@pytest.fixture
def cards(tmp_path: Path) -> RateCards:
    return cards_of(tmp_path, HEAD + TERMS)


def november(ledger: Ledger, office: Ledger, cards: RateCards) -> Invoice:
    """Return the document of a month that gives back more of October than it costs."""
    ledger.post(usage("u1", requests=1000))
    closed(office)
    closing.issued(office, cards, "acme", OCTOBER, CLOSING)
    ledger.post_all([usage("u2"), usage("u3", day="2026-11-05", requests=100)])
    closed(office, NOVEMBER, NEXT_CLOSING)
    found = closing.issued(office, cards, "acme", NOVEMBER, NEXT_CLOSING)
    assert found is not None
    return found


def test_a_month_below_zero_is_a_credit_note(
    house: House, office: Ledger, cards: RateCards
) -> None:
    """It says what is owed to the tenant, asks for nothing, and takes nothing back."""
    made = november(house.ledger, office, cards)
    assert (made.net, made.tax, made.total) == ("-8.00", "-1.52", "-9.52")
    told = house.get("invoices/2026-11").get_json()
    assert (told["kind"], told["number"], told["refers"]) == (
        "credit-note",
        "acme-000002",
        "",
    )
    listed = house.get("invoices").get_json()["invoices"]
    assert [(each["kind"], each["billing_period"]) for each in listed] == [
        ("invoice", "2026-10"),
        ("credit-note", "2026-11"),
    ]
    shown = sheet(made)
    assert (shown.title, shown.due, shown.payment) == (
        "Credit note",
        ("Owed to you", "USD 9.52"),
        (),
    )
    assert "Due" not in dict(shown.facts)
    assert sheet(structs.replace(made, status="draft")).title == "Draft credit note"


def test_a_month_below_zero_is_that_months_document(
    house: House, office: Ledger, cards: RateCards
) -> None:
    """Issued once, it has the place of the month, and the next one goes on from it."""
    made = november(house.ledger, office, cards)
    again = closing.issued(office, cards, "acme", NOVEMBER, LATER)
    assert canonical(again or made) == canonical(made)
    december = NOVEMBER.following
    house.ledger.post(usage("u4", day="2026-12-03", requests=100))
    closing.close(office, "acme", december, LATER)
    following = closing.issued(office, cards, "acme", december, LATER)
    assert following is not None
    assert (following.kind, following.total) == ("invoice", "1.19")
    assert following.events.count == 1


def test_a_month_below_zero_is_taken_back_by_an_invoice(
    house: House, office: Ledger, cards: RateCards
) -> None:
    """To the coin and with its tax, once; it has as long to be paid as any."""
    made = november(house.ledger, office, cards)
    back = closing.credit_note(office, "acme", made.number, now=LATER, reason="A slip")
    assert (back.kind, back.refers, back.number) == (
        "invoice",
        "acme-000002",
        "acme-000003",
    )
    assert (back.total_minor, back.tax_minor) == (-made.total_minor, -made.tax_minor)
    assert (back.issued, back.due) == ("2027-01-20", "2027-02-19")
    assert closing.invoice_of(house.ledger, "acme", NOVEMBER) == made
    told = house.get("invoices/acme-000003").get_json()
    assert (told["kind"], told["total"]) == ("invoice", "9.52")
    shown = dict(sheet(back).facts)
    assert (sheet(back).title, sheet(back).due[0]) == ("Invoice", "Amount due")
    assert shown["Takes back credit note"] == "acme-000002"
    assert "Minimum charge" not in as_html(back)
    rows = list(focus.rows(back))
    assert [broken(row) for row in rows] == [[] for _ in rows]
    assert {row["ChargeClass"] for row in rows} == {"Correction"}
    assert {row["BillingPeriodStart"] for row in rows} == {"2027-01-01T00:00:00Z"}
    assert sum(Decimal(row["BilledCost"] or 0) for row in rows) == Decimal("9.52")
    with pytest.raises(InvalidRequest, match="no more than was billed"):
        closing.credit_note(office, "acme", made.number, now=LATER, reason="Again")


def below_zero(cards: RateCards) -> Invoice:
    """Return such a month's document; it gives back of a minimum, too."""
    late = tuple(
        Late(
            month,
            metered(cards, used(request=before), period=month),
            metered(cards, used(request=after), period=month),
        )
        for month, before, after in ((OCTOBER.preceding, 30, 40), (OCTOBER, 1000, 1001))
    )
    month = metered(cards, used(request=70))
    drafted = draft(
        Bill(tenant="acme", period=NOVEMBER, metered=month, late=late), cards
    )
    return issue(drafted, "acme-000002", date(2026, 12, 4), 14)


def taken_back(
    invoice: Invoice, amounts: dict[int, int] | None, earlier: list[Invoice]
) -> Invoice:
    return credit_note(
        invoice,
        earlier,
        number=f"acme-{3 + len(earlier):06d}",
        issued=date(2026, 12, 10),
        reason="A slip",
        amounts=amounts,
    )


def test_a_line_is_taken_back_as_what_it_was(cards: RateCards) -> None:
    """A minimum that was given back is an adjustment, not a credit."""
    invoice = below_zero(cards)
    (number,) = (
        n
        for n, line in enumerate(invoice.lines, 1)
        if line.kind == "correction" and not line.sku
    )
    assert invoice.lines[number - 1].amount_minor < 0
    minor = invoice.lines[number - 1].amount_minor
    back = taken_back(invoice, {number: minor}, [])
    (row, *_) = focus.rows(back)
    assert (row["ChargeCategory"], row["BilledCost"]) == ("Adjustment", "0.10")
    assert sheet(back).sections[0].rows[0].what == "Minimum charge"


WANTED = st.lists(
    st.dictionaries(st.integers(1, 7), st.integers(-1100, 200), min_size=1), max_size=4
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=WANTED)
def test_what_takes_back_never_goes_past_zero(
    wanted: list[dict[int, int]], cards: RateCards
) -> None:
    """Of no line and not in all; the last one takes back the rest, to the coin."""
    invoice = below_zero(cards)
    made: list[Invoice] = []
    for amounts in wanted:
        with suppress(InvalidRequest):
            made.append(taken_back(invoice, amounts, made))
    for n, line in enumerate(invoice.lines, 1):
        back = [x.amount_minor for m in made for x in m.lines if x.refers == str(n)]
        assert abs(line.amount_minor + sum(back)) <= abs(line.amount_minor)
    assert all(each.total_minor >= 0 for each in made)
    assert sum(each.total_minor for each in made) <= -invoice.total_minor
    made.append(taken_back(invoice, None, made))
    assert sum(each.total_minor for each in made) == -invoice.total_minor
    assert sum(each.tax_minor for each in made) == -invoice.tax_minor


def test_more_is_not_given_back_of_what_gave_back(cards: RateCards) -> None:
    """What was used in such a month is not taken back by itself."""
    invoice = below_zero(cards)
    used_line = invoice.lines[0]
    assert used_line.amount_minor > 0
    with pytest.raises(InvalidRequest, match="no more than was billed"):
        taken_back(invoice, {1: used_line.amount_minor}, [])


def test_a_document_from_before_is_taken_back_too(cards: RateCards) -> None:
    """One below zero that was issued as an invoice is still that month's."""
    invoice = structs.replace(below_zero(cards), kind="invoice")
    assert parse(canonical(invoice)) == invoice
    back = taken_back(invoice, None, [])
    assert (back.kind, back.total_minor) == ("invoice", -invoice.total_minor)
