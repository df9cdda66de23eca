"""A home with a ledger, and `guise bill` over it, as finance would use it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from functions.billing.invoice import Period
from functions.billing.ledger import Ledger
from functions.billing.usage import usage_of
from functions.cli import main
from functions.events import Event, swap_source
from functions.keys import BILLING, FileKeys
from tests.billing.house import usage_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG_AGO = Period(2025, 3)


def furnished(folder: Path) -> Iterator[Path]:
    """Yield a home with a ledger: acme and other used something in March 2025."""
    made = folder / "home"
    made.mkdir()
    ledger = Ledger.open(f"sqlite:///{made}/billing.db")
    for tenant, count in (("acme", 3), ("other", 1)):
        for each in range(count):
            data = usage_data(job=f"j{each}", requests=100_000)
            event = Event(
                id=f"u{each}",
                source=swap_source(tenant),
                type="dev.guise.usage.recorded.v1",
                subject=tenant,
                tenant=tenant,
                time="2025-03-10T12:00:00.000Z",
                data=data,
            )
            ledger.post(usage_of(event, now=datetime.now(UTC)))
    ledger.close()
    FileKeys(made / "keys").create(BILLING)
    yield made
    os.environ.pop("GUISE_RATES", None)


def run(
    capfdbinary: pytest.CaptureFixture[bytes],
    home: Path,
    *arguments: object,
    code: int = 0,
) -> str:
    """Run a command in this process, and return what it printed."""
    capfdbinary.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["bill", *map(str, arguments), "--home", str(home)])
    assert (ended.value.code or 0) == code, capfdbinary.readouterr().err
    said = capfdbinary.readouterr()
    return (said.out if code == 0 else said.err).decode()


def lines(printed: str) -> list[dict[str, Any]]:
    """Return what `--json` printed, line by line."""
    return [json.loads(line) for line in printed.splitlines()]


def post(home: Path, event: Event) -> None:
    """Count an event in a home's ledger."""
    ledger = Ledger.open(f"sqlite:///{home}/billing.db")
    ledger.post(usage_of(event, now=datetime.now(UTC)))
    ledger.close()
