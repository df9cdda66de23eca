"""Credits and credit notes: what a tenant gets, and what it gets back."""

from __future__ import annotations

from contextlib import closing as ending
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from functions.cli.bill.close import rate_cards, tell_all
from functions.cli.terminal import out, print_json, say
from functions.problems import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.credits import Credit
    from functions.billing.rates import RateCards
    from functions.cli.bill.place import Place


@dataclass(frozen=True, slots=True)
class Granting:
    """A credit as a person writes it; `span` is (from, until), "" for now and never."""

    tenant: str
    id: str
    amount: str
    span: tuple[str, str]
    priority: int
    note: str


def grant_credit(
    place: Place, what: Granting, rates: Path | None, *, json: bool
) -> None:
    """Grant a credit in the rate cards' currency, and print it."""
    from functions.billing import closing

    credit = _credit(what, rate_cards(rates))
    with ending(place.ledger()) as ledger:
        closing.grant(ledger, credit)
    if json:
        print_json(credit)
    else:
        say(f"{what.tenant} has {what.amount} {credit.currency} as {credit.id}")


def _credit(what: Granting, cards: RateCards) -> Credit:
    import msgspec

    from functions.billing.credits import Credit
    from functions.billing.money import minor_of
    from functions.cli.bill.place import moment_ms
    from functions.tenant import Tenant

    start, until = what.span
    try:
        return msgspec.convert(
            {
                "id": what.id,
                "tenant": Tenant(what.tenant).id,
                "currency": cards.currency,
                "amount_minor": minor_of(what.amount, cards.minor_digits),
                "from_ms": moment_ms(start) if start else 0,
                "until_ms": moment_ms(until) if until else None,
                "priority": what.priority,
                "note": what.note,
            },
            Credit,
        )
    except (ValueError, ArithmeticError) as error:
        raise InvalidRequest(f"no credit: {error}") from error


def list_credits(place: Place, tenant: str, *, json: bool) -> None:
    """Print each credit and what is left of it."""
    from functions import events
    from functions.billing import closing
    from functions.billing.money import coins, minor_digits

    with ending(place.ledger()) as ledger:
        place.refuse_nobody(ledger, tenant, rate_cards(None))
        found = closing.available(ledger, tenant)
    if json:
        for each in found:
            print_json({"credit": each.credit, "left_minor": each.left_minor})
        return
    from rich.table import Table

    table = Table("id", "granted", "left", "until", "priority", "note")
    for each in found:
        credit, digits = each.credit, minor_digits(each.credit.currency)
        until = credit.until_ms
        moment = datetime.fromtimestamp(until // 1000, UTC) if until else None
        table.add_row(
            credit.id,
            f"{coins(credit.amount_minor, digits)} {credit.currency}",
            coins(each.left_minor, digits),
            events.rfc3339(moment) if moment else "",
            str(credit.priority),
            credit.note,
        )
    out().print(table)


def issue_note(  # each is an option of the command's
    place: Place,
    tenant: str,
    number: str,
    reason: str,
    lines: list[str],
    keys: Path | None,
    *,
    json: bool,
) -> None:
    """Issue a credit note over an invoice, or over amounts of some of its lines."""
    from functions.billing import closing
    from functions.billing.exports import as_json

    now = datetime.now(UTC)
    with ending(place.ledger()) as ledger:
        digits = closing.document(ledger, tenant, number).minor_digits
        amounts = _amounts(lines, digits) if lines else None
        note = closing.credit_note(
            ledger, tenant, number, now=now, reason=reason, amounts=amounts
        )
        tell_all(ledger, place, keys, now)
    if json:
        out().print(as_json(note).decode(), markup=False)
    else:
        say(f"{note.number} takes back {note.total} {note.currency} of {number}")


def _amounts(lines: list[str], digits: int) -> dict[int, int]:
    """Return smallest coins by line, of texts such as `2=5.00` in the invoice's."""
    from functions.billing.money import minor_of

    found: dict[int, int] = {}
    for text in lines:
        line, _, amount = text.partition("=")
        try:
            wanted = int(line), minor_of(amount, digits)
        except (ValueError, ArithmeticError) as error:
            raise InvalidRequest(f"{text!r} is no line and amount: 2=5.00") from error
        if wanted[0] in found:
            raise InvalidRequest(f"line {line} is taken back twice")
        found.update([wanted])
    return found
