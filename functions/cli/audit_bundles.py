"""`guise audit export|verify|keys`: the log as one file, checked without us."""

from __future__ import annotations

import typer

bundles = typer.Typer()
