"""`guise bill usage`: what a tenant used, in columns or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from functions.billing.rates import FILE
from functions.events import Event, billing_source
from functions.keys import FileKeys, events_key
from functions.roster import Spec, write
from tests.cli.finance import furnished, post, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a home with a ledger: acme and other used something in March 2025."""
    yield from furnished(tmp_path)


def test_usage_is_shown_by_day(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """With its exact price; and as JSON what the door answers."""
    span = ("--from", "2025-03-01T00:00:00Z", "--to", "2025-04-01T00:00:00Z")
    shown = run(capfdbinary, home, "usage", "--tenant", "acme", *span)
    assert "2025-03-10" in shown
    assert "300000" in shown
    found = json.loads(
        run(capfdbinary, home, "usage", "--tenant", "acme", *span, "--json")
    )
    assert found["total"]["requests"] == 300_000


def test_stored_bytes_have_a_column(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A GiB that lay there for a day is 24 of 730 GiB-hours of a month."""
    stored = Event(
        id="s1",
        source=billing_source("acme"),
        type="dev.guise.usage.recorded.v1",
        subject="acme",
        tenant="acme",
        time="2025-03-11T23:59:59.999Z",
        data={
            "operation": "storage",
            "day": "2025-03-11",
            "objects": 1,
            "bytes": 2**30,
            "byte_hours": str(24 * 2**30),
            "billable": True,
        },
    )
    post(home, stored)
    span = ("--from", "2025-03-01", "--to", "2025-04-01")
    shown = run(capfdbinary, home, "usage", "--tenant", "acme", *span)
    assert "GiB-months" in shown
    cells = [line.split("│")[1:-1] for line in shown.splitlines() if "│" in line]
    assert [row[5].strip() for row in cells] == ["0.000000", "0.032876", "0.032876"]


def test_a_day_alone_begins_at_midnight_in_utc(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """As does a time on it; the second day is not in any more."""
    totals = []
    for stop in ("2025-03-10", "2025-03-11", "2025-03-10T12:00:00.001Z"):
        span = ("--from", "2025-03-09", "--to", stop)
        shown = run(capfdbinary, home, "usage", "--tenant", "acme", *span, "--json")
        totals.append(json.loads(shown)["total"]["requests"])
    assert totals == [0, 300_000, 300_000]


NOBODY = ("usage", "invoice", "credits", "close --period 2025-03")


@pytest.mark.parametrize("command", NOBODY)
def test_a_mistyped_tenant_is_refused(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes], command: str
) -> None:
    """An empty bill of nobody would look like an answer; nor is one begun."""
    before = (home / "billing.db").read_bytes()
    for name in ("amce", "No One"):
        said = run(capfdbinary, home, *command.split(), "--tenant", name, code=1)
        assert f"nobody is called {name}" in said
        assert "(urn:guise:problem:not-found)" in said
    assert (home / "billing.db").read_bytes() == before


@pytest.mark.parametrize("known", ["spec", "key", "contract"])
def test_a_tenant_who_used_nothing_yet_has_an_empty_bill(
    home: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], known: str
) -> None:
    """Whoever has a spec, a key that signs, or a contract is somebody."""
    rates = tmp_path / "rates.toml"
    rates.write_text(FILE.read_text())
    if known == "spec":
        (home / "tenants").mkdir()
        (home / "tenants/fresh.yaml").write_bytes(write(Spec(id="fresh")))
    elif known == "key":
        FileKeys(home / "keys").create(events_key("fresh"))
    else:
        with rates.open("a") as file:
            file.write(
                '\n[[contract]]\ntenant = "fresh"\nversion = "fresh-1"\n'
                "from = 2025-01-01T00:00:00Z\n"
            )
    shown = ("invoice", "--tenant", "fresh", "--period", "2025-03", "--rates", rates)
    assert json.loads(run(capfdbinary, home, *shown))["tenant"] == "fresh"
