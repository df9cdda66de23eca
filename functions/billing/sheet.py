"""An invoice as it is laid out on paper: words, groups and figures, no markup.  Pure.

HTML and PDF print the same sheet, so they say the same.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from functions.billing.invoice import Invoice, Line, Period
from functions.billing.money import EXACT, coins, plain

if TYPE_CHECKING:
    from functions.billing.rates import Party, Tax

NAMES: Final = {
    "cpu.exec": "CPU time",
    "gpu.exec": "GPU time",
    "gpu.idle": "Reserved GPU, idle",
    "gpu.load": "Loading models",
    "request": "Requests",
    "storage": "Storage",
}
UNITS: Final = {"second": "s", "request": "", "gib-month": "GiB-months"}
_MINUS: Final = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `detail` is printed small, under what it is for."""

    what: str
    detail: str
    quantity: str
    price: str
    amount: str


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under one heading."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything that is printed, in the order in which it is."""

    title: str
    issuer: Party
    customer: Party
    facts: tuple[tuple[str, str], ...]
    due: tuple[str, str]
    """What the large figure is, and the figure."""
    reason: str
    sections: tuple[Section, ...]
    sums: tuple[tuple[str, str], ...]
    total: tuple[str, str]
    notes: tuple[str, ...]
    payment: tuple[str, ...]
    """Where to pay to; nothing where nothing is to be paid."""
    evidence: tuple[tuple[str, str], ...]


def sheet(invoice: Invoice) -> Sheet:
    """Return what a print of an invoice, a draft or a credit note says."""
    owed = "Amount due" if invoice.total_minor >= 0 else "Owed to you"
    owed = "So far" if invoice.status == "draft" else owed
    figure = _money(abs(invoice.total_minor), invoice)
    return Sheet(
        title=_title(invoice),
        issuer=invoice.issuer,
        customer=invoice.customer,
        facts=tuple(_facts(invoice)),
        due=(owed, figure),
        reason=invoice.reason,
        sections=tuple(_sections(invoice)),
        sums=tuple(_sums(invoice)),
        total=("Total", _money(invoice.total_minor, invoice)),
        notes=tuple(_notes(invoice)),
        payment=invoice.issuer.payment if _payable(invoice) else (),
        evidence=tuple(_evidence(invoice)),
    )


def _payable(invoice: Invoice) -> bool:
    return invoice.status == "issued" and invoice.total_minor > 0


def _title(invoice: Invoice) -> str:
    kind = "Credit note" if invoice.kind == "credit-note" else "Invoice"
    return kind if invoice.status == "issued" else f"Draft {kind.lower()}"


def _facts(invoice: Invoice) -> list[tuple[str, str]]:
    gives = invoice.kind == "credit-note"
    facts = [
        ("Credit note no." if gives else "Invoice no.", invoice.number),
        ("Credits invoice" if gives else "Takes back credit note", invoice.refers),
        ("Date", _day(invoice.issued)),
        ("Due", "" if gives else _day(invoice.due)),
        ("Of period" if invoice.refers else "Period", month(invoice.period)),
        ("Account", invoice.tenant),
    ]
    return [(name, text) for name, text in facts if text]


def _day(text: str) -> str:
    return f"{date.fromisoformat(text):%-d %B %Y}" if text else ""


def month(period: str) -> str:
    """Return e.g. `November 2026`."""
    found = Period.parse(period)
    return f"{date(found.year, found.month, 1):%B %Y}"


def grouped(text: str) -> str:
    """Return decimal text with its thousands apart and a true minus: `1,234.50`."""
    whole, point, rest = text.removeprefix("-").partition(".")
    minus = _MINUS if text.startswith("-") else ""
    return f"{minus}{int(whole):,}{point}{rest}"


def _money(minor: int, invoice: Invoice) -> str:
    return f"{invoice.currency} {grouped(coins(minor, invoice.minor_digits))}"


