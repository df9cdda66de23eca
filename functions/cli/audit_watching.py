"""`guise audit monitor`: the log against what it said before."""

from __future__ import annotations

import typer

watching = typer.Typer()
