"""The invoices at the door: drafts, issued ones, in the form that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from functions.billing import closing
from functions.billing.canonical import canonical
from functions.billing.rates import RateCards
from tests.billing.house import BOTH
from tests.billing.test_billing_closing import CLOSING, OCTOBER, usage

if TYPE_CHECKING:
    from functions.billing.invoice import Invoice
    from functions.billing.ledger import Ledger
    from tests.billing.house import House

DATABASES = BOTH


@pytest.fixture
def issued(house: House, office: Ledger) -> Invoice:
    """Return acme's invoice of October, of which other has one, too."""
    for tenant in ("acme", "other"):
        house.ledger.post(usage("u1", tenant=tenant, requests=100_000))
        closing.close(office, tenant, OCTOBER, CLOSING)
        closing.issued(office, RateCards.load(), tenant, OCTOBER, CLOSING)
    found = closing.invoice_of(house.ledger, "acme", OCTOBER)
    assert found is not None
    return found


def read(house: House, path: str, accept: str = "", tenant: str = "acme") -> Any:
    """Return the answer to acme's token."""
    headers = {"Authorization": "Bearer acme", "Accept": accept or "*/*"}
    return house.client.get(f"/v1/tenants/{tenant}/{path}", headers=headers)


def test_an_issued_invoice_has_the_place_of_the_draft(
    house: House, issued: Invoice
) -> None:
    """By its month and by its number, word for word; other months are drafts."""
    by_month = read(house, "invoices/2026-10").get_json()
    assert by_month == read(house, f"invoices/{issued.number}").get_json()
    assert by_month["number"] == issued.number == "acme-000001"
    assert canonical(issued).decode().count('"status":"issued"') == 1
    assert read(house, "invoices/2026-11").get_json()["status"] == "draft"


@pytest.mark.parametrize(
    ("accept", "begins"),
    [
        ("text/html", b"<!doctype html>"),
        ("application/pdf", b"%PDF"),
        ("text/csv", b"invoice,"),
        ("application/json", b"{"),
        ("", b"{"),
    ],
)
def test_an_invoice_comes_in_the_form_that_is_asked_for(
    house: House, issued: Invoice, accept: str, begins: bytes
) -> None:
    """And says of itself which it is."""
    answer = read(house, f"invoices/{issued.number}", accept)
    assert answer.status_code == 200
    assert answer.data[:20].lower().startswith(begins.lower())
    assert answer.mimetype == (accept or "application/json")
    assert answer.headers["Vary"] == "Accept"


def test_a_tenant_lists_what_it_was_sent(house: House, issued: Invoice) -> None:
    """Its own documents, in the order of their numbers."""
    listed = read(house, "invoices").get_json()["invoices"]
    assert [each["number"] for each in listed] == [issued.number]
    assert listed[0]["total"] == issued.total


def test_attack_a_tenant_that_is_called_as_a_year(house: House) -> None:
    """Its months are months, and its numbers are numbers."""
    year = "2026"
    found = house.get("invoices/2026-10", tenant=year, token=year)
    assert (found.status_code, found.get_json()["period"]) == (200, "2026-10")
    none = house.get("invoices/2026-000001", tenant=year, token=year)
    assert none.status_code == 404


def test_attack_another_tenants_invoice(house: House, issued: Invoice) -> None:
    """Its path is not there, and its number names nothing."""
    assert issued.tenant == "acme"
    assert read(house, "invoices/2026-10", tenant="other").status_code == 404
    assert read(house, "invoices", tenant="other").status_code == 404
    assert read(house, "invoices/other-000001").status_code == 400
    assert read(house, "invoices/acme-000002").status_code == 404
