"""`guise audit report`: a period on one page."""

from __future__ import annotations

import typer

reporting = typer.Typer()
