"""FOCUS 1.2: its columns, its rules, and a sum that is the payable."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.billing import exports, focus
from functions.billing.drafting import draft
from functions.billing.rating import Meter
from tests.billing.bills import bill, cards, issued, spans
from tests.billing.focus_rules import (
    ALLOWED,
    CONDITIONAL,
    MANDATORY,
    OTHERS,
    RULES,
    broken,
)
from tests.billing.prices import HEAD, NOVEMBER, PRICES, cards_of, used
from tests.billing.test_billing_invoice import simple
from tests.billing.test_billing_notes import note

if TYPE_CHECKING:
    from functions.billing.invoice import Invoice

GOLDEN = Path(__file__).with_name("golden")


def documents(tmp_path: Path) -> list[Invoice]:
    """Return invoices and notes with every kind of line."""
    least = cards_of(tmp_path, HEAD + 'minimum = "5.00"' + PRICES)
    sent = issued()
    return [
        *(sent, note(sent), note(sent, {2: 1000})),
        *(draft(bill(), cards()), simple(least, used(request=10))),
    ]


def test_every_column_is_one_of_focus_or_ours() -> None:
    """All mandatory ones, the conditional ones that apply; ours begin with `x_`."""
    columns = set(focus.COLUMNS)
    assert columns >= MANDATORY | CONDITIONAL
    ours = columns - MANDATORY - CONDITIONAL - OTHERS
    assert all(re.fullmatch(r"x_[A-Z][A-Za-z]+", name) for name in ours)
    assert len(columns) == len(focus.COLUMNS)


def test_every_row_keeps_every_rule(tmp_path: Path) -> None:
    """Usage, minimum, correction, credit, tax; of drafts and credit notes too."""
    seen = set()
    for document in documents(tmp_path):
        for row in focus.rows(document):
            assert broken(row) == [], row
            seen.add((row["ChargeCategory"], row["ChargeClass"]))
    assert seen >= {
        *(("Usage", None), ("Tax", None), ("Credit", None), ("Adjustment", None)),
        *(("Usage", "Correction"), ("Tax", "Correction"), ("Credit", "Correction")),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"BilledCost": None},
        {"ChargeDescription": ""},
        {"BilledCost": "+3"},
        {"BilledCost": "1,000"},
        {"BillingPeriodStart": "2026-11-01"},
        {"PricingUnit": "seconds"},
        {"BillingCurrency": "usd"},
        {"SkuPriceDetails": '{"Tier": 1}'},
        {"ChargeCategory": "Usages"},
        {"ServiceSubcategory": "Bots"},
        {"SkuId": None, "SkuMeter": None},
        {"ChargeCategory": "Tax", "ConsumedQuantity": None, "ConsumedUnit": None},
        {"PricingUnit": None},
        {"ChargeCategory": "Adjustment"},
        {"ListCost": "1"},
        {"ContractedCost": "0.01"},
        {"ListUnitPrice": "-1", "ListCost": "-3120400.412"},
        {"ChargeCategory": "Purchase", "ConsumedQuantity": None, "ConsumedUnit": None},
        {"ChargePeriodEnd": "2026-11-01T00:00:00Z"},
    ],
)
def test_the_rules_find_what_breaks_them(changes: dict[str, str | None]) -> None:
    """The test above can fail: each change of a good row breaks a rule."""
    good = next(iter(focus.rows(issued())))
    assert broken(good) == []
    assert broken({**good, **changes})


def test_each_rule_can_be_broken() -> None:
    """A credit's costs are what it is billed at; every rule says what it is."""
    row = next(r for r in focus.rows(issued()) if r["ChargeCategory"] == "Credit")
    assert broken({**row, "ListCost": "1"})
    assert all(rule.__doc__ for rule in RULES)
    assert all(ALLOWED.values())


