"""Credit notes: what was issued is taken back, never beyond it, tax to the coin."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from functions.billing.canonical import canonical
from functions.billing.drafting import Bill, draft
from functions.billing.invoice import issue, number, parse
from functions.billing.notes import credit_note, returned
from functions.billing.rates import RateCards
from functions.problems import InvalidRequest
from tests.billing.bills import ISSUED, bill, cards, issued
from tests.billing.prices import HEAD, NOVEMBER, PRICES, cards_of, metered, used

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.billing.invoice import Invoice

GOLDEN = Path(__file__).with_name("golden")


def note(
    invoice: Invoice,
    amounts: Mapping[int, int] | None = None,
    earlier: Sequence[Invoice] = (),
) -> Invoice:
    return credit_note(
        invoice,
        earlier,
        number=number("acme", 8 + len(earlier)),
        issued=date(2026, 12, 10),
        reason="An outage on 12 November",
        amounts=amounts,
    )


def charged(invoice: Invoice) -> dict[int, int]:
    """Return the coins of each line that may be taken back in part."""
    return {
        n: line.amount_minor
        for n, line in enumerate(invoice.lines, start=1)
        if line.kind != "tax" and line.amount_minor > 0
    }


def test_a_note_takes_back_a_part_of_a_line_and_its_tax() -> None:
    """It is negative, refers to the invoice and its line, and says why."""
    invoice = issued()
    taken = note(invoice, {2: 1000})
    assert (taken.kind, taken.refers, taken.reason) == (
        "credit-note",
        invoice.number,
        "An outage on 12 November",
    )
    assert [(line.kind, line.refers, line.amount) for line in taken.lines] == [
        ("credited", "2", "-10.00"),
        ("tax", "", "-1.90"),
    ]
    assert (taken.net, taken.tax, taken.total) == ("-10.00", "-1.90", "-11.90")
    assert taken.lines[0].sku == invoice.lines[1].sku
    assert (taken.status, taken.number, taken.issued) == (
        "issued",
        "acme-000008",
        "2026-12-10",
    )


def test_a_note_without_amounts_takes_back_all_and_returns_the_credits() -> None:
    """To the coin, tax too; the credits' ledger gets its entries."""
    invoice = issued()
    whole = note(invoice)
    assert whole.total_minor == -invoice.total_minor
    assert whole.tax_minor == -invoice.tax_minor
    back = {entry.credit: entry for entry in returned(invoice, whole)}
    assert {name: e.amount_minor for name, e in back.items()} == {
        "pilot": 5000,
        "welcome": 1250,
    }
    assert {(e.kind, e.document) for e in back.values()} == {("returned", whole.number)}
    assert returned(invoice, note(invoice, {2: 1000})) == []


@given(
    st.lists(
        st.dictionaries(st.integers(1, 4), st.integers(1, 9000), min_size=1),
        max_size=4,
    )
)
def test_notes_together_never_exceed_the_invoice(
    wanted: list[dict[int, int]],
) -> None:
    """Of no line and not in all; the last one takes back the rest, to the coin."""
    invoice = issued()
    lines = charged(invoice)
    notes: list[Invoice] = []
    for amounts in wanted:
        try:
            notes.append(note(invoice, amounts, notes))
        except InvalidRequest:
            continue
    for n, billed in lines.items():
        taken = [
            x.amount_minor for each in notes for x in each.lines if x.refers == str(n)
        ]
        assert -sum(taken) <= billed
    assert -sum(each.total_minor for each in notes) <= invoice.total_minor
    notes.append(note(invoice, None, notes))
    assert -sum(each.total_minor for each in notes) == invoice.total_minor
    assert -sum(each.tax_minor for each in notes) == invoice.tax_minor
    with pytest.raises(InvalidRequest, match="no more than was billed"):
        note(invoice, None, notes)


def test_many_small_notes_take_back_no_more_tax_than_there_is(tmp_path: Path) -> None:
    """Each is taxed on the sum so far, so no rounding is won a hundred times."""
    text = HEAD + 'tax = { name = "VAT", rate = "0.5" }' + PRICES
    found = cards_of(tmp_path, text)
    month = metered(found, used(request=250))
    invoice = issue(
        draft(Bill(tenant="acme", period=NOVEMBER, metered=month), found),
        "a-1",
        ISSUED,
        0,
    )
    assert (invoice.net_minor, invoice.tax_minor) == (10, 5)
    notes: list[Invoice] = []
    for _ in range(10):
        notes.append(note(invoice, {1: 1}, notes))
    assert [each.tax_minor for each in notes] == [-1, 0] * 5


def test_what_was_partly_paid_by_credits_is_not_paid_out(tmp_path: Path) -> None:
    """A line of more than the payable cannot be taken back beyond the payable."""
    invoice = issued()
    lines = charged(invoice)
    with pytest.raises(InvalidRequest, match="no more than was billed"):
        note(invoice, lines)


@pytest.mark.parametrize(
    "amounts",
    [{}, {1: 0}, {1: -5}, {1: 10**9}, {99: 1}, {0: 1}, {5: 1}, {12: 1}, {14: 1}],
)
def test_a_note_takes_back_only_what_is_there(amounts: dict[int, int]) -> None:
    """No line, nothing, a minus, too much, a credit's line, the tax's line."""
    with pytest.raises(InvalidRequest, match=r"take back|takes back"):
        note(issued(), amounts)


def test_only_an_issued_invoice_is_taken_back() -> None:
    """A draft is changed, and a credit note is not credited."""
    invoice = issued()
    for wrong in (draft(bill(), cards()), note(invoice)):
        with pytest.raises(InvalidRequest, match="that was issued"):
            note(wrong)


def test_an_earlier_note_is_on_the_same_invoice() -> None:
    """What was taken back of another one does not count here."""
    invoice = issued()
    other: Any = structs.replace(note(invoice, {2: 5}), refers="acme-000001")
    with pytest.raises(InvalidRequest, match="another invoice"):
        note(invoice, {2: 5}, [other])


def test_an_untaxed_invoice_is_taken_back_without_tax() -> None:
    """No tax line where there was none."""
    found = RateCards.load()
    month = metered(found, used(request=2500))
    drafted = draft(Bill(tenant="acme", period=NOVEMBER, metered=month), found)
    taken = note(issue(drafted, "acme-000001", ISSUED, 0))
    assert [(each.kind, each.amount) for each in taken.lines] == [("credited", "-1.00")]


def test_a_note_is_these_bytes() -> None:
    """Golden: what is stored for ever."""
    kept = (GOLDEN / "credit-note-v1.json").read_bytes().rstrip(b"\n")
    made = note(issued(), {2: 1000})
    assert canonical(made) == kept
    assert parse(kept) == made
