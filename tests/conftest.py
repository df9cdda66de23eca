"""Every test runs as if nobody had configured anything."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.postgres import empty_database, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["empty_database", "postgres"]  # for every test that asks for them

# OpenBLAS's threads spin while they wait for one another: four of them take 4.5 s of
# CPU for the golden outputs of a pack, where one takes 0.8 s.  Read when it is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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


def pytest_collection_finish() -> None:
    """Leave ten thousand tests and their modules out of every collection to come."""
    gc.freeze()
