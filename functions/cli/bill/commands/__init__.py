"""`guise bill …`: usage, documents and budgets; each topic has a module."""

from __future__ import annotations

import typer

from functions.cli.bill.commands.budgeting import budgeting
from functions.cli.bill.commands.closing import closing
from functions.cli.bill.commands.reconciling import reconciling

bill = typer.Typer(
    no_args_is_help=True, help="Billing: what was used, and what is owed for it."
)


for topic in (closing, budgeting, reconciling):
    bill.add_typer(topic)
