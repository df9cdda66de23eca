"""`guise audit …`: reading, checking and keeping the log; each topic has a module."""

from __future__ import annotations

import typer

from functions.cli.audit.commands.bundles import bundles
from functions.cli.audit.commands.erasing import erasing
from functions.cli.audit.commands.keeping import keeping
from functions.cli.audit.commands.reporting import reporting
from functions.cli.audit.commands.watching import watching

audit = typer.Typer(
    no_args_is_help=True, help="The audit log: checking it, answering from it."
)
for topic in (bundles, erasing, keeping, reporting, watching):
    audit.add_typer(topic)