def _sections(invoice: Invoice) -> list[Section]:
    """Return the lines under their headings; taxes are among the sums."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    usual = _cards(invoice)[:1]
    for line in invoice.lines:
        if line.kind != "tax":
            found[_heading(line)].append(_row(line, usual, invoice.refers))
    return [Section(title, tuple(rows)) for title, rows in found.items()]


def _cards(invoice: Invoice) -> list[str]:
    """Return the rate cards and contracts of the lines, each once, as they come."""
    cards = (line.rate_card for line in invoice.lines if line.rate_card)
    return list(dict.fromkeys(cards))


def _heading(line: Line) -> str:
    if line.kind == "correction":
        return f"Late usage of {month(line.period)}"
    if line.kind == "credited":
        return "Taken back"
    return "Credits" if line.kind == "credit" else f"Usage in {month(line.period)}"


def _row(line: Line, usual: list[str], refers: str) -> Row:
    if line.kind == "credit":
        what = line.note or f"Credit {line.refers}"
        return Row(what, f"credit {line.refers}", "", "", grouped(line.amount))
    what = ", ".join(each for each in (NAMES.get(line.sku, ""), line.model) if each)
    unit = UNITS.get(line.unit, "")
    return Row(
        what=what or _unnamed(line),
        detail=" \N{MIDDLE DOT} ".join(_details(line, usual, refers)),
        quantity=f"{grouped(line.quantity)} {unit}".strip() if line.quantity else "",
        price=grouped(line.unit_price) if line.quantity else "",
        amount=grouped(line.amount),
    )


def _unnamed(line: Line) -> str:
    if line.kind == "credited":
        return "Minimum charge" if line.rate_card else "Credits"
    return "Up to the minimum charge"


def _details(line: Line, usual: list[str], refers: str) -> list[str]:
    found = [f"line {line.refers} of {refers}"] if line.kind == "credited" else []
    if line.sku == "gpu.load":
        found.append("measured, never billed")
    if line.included:
        found.append("included")
    elif line.quantity and line.tier_from != "0":
        found.append(f"above {grouped(line.tier_from)}")
    if line.unit_price != line.list_price:
        found.append(f"list price {line.list_price}")
    if line.rate_card and line.rate_card not in usual:
        found.append(f"rate card {line.rate_card}")
    return found


def _sums(invoice: Invoice) -> list[tuple[str, str]]:
    """Return what leads to the total: net, credits, and each tax with its base."""
    taxes = [
        (
            f"{percent(line.tax)} on {_money(line.base_minor or 0, invoice)}",
            _money(line.amount_minor, invoice),
        )
        for line in invoice.lines
        if line.kind == "tax"
    ]
    if not (taxes or invoice.credits_minor):
        return []
    sums = [("Net", _money(invoice.net_minor, invoice))]
    if invoice.credits_minor:
        sums.append(("Credits", _money(invoice.credits_minor, invoice)))
    return sums + taxes


def percent(tax: Tax) -> str:
    """Return e.g. `VAT 19 %`."""
    return f"{tax.name} {plain(Decimal(tax.rate).scaleb(2, context=EXACT))} %"


def _notes(invoice: Invoice) -> list[str]:
    notes = [
        line.tax.note for line in invoice.lines if line.kind == "tax" and line.tax.note
    ]
    if invoice.status == "draft":
        notes.append("A draft: it is no demand for payment and may still change.")
    return notes


def _evidence(invoice: Invoice) -> list[tuple[str, str]]:
    """Return what lets a reader check the invoice against the events behind it."""
    found = [("Rate cards", ", ".join(_cards(invoice)))] if _cards(invoice) else []
    if invoice.events.count:
        found.append(("Usage events", _root(invoice.events.count, invoice.events.root)))
    if invoice.jobs.count:
        found.append(("Jobs", _root(invoice.jobs.count, invoice.jobs.root)))
    if invoice.log:
        found.append(("Receipts", f"in the audit log {invoice.log}, by job"))
    return found


def _root(count: int, root: str) -> str:
    return f"{count:,}, Merkle root {root}" if root else f"{count:,}"
