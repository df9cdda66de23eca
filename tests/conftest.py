"""Every test runs as if nobody had configured anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.postgres import empty_database, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["empty_database", "postgres"]  # for every test that asks for them

# Wall time says little where several workers share the cores.
settings.register_profile("guise", deadline=None, max_examples=60)
settings.load_profile("guise")


@pytest.fixture(scope="session", autouse=True)
def _bare_environment() -> Iterator[None]:
    """Hide what configures us, or leads elsewhere, from tests and their children."""
    ours = [n for n in os.environ if n.startswith("GUISE_") or n == "K_SINK"]
    proxies = [n for n in os.environ if n.lower().endswith("_proxy")]
    with pytest.MonkeyPatch.context() as patch:
        for name in (*ours, *proxies):
            patch.delenv(name)
        yield
