"""`guise bill …`: from usage to invoices, credits and exports."""

from __future__ import annotations

from pathlib import Path  # Typer reads the annotations
from typing import Annotated, Literal

import typer

from functions.cli.bill.place import Database, Place
from functions.cli.options import HOME, Home, Json, Keys

closing = typer.Typer()

Tenant = Annotated[str, typer.Option(help="Whose.")]
Period = Annotated[str, typer.Option(help="A month in UTC, such as 2026-11.")]
Rates = Annotated[
    Path | None,
    typer.Option(help="The rate cards; else GUISE_RATES, else those that come along."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Where to; without it, standard output."),
]


@closing.command()
def migrate(home: Home = HOME, database: Database = "", *, json: Json = False) -> None:
    """Bring the ledger's tables to this version's.

    On PostgreSQL as their owner.
    """
    from functions.billing.ledger import SCHEMA
    from functions.cli.databases import migrate_tables

    migrate_tables(Place(home, database).url(), SCHEMA, json=json)


@closing.command()
def usage(  # each is an option
    tenant: Tenant = "demo",
    start: Annotated[
        str,
        typer.Option("--from", help="From when: 2026-11-01, or 2026-11-01T06:00:00Z."),
    ] = "",
    stop: Annotated[
        str, typer.Option("--to", help="Until before when, likewise.")
    ] = "",
    by: Annotated[
        Literal["", "day", "operation", "device", "job"],
        typer.Option(
            help="Group by this; by '', the total alone.",
            metavar="<day|operation|device|job>",
        ),
    ] = "day",
    rates: Rates = None,
    home: Home = HOME,
    database: Database = "",
    *,
    json: Json = False,
) -> None:
    """Show what a tenant used and what it comes to.

    This month, unless told.
    """
    from functions.cli.bill.show import Asked, show_usage

    show_usage(Place(home, database), Asked(tenant, start, stop, by), rates, json=json)


@closing.command()
def close(  # each is an option
    period: Period,
    tenant: Annotated[str, typer.Option(help="Whose; without it, everybody's.")] = "",
    keys: Keys = None,
    rates: Rates = None,
    home: Home = HOME,
    database: Database = "",
    *,
    hold: Annotated[
        bool, typer.Option("--hold", help="Close, and issue nothing yet.")
    ] = False,
    json: Json = False,
) -> None:
    """Close a month, issue its invoices, and tell whoever subscribes.

    A month can be closed three days after its end.  Run it again after a fault: what
    is done is done, and the rest follows.
    """
    from functions.cli.bill.close import Closing, close_period

    place = Place(home, database)
    close_period(Closing(place, period, tenant, keys, rates, hold=hold, json=json))


@closing.command()
def invoice(  # each is an option
    tenant: Tenant = "demo",
    period: Annotated[
        str, typer.Option(help="A month such as 2026-11; a draft while it is open.")
    ] = "",
    number: Annotated[str, typer.Option(help="Or the number of a document.")] = "",
    kind: Annotated[
        Literal["", "json", "csv", "focus", "html", "pdf"],
        typer.Option(
            "--as",
            help="In which form; else as --out ends, else JSON.",
            metavar="<json|csv|focus|html|pdf>",
        ),
    ] = "",
    out: Out = None,
    rates: Rates = None,
    home: Home = HOME,
    database: Database = "",
) -> None:
    """Write an invoice or a credit note.

    As JSON, CSV, FOCUS, a page, or a PDF.
    """
    from functions.cli.bill.show import write_invoice

    where = Place(home, database)
    write_invoice(where, tenant, period or number, kind, out, rates)


@closing.command()
def export(  # each is an option
    period: Period,
    tenant: Annotated[str, typer.Option(help="Whose; without it, everybody's.")] = "",
    kind: Annotated[
        Literal["focus", "csv", "json"], typer.Option("--as", help="In which form.")
    ] = "focus",
    out: Out = None,
    home: Home = HOME,
    database: Database = "",
) -> None:
    """Export what is charged in a month as one file.

    That is its invoices, and what was taken back in it of any month.
    """
    from functions.cli.bill.show import export_period

    export_period(Place(home, database), period, tenant, kind, out)


@closing.command()
def credit(  # noqa: PLR0913  # each is an option
    tenant: Tenant,
    ident: Annotated[str, typer.Option("--id", help="The credit's own name.")],
    amount: Annotated[str, typer.Option(help="How much, such as 100.00.")],
    *,
    start: Annotated[
        str,
        typer.Option(
            "--from", help="From a day or a time on; else all not billed yet."
        ),
    ] = "",
    until: Annotated[
        str, typer.Option(help="When it expires, likewise; else never.")
    ] = "",
    priority: Annotated[
        int, typer.Option(min=0, max=1000, help="The lowest is used up first.")
    ] = 100,
    note: Annotated[str, typer.Option(help="What the invoice says of it.")] = "",
    rates: Rates = None,
    home: Home = HOME,
    database: Database = "",
    json: Json = False,
) -> None:
    """Grant a tenant a credit, once: the same again changes nothing."""
    from functions.cli.bill.credit import Granting, grant_credit

    span = start, until
    what = Granting(tenant, ident, amount, span, priority, note)
    grant_credit(Place(home, database), what, rates, json=json)


@closing.command()
def credits(  # noqa: A001  # the command's name
    tenant: Tenant = "demo",
    home: Home = HOME,
    database: Database = "",
    *,
    json: Json = False,
) -> None:
    """List a tenant's credits and what is left of each.

    They are in the order of use.
    """
    from functions.cli.bill.credit import list_credits

    list_credits(Place(home, database), tenant, json=json)


@closing.command()
def refund(  # each is an option
    tenant: Tenant,
    number: Annotated[
        str, typer.Option(help="What is taken back: an invoice, or a note.")
    ],
    reason: Annotated[str, typer.Option(help="What the credit note says.")],
    line: Annotated[
        list[str] | None,
        typer.Option(help="Only so much of a line, e.g. 2=5.00; may be repeated."),
    ] = None,
    keys: Keys = None,
    home: Home = HOME,
    database: Database = "",
    *,
    json: Json = False,
) -> None:
    """Issue a credit note that takes back an invoice.

    Or a part of it; of a credit note, the invoice that reverses it.
    """
    from functions.cli.bill.credit import issue_note

    place = Place(home, database)
    issue_note(place, tenant, number, reason, line or [], keys, json=json)
