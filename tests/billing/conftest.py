"""What every test of the billing function starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.billing.app import create_app
from functions.billing.ledger import Ledger
from functions.keys import MemoryKeys
from tests.billing.house import House, TokensByName, clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Return a billing function with an empty ledger."""
    keys = MemoryKeys()
    ledger = Ledger.open(f"sqlite:///{tmp_path}/billing.db")
    app = create_app(
        ledger=ledger,
        keys=keys,
        authenticator=TokensByName(),
        now=clock,
    )
    yield House(ledger, keys, app.test_client())
    ledger.close()
