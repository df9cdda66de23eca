"""`guise audit migrate|retention|backup|restore`: what the operator does for years."""

from __future__ import annotations

import typer

keeping = typer.Typer()