@given(
    st.dictionaries(
        st.sampled_from(
            [Meter("cpu.exec"), Meter("request"), Meter("gpu.exec", "NVIDIA L4")]
        ),
        st.integers(0, 10**15).map(lambda n: Decimal(n).scaleb(-6)),
    ),
    st.booleans(),
)
def test_the_sum_of_billed_cost_is_the_payable(
    found: dict[Meter, Decimal],
    late: bool,  # noqa: FBT001  # drawn by hypothesis
) -> None:
    """Exactly, of every invoice and of every credit note on it."""
    changes = {} if late else {"late": ()}
    invoice = issued(metered=spans(cards(), NOVEMBER, found), **changes)
    notes = [note(invoice)] if invoice.total_minor > 0 else []
    for document in (invoice, *notes):
        rows = list(focus.rows(document))
        billed = sum((Decimal(row["BilledCost"] or 0) for row in rows), Decimal(0))
        assert billed == Decimal(document.total)
        assert focus.payable(rows, document.minor_digits) == document.total
        assert {row["InvoiceId"] for row in rows} == {document.number}


def test_a_draft_is_of_no_invoice_yet() -> None:
    """InvoiceId is null until there is one."""
    assert {row["InvoiceId"] for row in focus.rows(draft(bill(), cards()))} == {None}


def test_a_tax_costs_its_rate_of_what_it_taxes_at_list_prices() -> None:
    """As the format asks of charges that rest on others."""
    rows = list(focus.rows(issued()))
    (tax,) = [row for row in rows if row["ChargeCategory"] == "Tax"]
    listed = sum(
        (Decimal(row["ListCost"] or 0) for row in rows if row is not tax), Decimal(0)
    )
    assert Decimal(tax["ListCost"] or 0) == listed * Decimal("0.19")


def test_a_correction_is_charged_where_it_belongs_and_billed_now() -> None:
    """Its charge period is the month it corrects."""
    rows = [row for row in focus.rows(issued()) if row["ChargeClass"] == "Correction"]
    assert {row["ChargePeriodStart"] for row in rows} == {"2026-10-01T00:00:00Z"}
    assert {row["BillingPeriodStart"] for row in rows} == {"2026-11-01T00:00:00Z"}


def test_an_issuer_that_is_not_named_is_guise(tmp_path: Path) -> None:
    """Names are never null; a tenant without a name is called by its id."""
    found = cards_of(tmp_path, HEAD + PRICES)
    (row,) = focus.rows(simple(found, used(request=10)))
    assert (row["ProviderName"], row["BillingAccountName"]) == ("Guise", "acme")


def test_the_files_are_these() -> None:
    """Golden: FOCUS and plain CSV of one invoice, and a reader gets the rows back."""
    sent = issued()
    for name, text in {
        "invoice-v1.focus.csv": focus.as_csv([sent]),
        "invoice-v1.csv": exports.as_csv([sent]),
    }.items():
        assert (GOLDEN / name).read_bytes().decode() == text
        read = list(csv.DictReader(io.StringIO(text, newline="")))
        assert len(read) == len(sent.lines)
    again = csv.DictReader(io.StringIO(focus.as_csv([sent]), newline=""))
    shown = [{n: v or None for n, v in row.items()} for row in again]
    assert shown == list(focus.rows(sent))


def test_the_lines_of_a_csv_add_up() -> None:
    """As those of the invoice do."""
    rows = csv.DictReader(io.StringIO(exports.as_csv([issued(), issued()])))
    assert sum(int(row["amount_minor"]) for row in rows) == 2 * issued().total_minor


def test_json_is_what_is_stored() -> None:
    """No second form of an invoice."""
    kept = (GOLDEN / "invoice-v1.json").read_bytes().rstrip(b"\n")
    assert exports.as_json(issued()) == kept


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1+1", "-1+1", "@sum", "\tx", "=cmd|' /C'!A0", "\n=1", "\uff1d1+1"],
)
def test_attack_a_gpu_named_as_a_formula(text: str) -> None:
    """A spreadsheet shows it and does not run it; a negative number stays one."""
    shown = exports.csv_of(("a", "b"), [(text, "-1.5")])
    (row,) = list(csv.reader(io.StringIO(shown, newline="")))[1:]
    assert row == [f"'{text}", "-1.5"]
