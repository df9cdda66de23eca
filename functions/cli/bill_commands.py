"""`guise bill …`: usage, documents and budgets; each topic has a module."""

from __future__ import annotations

import typer

from functions.cli.bill_reconciling import reconciling

bill = typer.Typer(
    no_args_is_help=True, help="Billing: what was used, and what is owed for it."
)


@bill.callback()
def _group() -> None:
    """Keep this a group of commands while there is but one."""


for topic in (reconciling,):
    bill.add_typer(topic)
