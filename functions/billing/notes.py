"""Credit notes: the only way in which what was issued is taken back.  Pure.

A note refers to one invoice and to its lines by their number, from 1.  All notes on
an invoice together never take back more than it billed, of any line or in all; once
everything is taken back, so is its tax to the coin.

A period that came to less than nothing was a credit note itself.  It is taken back in
the same way with every sign turned round, and what does that is an invoice.

A note that should not have been is reversed as a whole, once, and counts no more.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import TYPE_CHECKING, Any

from functions.billing.credits import Entry
from functions.billing.invoice import Line, assemble, issue, tax_line, tax_minor
from functions.billing.money import coins
from functions.billing.rates import UNTAXED
from functions.problems import Conflict, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from functions.billing.invoice import Invoice
    from functions.billing.rates import Tax


def credit_note(
    invoice: Invoice,
    earlier: Sequence[Invoice],
    *,
    number: str,
    issued: date,
    reason: str,
    amounts: Mapping[int, int] | None = None,
) -> Invoice:
    """Return the note that takes back `amounts` of an issued invoice's lines.

    `amounts` are smallest coins before tax by the line's number, of the line's own
    sign; left out, all that `earlier` notes on it left is taken back, and credits are
    returned.  Raises `InvalidRequest` for what is not there to be taken back.
    """
    if invoice.refers or invoice.status != "issued":
        raise InvalidRequest("a credit note refers to an invoice that was issued")
    left = _left(invoice, earlier)
    chosen = left if amounts is None else _chosen(invoice, left, amounts)
    lines = [_credited(invoice, each, minor) for each, minor in chosen.items() if minor]
    lines += _taxes(invoice, earlier, lines)
    note = assemble(lines, invoice.minor_digits, _fields(invoice, reason))
    before = -sum(each.total_minor for each in earlier)
    # Where credits had paid all of it, it takes back nothing, and returns them.
    if not lines or not _between(before, before - note.total_minor, invoice):
        raise InvalidRequest("a credit note takes back no more than was billed")
    return issue(note, number, issued, _days_to_pay(invoice, note))


def _between(before: int, after: int, invoice: Invoice) -> bool:
    """Return whether what is taken back goes on towards the total, and not past it."""
    total = invoice.total_minor
    return before <= after <= total if total >= 0 else total <= after <= before


def _days_to_pay(invoice: Invoice, note: Invoice) -> int:
    """Return none for what gives back, else as many as what it takes back had."""
    if note.kind == "credit-note":
        return 0
    due, issued = (date.fromisoformat(each) for each in (invoice.due, invoice.issued))
    return (due - issued).days


def reversal(
    invoice: Invoice, note: Invoice, *, number: str, issued: date, reason: str
) -> Invoice:
    """Return what reverses a note on `invoice`: line by line, with the sign turned.

    Raises `InvalidRequest` where that is none.
    """
    if note.refers != invoice.number or invoice.refers:
        raise InvalidRequest("what reverses a credit note is not taken back itself")
    lines = [_turned(note, each) for each in range(1, len(note.lines) + 1)]
    made = assemble(lines, note.minor_digits, _fields(note, reason))
    return issue(made, number, issued, _days_to_pay(invoice, made))


def _turned(note: Invoice, number: int) -> Line:
    line = note.lines[number - 1]
    if line.kind == "tax":
        base = -(line.base_minor or 0)
        minor = -line.amount_minor
        return tax_line(line.period, line.tax, base, minor, note.minor_digits)
    return _credited(note, number, line.amount_minor)


def _fields(invoice: Invoice, reason: str) -> dict[str, Any]:
    """Return what a document that takes another one back says of it."""
    return {
        "tenant": invoice.tenant,
        "period": invoice.period,
        "currency": invoice.currency,
        "refers": invoice.number,
        "reason": reason,
        "issuer": invoice.issuer,
        "customer": invoice.customer,
    }


def taken_again(
    returned_: Iterable[Entry], made: Invoice, left: Mapping[str, int]
) -> list[Entry]:
    """Return the entries that take again what a note had `returned_` of credits.

    `left` is what is left of each.  Raises `Conflict` where that is not enough.
    """
    found = []
    for each in returned_:
        if left.get(each.credit, 0) < each.amount_minor:
            raise Conflict(f"credit {each.credit}, which it returned, is used up since")
        found.append(
            Entry(
                id=f"applied {made.number}",
                credit=each.credit,
                kind="applied",
                amount_minor=-each.amount_minor,
                document=made.number,
            )
        )
    return found


def returned(invoice: Invoice, note: Invoice) -> list[Entry]:
    """Return the entries that give the invoice's credits back, if the note does."""
    found: defaultdict[str, int] = defaultdict(int)
    for line in note.lines:
        if line.kind == "credited" and line.amount_minor > 0:
            credited = invoice.lines[int(line.refers) - 1]
            if credited.kind == "credit":
                found[credited.refers] += line.amount_minor
    return [
        Entry(
            id=f"returned {note.number}",
            credit=credit,
            kind="returned",
            amount_minor=minor,
            document=note.number,
        )
        for credit, minor in sorted(found.items())
    ]


