"""Invoices on paper: the same bytes, every figure on them, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from functions.billing.documents import as_html, as_pdf
from functions.billing.drafting import draft
from functions.billing.rates import Party, Tax
from functions.billing.sheet import Sheet, grouped, percent, sheet
from tests.billing.bills import bill, cards, issued
from tests.billing.prices import HEAD, PRICES, cards_of, used
from tests.billing.test_billing_invoice import simple
from tests.billing.test_billing_notes import note

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.invoice import Invoice


def empty() -> Invoice:
    return draft(bill(metered=(), late=(), credits=()), cards())


def documents() -> list[Invoice]:
    sent = issued()
    return [
        *(sent, note(sent), note(sent, {2: 1000})),
        *(draft(bill(), cards()), empty()),
    ]


def words(shown: Sheet) -> list[str]:
    """Return every word and figure of a sheet."""
    parties = (shown.issuer, shown.customer)
    texts = [
        *(shown.title, shown.reason, *shown.due, *shown.total, *shown.notes),
        *shown.payment,
        *(
            text
            for pair in (*shown.facts, *shown.sums, *shown.evidence)
            for text in pair
        ),
        *(text for who in parties for text in (who.name, *who.address, who.tax_id)),
        *(section.title for section in shown.sections),
        *(
            text
            for section in shown.sections
            for row in section.rows
            for text in (row.what, row.detail, row.quantity, row.price, row.amount)
        ),
    ]
    return [word for text in texts for word in text.split()]


def text_of_html(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", " ", body).replace("&amp;", "&")


def text_of_pdf(pdf: bytes) -> str:
    """Return what a PDF's pages draw in Helvetica, a space for each new place."""
    found = []
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        if stream.strip().endswith(b"~>"):
            drawn = zlib.decompress(base64.a85decode(stream.strip()[:-2]))
            found += re.findall(rb"\(((?:\\.|[^\\()])*)\) Tj|(BT|T\*)", drawn)
    joined = b"".join(text or (b" " if move else b"") for text, move in found)
    octal = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), joined)
    return re.sub(rb"\\(.)", rb"\1", octal).decode("cp1252", "replace")


def test_paper_says_all_that_the_sheet_does() -> None:
    """Every word and figure, on the page and in the PDF alike."""
    for document in documents():
        shown = words(sheet(document))
        page, pdf = text_of_html(as_html(document)), text_of_pdf(as_pdf(document))
        assert [word for word in shown if word not in page] == []
        dashed = [word.replace("\N{MINUS SIGN}", "\N{EN DASH}") for word in shown]
        assert [word for word in dashed if word not in pdf] == []


def test_the_same_invoice_gives_the_same_paper() -> None:
    """No time of making, no random id; and in another process, too."""
    code = (
        "import sys,hashlib;from tests.billing.bills import issued;"
        "from functions.billing.documents import as_html, as_pdf;"
        "print(hashlib.sha256(as_html(issued()).encode()+as_pdf(issued())).hexdigest())"
    )
    ours = hashlib.sha256(as_html(issued()).encode() + as_pdf(issued())).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ours


def test_the_sheet_has_each_line_and_the_sums() -> None:
    """Lines under headings in their order, tax with its base, and the payable."""
    shown = sheet(issued())
    assert [section.title for section in shown.sections] == [
        *("Usage in November 2026", "Late usage of October 2026", "Credits"),
    ]
    assert sum(len(section.rows) for section in shown.sections) == 13
    assert shown.sums == (
        ("Net", "EUR 1,035.09"),
        ("Credits", "EUR \N{MINUS SIGN}62.50"),
        ("VAT 19 % on EUR 972.59", "EUR 184.79"),
    )
    assert (shown.due, shown.total) == (
        ("Amount due", "EUR 1,157.38"),
        ("Total", "EUR 1,157.38"),
    )


def test_a_price_below_the_list_says_so() -> None:
    """And whose rate card it is, where it is not the one of the first line."""
    rows = {row.what: row for row in sheet(issued()).sections[0].rows}
    assert rows["GPU time, NVIDIA L4"].detail == (
        "list price 0.000222 \N{MIDDLE DOT} rate card acme-2026"
    )
    assert rows["CPU time"].detail == ""
    assert rows["Loading models, NVIDIA L4"].detail == "measured, never billed"


def test_a_credit_note_is_no_invoice() -> None:
    """It names the invoice and the reason, and asks for no payment."""
    shown = sheet(note(issued(), {2: 1000}))
    assert shown.title == "Credit note"
    assert dict(shown.facts)["Credits invoice"] == "acme-000007"
    assert "Due" not in dict(shown.facts)
    assert shown.due == ("Owed to you", "EUR 11.90")
    assert (shown.reason, shown.payment) == ("An outage on 12 November", ())
    assert shown.sections[0].rows[0].amount == "\N{MINUS SIGN}10.00"


