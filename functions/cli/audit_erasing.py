"""`guise audit search|erase`: a person's questions and rights."""

from __future__ import annotations

import typer

erasing = typer.Typer()
