"""Showing what was used, and writing documents in every form there is."""

from __future__ import annotations

import sys
from contextlib import closing as ending
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from functions.cli.bill.close import rate_cards
from functions.cli.terminal import out, print_json, say
from functions.problems import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from functions.billing.invoice import Invoice
    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards
    from functions.cli.bill.place import Place

_COLUMNS: Final = {
    "requests": "requests",
    "faces": "faces",
    "gpu_seconds": "GPU s",
    "cpu_seconds": "CPU s",
    "gib_months": "GiB-months",
    "amount": "amount",
}
_FORMS: Final = frozenset({"json", "csv", "focus", "html", "pdf"})


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose usage, between which RFC 3339 times ("": this month), grouped by what."""

    tenant: str
    start: str = ""
    stop: str = ""
    by: str = "day"


def show_usage(place: Place, asked: Asked, rates: Path | None, *, json: bool) -> None:
    """Print usage and its exact price, group by group."""
    from functions.billing import statement
    from functions.billing.invoice import Period
    from functions.cli.bill.place import moment_ms

    month = Period.of(datetime.now(UTC))
    span = statement.Span(
        moment_ms(asked.start) if asked.start else month.start_ms,
        moment_ms(asked.stop) if asked.stop else month.stop_ms,
    )
    with ending(place.ledger()) as ledger:
        cards = rate_cards(rates)
        place.refuse_nobody(ledger, asked.tenant, cards)
        found = statement.usage(ledger, cards, asked.tenant, span, asked.by)
    if json:
        print_json(found)
    else:
        _print_usage(found)


def _print_usage(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(found["by"] or "", *_COLUMNS.values())
    rows = [(each["group"], each) for each in found["groups"]]
    for name, sums in [*rows, ("total", found["total"])]:
        table.add_row(name, *(str(sums[column]) for column in _COLUMNS))
    out().print(table)
    say(f"amounts in {found['currency']}, exact: an invoice rounds once a line")


def write_invoice(  # each is an option of the command's
    place: Place,
    tenant: str,
    name: str,
    form: str,
    to: Path | None,
    rates: Path | None,
) -> None:
    """Write a document, named by its number or its month, in a form."""
    with ending(place.ledger()) as ledger:
        cards = rate_cards(rates, place.called())
        place.refuse_nobody(ledger, tenant, cards)
        invoice = _named(ledger, tenant, name, cards)
    suffix = to.suffix.removeprefix(".") if to else ""
    form = form or (suffix if suffix in _FORMS else "json")
    _write(_as(form, [invoice]), to)


def _named(ledger: Ledger, tenant: str, name: str, cards: RateCards) -> Invoice:
    """Return an issued document, or the draft of a month that has none yet."""
    from functions.billing import closing, statement
    from functions.billing.invoice import Period, is_number

    if is_number(tenant, name):
        return closing.document(ledger, tenant, name)
    period = Period.parse(name or str(Period.of(datetime.now(UTC))))
    found = closing.invoice_of(ledger, tenant, period)
    return found or statement.draft(ledger, cards, tenant, period)


def export_period(
    place: Place, period: str, tenant: str, form: str, to: Path | None
) -> None:
    """Write every document that is charged in a month, or raise `NotFound`."""
    from functions.billing import closing
    from functions.billing.invoice import Period

    month = str(Period.parse(period))
    with ending(place.ledger()) as ledger:
        found = [
            each
            for name in ([tenant] if tenant else closing.tenants(ledger))
            for each in closing.issued_documents(ledger, name)
            if each.billing_period == month
        ]
    if not found:
        raise NotFound(f"nothing was issued for {month}, nor taken back in it")
    _write(_as(form, found), to)


def _as(form: str, invoices: Iterable[Invoice]) -> bytes:
    from functions.billing import documents, exports, focus

    invoices = list(invoices)
    if form == "csv":
        return exports.as_csv(invoices).encode()
    if form == "focus":
        return focus.as_csv(invoices).encode()
    if form == "html":
        return documents.as_html(invoices[0]).encode()
    if form == "pdf":
        try:
            return documents.as_pdf(invoices[0])
        except ImportError as error:
            raise InvalidRequest("a PDF needs the extra `pdf`") from error
    return b"".join(exports.as_json(each) + b"\n" for each in invoices)


def _write(content: bytes, to: Path | None) -> None:
    if to is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        to.write_bytes(content)
        say(f"{to}: {len(content):,} bytes")