def test_a_draft_is_no_demand(tmp_path: Path) -> None:
    """It has no number and no date, says that it is a draft, and names no account."""
    shown = sheet(draft(bill(), cards()))
    assert (shown.title, shown.payment) == ("Draft invoice", ())
    assert shown.due[0] == "So far"
    assert [name for name, _ in shown.facts] == ["Period", "Account"]
    assert "may still change" in shown.notes[-1]
    assert "Nothing was used." in as_html(empty())


def test_a_minimum_and_a_returned_credit_have_names(tmp_path: Path) -> None:
    """A line without a SKU still says what it is for."""
    least = cards_of(tmp_path, HEAD + 'minimum = "5.00"' + PRICES)
    (section,) = sheet(simple(least, used(request=10))).sections
    assert section.rows[1].what == "Up to the minimum charge"
    whole = note(issued())
    (taken,) = sheet(whole).sections
    assert [row.what for row in taken.rows][-2:] == ["Credits", "Credits"]
    assert sheet(simple(least, used(request=10))).sums == ()


def test_a_reverse_charge_is_printed(tmp_path: Path) -> None:
    """The customer has to read it."""
    text = 'tax = { name = "VAT", rate = "0", note = "Reverse charge" }'
    found = cards_of(tmp_path, HEAD + text + PRICES)
    invoice = simple(found, used(request=10_000))
    assert "Reverse charge" in sheet(invoice).notes
    assert "Reverse charge" in text_of_html(as_html(invoice))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0"),
        ("-0.50", "\N{MINUS SIGN}0.50"),
        ("1234567.000001", "1,234,567.000001"),
    ],
)
def test_figures_are_readable_and_exact(text: str, shown: str) -> None:
    """Thousands apart, a true minus, and no digit less."""
    assert grouped(text) == shown


def test_a_tax_is_a_percentage() -> None:
    """As people write it."""
    assert percent(Tax("GST", "0.075")) == "GST 7.5 %"


def renamed(name: str) -> Invoice:
    lines = tuple(structs.replace(each, model=name) for each in issued().lines)
    customer = Party(name, (f"{name} 1",))
    return structs.replace(issued(), customer=customer, reason=name, lines=lines)


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "{{ 7 * 7 }}",
        "</style><b>",
        "<para><font size=99>x</font>",
        "A & B &lt; C",
    ],
)
def test_attack_a_customer_named_as_markup(name: str) -> None:
    """It is printed as it is, on the page and in the PDF."""
    page = as_html(renamed(name))
    body = page[page.index("<body>") :]
    assert not re.search(r"<(script|img|b|para|font)\b", body)
    assert "49" not in re.findall(r"<strong>(.*?)</strong>", body)
    pdf = text_of_pdf(as_pdf(renamed(name)))
    for word in name.split():
        assert word in pdf


def test_attack_text_that_turns_what_follows_round() -> None:
    """A control that readers do not see is named instead."""
    page = as_html(renamed("EUR \u202e000,1\x00"))
    assert "\u202e" not in page
    assert "\u27e8U+202E\u27e9" in page
    assert b"%PDF" in as_pdf(renamed("EUR \u202e000,1\x00"))[:8]


def test_the_page_needs_nothing_but_itself() -> None:
    """No script, no address, and a policy that allows the one stylesheet."""
    page = as_html(issued())
    assert not re.search(r"(?i)<(script|link|img|iframe)|https?://|url\(|@import", page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in page.replace(
        "&#39;", "'"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Łódź", "\u0141 ódz"), ("Žižkov", "Žižkov"), ("日本", "??"), ("Жук", "???")],
)
def test_a_pdf_prints_letters_that_helvetica_lacks(name: str, shown: str) -> None:
    """From another typeface, without its accent, or as a question mark; never a gap."""
    pdf = as_pdf(renamed(name))
    drawn = text_of_pdf(pdf)
    if "\u0141" in shown:
        assert b"Vera" in pdf
        shown = "ódz"
    assert shown in drawn
    assert name in as_html(renamed(name))


def test_a_long_invoice_has_numbered_pages() -> None:
    """Each page has the table's head and its number of all."""
    lines = issued().lines
    long = structs.replace(issued(), lines=lines[:11] * 12 + lines[11:])
    drawn = text_of_pdf(as_pdf(long))
    pages = re.findall(r"(\d+) / (\d+)", drawn)
    assert len(pages) > 2
    assert pages == [(str(n), str(len(pages))) for n in range(1, len(pages) + 1)]
    assert drawn.count("Description") >= len(pages) - 1


def test_reportlab_is_imported_for_a_pdf_alone() -> None:
    """The door prints pages without it."""
    code = (
        "import sys;from tests.billing.bills import issued;"
        "from functions.billing.documents import as_html;as_html(issued());"
        "print('reportlab' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
