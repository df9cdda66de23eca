"""The real pack, loaded once, and the two portraits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functions.swap.engine import MeshEngine
from functions.swap.media import Image, decode
from models import pull

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def folder() -> Path:
    """Return the folder of the lite pack, fetched once if it is not there."""
    return pull.pull("lite", ROOT / ".guise" / "models", report=lambda _: None)


@pytest.fixture(scope="session")
def engine(folder: Path) -> MeshEngine:
    """Return the engine, loaded once."""
    return MeshEngine.load(folder, threads=2)


@pytest.fixture(scope="session")
def portrait() -> Callable[[str], Image]:
    """Return a reader of fresh copies of the portraits."""

    def read(name: str) -> Image:
        return decode((ROOT / "examples" / f"{name}.jpg").read_bytes())

    return read