def applied(invoice: Invoice) -> list[Entry]:
    """Return the entries by which an issued invoice uses credits up."""
    found: defaultdict[str, int] = defaultdict(int)
    for line in invoice.lines:
        if line.kind == "credit":
            found[line.refers] += line.amount_minor
    return [
        Entry(
            id=f"applied {invoice.number}",
            credit=credit,
            kind="applied",
            amount_minor=minor,
            document=invoice.number,
        )
        for credit, minor in sorted(found.items())
    ]


def _left(invoice: Invoice, earlier: Sequence[Invoice]) -> dict[int, int]:
    """Return what is left of each line but the taxes, by its number."""
    left = {
        number: line.amount_minor
        for number, line in enumerate(invoice.lines, start=1)
        if line.kind != "tax"
    }
    for note in earlier:
        if note.refers != invoice.number:
            raise InvalidRequest(f"{note.number} refers to another invoice")
        for line in note.lines:
            if line.kind == "credited":
                left[int(line.refers)] += line.amount_minor
    return left


def _chosen(
    invoice: Invoice, left: Mapping[int, int], amounts: Mapping[int, int]
) -> dict[int, int]:
    for number, minor in amounts.items():
        rest = left.get(number, 0)
        held = 0 < minor <= rest or rest <= minor < 0
        # Credits come back with the whole alone.
        if not held or invoice.lines[number - 1].kind == "credit":
            raise InvalidRequest(f"line {number} has not that much to take back")
    return dict(sorted(amounts.items()))


def _credited(invoice: Invoice, number: int, minor: int) -> Line:
    line = invoice.lines[number - 1]
    return Line(
        kind="credited",
        period=line.period,
        sku=line.sku,
        model=line.model,
        rate_card=line.rate_card,
        amount=coins(-minor, invoice.minor_digits),
        amount_minor=-minor,
        tax=line.tax,
        refers=str(number),
    )


def _taxes(
    invoice: Invoice, earlier: Sequence[Invoice], lines: Sequence[Line]
) -> list[Line]:
    """Return the tax on what is taken back.

    It is the tax on all that the notes took back together, less what earlier ones
    did, so roundings never add up.
    """
    bases: defaultdict[Tax, int] = defaultdict(int)
    for line in lines:
        bases[line.tax] += line.amount_minor
    found = []
    for tax, base in sorted(bases.items()):
        if tax == UNTAXED:
            continue
        before = [
            each
            for note in earlier
            for each in note.lines
            if each.kind == "tax" and each.tax == tax
        ]
        base_before = sum(each.base_minor or 0 for each in before)
        minor = tax_minor(tax, base + base_before)
        minor -= sum(each.amount_minor for each in before)
        period, digits = invoice.period, invoice.minor_digits
        found.append(tax_line(period, tax, base, minor, digits))
    return found
