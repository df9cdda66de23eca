"""Invoices as files for other programs: JSON, and CSV with a row a line.  Pure."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Final

from functions.billing.canonical import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.billing.invoice import Invoice, Line

COLUMNS: Final = (
    *("invoice", "tenant", "period", "currency", "line", "kind", "charge_period"),
    *("sku", "model", "quantity", "unit", "unit_price", "list_price", "tier_from"),
    *("included", "rate_card", "exact", "amount", "amount_minor", "tax_name"),
    *("tax_rate", "refers", "note", "corrects"),
)
LISTED: Final = (
    *("number", "kind", "period", "billing_period", "issued", "due", "refers"),
    *("currency", "total"),
)
# What a spreadsheet would run instead of showing it; a number is none.
# The wide forms count as the narrow ones in some; see OWASP's "CSV Injection".
_FORMULA: Final = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def as_json(invoice: Invoice) -> bytes:
    """Return the bytes that are stored for ever, RFC 8785."""
    return canonical(invoice)


def listed(invoice: Invoice) -> dict[str, str]:
    """Return what a list of documents says of one."""
    return {name: getattr(invoice, name) for name in LISTED}


def as_csv(invoices: Iterable[Invoice]) -> str:
    """Return a row for each line of invoices and credit notes."""
    return csv_of(
        COLUMNS,
        (
            _row(invoice, number, line)
            for invoice in invoices
            for number, line in enumerate(invoice.lines, start=1)
        ),
    )


def _row(invoice: Invoice, number: int, line: Line) -> list[str]:
    return [
        *(invoice.number, invoice.tenant, invoice.billing_period, invoice.currency),
        *(str(number), line.kind, line.period, line.sku, line.model, line.quantity),
        *(line.unit, line.unit_price, line.list_price),
        line.tier_from if line.quantity else "",
        str(line.included).lower(),
        *(line.rate_card, line.exact, line.amount, str(line.amount_minor)),
        *(line.tax.name, line.tax.rate, line.refers, line.note, invoice.refers),
    ]


def csv_of(columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    """Return RFC 4180 text with a header; None is an empty field.

    Text that a spreadsheet would run as a formula gets an apostrophe before it: a
    GPU's name comes from outside.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_shown(each or "") for each in row] for row in rows)
    return out.getvalue()


def _shown(text: str) -> str:
    harmless = not _FORMULA.match(text) or _NUMBER.fullmatch(text)
    return text if harmless else f"'{text}"
