"""`guise bill`, over the ledger of a home, as finance and as a script would use it."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from functions.billing import closing
from functions.billing.invoice import Period, State
from functions.billing.ledger import Ledger
from functions.billing.rates import FILE, RateCards
from functions.billing.telling import issued_event, tell
from functions.events import INVOICE_ISSUED, Event, billing_source, swap_source, verify
from functions.keys import BILLING, MemoryKeys
from functions.problems import Unavailable
from functions.roster import Spec, write
from functions.sink import Undeliverable
from tests.billing.house import usage_data
from tests.cli.finance import LONG_AGO, furnished, lines, post, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a home with a ledger: acme and other used something in March 2025."""
    yield from furnished(tmp_path)


def test_a_month_is_closed_for_everybody_once(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The same command again prints the same invoices, and makes none."""
    first = run(capfdbinary, home, "close", "--period", LONG_AGO, "--json")
    assert [(each["number"], each["total"]) for each in lines(first)] == [
        ("acme-000001", "120.00"),
        ("other-000001", "40.00"),
    ]
    assert run(capfdbinary, home, "close", "--period", LONG_AGO, "--json") == first
    shown = run(capfdbinary, home, "close", "--period", LONG_AGO)
    assert "acme-000001" in shown
    assert "120.00 USD" in shown
    assert "to be told of: 2 documents" in shown


def test_a_month_is_held_until_it_is_issued(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Finance may look at the drafts of a closed month before they are sent."""
    arguments = ("close", "--period", LONG_AGO)
    held = run(capfdbinary, home, *arguments, "--tenant", "acme", "--hold")
    assert "nothing to invoice" in held
    draft = run(capfdbinary, home, "invoice", "--tenant", "acme", "--period", LONG_AGO)
    assert json.loads(draft)["status"] == "draft"
    issued = lines(run(capfdbinary, home, *arguments, "--json"))
    assert {each["number"] for each in issued} == {"acme-000001", "other-000001"}


def test_a_month_that_is_not_due_is_no_fault_to_mend(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It says from when on it can be closed, and that there is nothing to do."""
    now = datetime.now(UTC)
    for month in (Period.of(now), Period.parse("2999-01")):
        said = run(capfdbinary, home, "close", "--period", month, code=1)
        assert f"{month} is not due until {month.following}-04" in said
        assert "there is nothing to do" in said
        assert said.count("\n") == 1


def test_a_fault_with_one_tenant_stops_nobody_else(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What went wrong is said, the exit status is 1, and the others are closed."""
    later = LONG_AGO.following
    run(capfdbinary, home, "close", "--period", LONG_AGO, "--tenant", "other")
    said = run(capfdbinary, home, "close", "--period", later, code=1)
    assert "2025-03 of acme is to be closed first" in said
    ledger = Ledger.open(f"sqlite:///{home}/billing.db")
    now = datetime.now(UTC)
    assert closing.state(ledger, "other", later, now) is State.CLOSED
    ledger.close()


def test_an_invoice_is_to_whom_the_spec_names(
    home: Path,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the rate cards name nobody; specs of a home say nothing elsewhere."""
    (home / "tenants").mkdir()
    for name, called in (("acme", "Acme & Sons"), ("other", "Other Ltd")):
        spec = write(Spec(id=name, name=called))
        (home / f"tenants/{name}.yaml").write_bytes(spec)
    rates = tmp_path / "rates.toml"
    legal = '[customers.other]\nname = "Other Limited"\naddress = ["1 Some Street"]\n'
    rates.write_text(FILE.read_text() + legal)
    drafted = ("invoice", "--tenant", "acme", "--period", LONG_AGO)
    copy = tmp_path / "copy.db"
    copy.write_bytes((home / "billing.db").read_bytes())
    elsewhere = run(capfdbinary, home, *drafted, "--database", f"sqlite:///{copy}")
    assert json.loads(elsewhere)["customer"]["name"] == "acme"
    monkeypatch.setenv("GUISE_TENANTS", str(home / "tenants"))
    told = run(capfdbinary, home, *drafted, "--database", f"sqlite:///{copy}")
    assert json.loads(told)["customer"]["name"] == "Acme & Sons"
    monkeypatch.delenv("GUISE_TENANTS")
    run(capfdbinary, home, "close", "--period", LONG_AGO, "--rates", rates)
    for name, called in (("acme", "Acme & Sons"), ("other", "Other Limited")):
        named = ("invoice", "--tenant", name, "--number", f"{name}-000001")
        issued = json.loads(run(capfdbinary, home, *named))
        assert issued["customer"]["name"] == called
        assert called.split()[-1] in run(capfdbinary, home, *named, "--as", "html")


def test_an_invoice_is_written_in_every_form(
    home: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """By what the file is called, or as told; a number names the same as its month."""
    run(capfdbinary, home, "close", "--period", LONG_AGO)
    named = ("invoice", "--tenant", "acme", "--number", "acme-000001")
    for suffix, begins in (
        ("json", b"{"),
        ("html", b"<!doctype html>"),
        ("pdf", b"%PDF"),
        ("csv", b"invoice,"),
    ):
        path = tmp_path / f"invoice.{suffix}"
        run(capfdbinary, home, *named, "-o", path)
        assert path.read_bytes()[:20].lower().startswith(begins.lower())
    by_month = ("invoice", "--tenant", "acme", "--period", LONG_AGO)
    assert run(capfdbinary, home, *by_month) == run(capfdbinary, home, *named)
    focus = run(capfdbinary, home, *named, "--as", "focus")
    billed = sum(float(row["BilledCost"]) for row in csv.DictReader(io.StringIO(focus)))
    assert round(billed, 2) == 120.0


def test_a_months_documents_are_exported_as_one_file(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Every tenant's, or one's; a month without any is an error."""
    said = run(capfdbinary, home, "export", "--period", LONG_AGO, code=1)
    assert "nothing was issued for 2025-03" in said
    run(capfdbinary, home, "close", "--period", LONG_AGO)
    rows = list(
        csv.DictReader(
            io.StringIO(run(capfdbinary, home, "export", "--period", LONG_AGO))
        )
    )
    assert {row["SubAccountId"] for row in rows} == {"acme", "other"}
    only = ("export", "--period", LONG_AGO, "--tenant", "acme", "--as", "json")
    assert [each["tenant"] for each in lines(run(capfdbinary, home, *only))] == ["acme"]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_credit_note_is_charged_in_the_month_it_was_issued(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Its invoice's month stays as it was exported; it says what it corrects."""
    month = Period.of(datetime.now(UTC))
    export = ("export", "--tenant", "acme", "--period")
    run(capfdbinary, home, "close", "--period", LONG_AGO)
    for form in ("focus", "csv", "json"):
        before = run(capfdbinary, home, *export, LONG_AGO, "--as", form)
        if form == "focus":
            back = ("refund", "--tenant", "acme", "--number", "acme-000001")
            run(capfdbinary, home, *back, "--reason", "An outage")
        again = run(capfdbinary, home, *export, LONG_AGO, "--as", form)
        assert again == before
    found = rows(run(capfdbinary, home, *export, month))
    assert {row["InvoiceId"] for row in found} == {"acme-000002"}
    assert {row["ChargeClass"] for row in found} == {"Correction"}
    assert {row["BillingPeriodStart"] for row in found} == {f"{month}-01T00:00:00Z"}
    assert {row["ChargePeriodStart"] for row in found} == {"2025-03-01T00:00:00Z"}
    assert {row["x_CorrectedInvoiceId"] for row in found} == {"acme-000001"}
    plain = rows(run(capfdbinary, home, *export, month, "--as", "csv"))
    assert {(row["period"], row["charge_period"]) for row in plain} == {
        (str(month), "2025-03")
    }
    assert {row["corrects"] for row in plain} == {"acme-000001"}
    (note,) = lines(run(capfdbinary, home, *export, month, "--as", "json"))
    assert (note["number"], note["period"]) == ("acme-000002", "2025-03")


VOLUME = """
[[card]]
version = "a"
from = 2025-01-01T00:00:00Z
currency = "USD"
[card.prices]
"gpu.exec" = { unit = "second", price = "0" }
"gpu.load" = { unit = "second", price = "0" }
"cpu.exec" = { unit = "second", price = "0" }
[card.prices."request"]
unit = "request"
volume = [{ upto = "300000", price = "0.0004" }, { price = "0.0001" }]
"""


def test_a_month_below_zero_is_taken_back(
    home: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What late usage made cheaper is a credit note, and its refund an invoice."""
    rates = tmp_path / "rates.toml"
    rates.write_text(VOLUME)
    close = ("close", "--tenant", "acme", "--rates", rates, "--json", "--period")
    (march,) = lines(run(capfdbinary, home, *close, LONG_AGO))
    late = Event(
        id="late",
        source=swap_source("acme"),
        type="dev.guise.usage.recorded.v1",
        subject="acme",
        tenant="acme",
        time="2025-03-20T12:00:00.000Z",
        data=usage_data(requests=100_000),
    )
    post(home, late)
    (april,) = lines(run(capfdbinary, home, *close, LONG_AGO.following))
    assert (march["total"], april["total"]) == ("120.00", "-80.00")
    shown = ("invoice", "--tenant", "acme", "--number", "acme-000002")
    document = json.loads(run(capfdbinary, home, *shown))
    assert document["kind"] == "credit-note"
    number = 1 + min(
        index
        for index, line in enumerate(document["lines"])
        if line["amount_minor"] < 0
    )
    back = ("refund", "--tenant", "acme", "--number", "acme-000002", "--reason", "x")
    said = run(capfdbinary, home, *back, "--line", f"{number}=-30.00")
    assert "acme-000003 takes back 30.00 USD of acme-000002" in said
    rest = json.loads(run(capfdbinary, home, *back, "--json"))
    assert (rest["kind"], rest["total"]) == ("invoice", "50.00")
    assert "no more than was billed" in run(capfdbinary, home, *back, code=1)


def test_a_credit_pays_and_a_refund_gives_back(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Credits are listed with what is left; a note may take back a part of a line."""
    granted = ("credit", "--tenant", "acme", "--id", "hello", "--amount", "20.00")
    since = ("--from", "2025-01-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z")
    run(capfdbinary, home, *granted, *since)
    run(capfdbinary, home, *granted, *since)
    said = run(capfdbinary, home, *granted, "--note", "another", *since, code=1)
    assert "another credit" in said
    run(capfdbinary, home, "close", "--period", LONG_AGO)
    listed = run(capfdbinary, home, "credits", "--tenant", "acme", "--json")
    assert [each["left_minor"] for each in lines(listed)] == [0]
    assert "hello" in run(capfdbinary, home, "credits", "--tenant", "acme")
    back = ("refund", "--tenant", "acme", "--number", "acme-000001", "--reason", "late")
    document = json.loads(
        run(capfdbinary, home, "invoice", "--tenant", "acme", "--period", LONG_AGO)
    )
    number = 1 + next(
        index for index, line in enumerate(document["lines"]) if "request" in str(line)
    )
    said = run(capfdbinary, home, *back, "--line", f"{number}=5.00")
    assert "acme-000002 takes back -5.00 USD" in said
    note = json.loads(run(capfdbinary, home, *back, "--json"))
    assert note["total"] == "-95.00"
    again = ("refund", "--tenant", "acme", "--number", note["number"], "--reason", "no")
    said = run(capfdbinary, home, *again)
    assert "acme-000004 takes back 95.00 USD of acme-000003" in said
    assert "reversed already" in run(capfdbinary, home, *again, code=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("credit", "--tenant", "acme", "--id", "x", "--amount", "1.005"),
        ("credit", "--tenant", "acme", "--id", "x", "--amount", "much"),
        ("credit", "--tenant", "acme", "--id", "X!", "--amount", "1.00"),
        ("refund", "--tenant", "acme", "--number", "n", "--reason", "r", "--line", "2"),
        ("close", "--period", "yesterday"),
        ("close", "--period", "2999-01"),
        ("invoice", "--tenant", "acme", "--number", "acme-000009"),
    ],
)
def test_what_cannot_be_is_one_line_that_says_why(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes], arguments: tuple[str, ...]
) -> None:
    """And nothing is written."""
    said = run(capfdbinary, home, *arguments, code=1)
    assert "urn:guise:problem:" in said
    assert "Traceback" not in said


def test_rate_cards_may_be_the_operators_own(
    home: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """By an option or by GUISE_RATES, as the function reads it."""
    path = tmp_path / "rates.toml"
    path.write_text(FILE.read_text().replace('"0.0004"', '"0.001"'))
    month = ("invoice", "--tenant", "acme", "--period", LONG_AGO)
    one = json.loads(run(capfdbinary, home, *month, "--rates", path))
    os.environ["GUISE_RATES"] = str(path)
    other = json.loads(run(capfdbinary, home, *month))
    assert one["total"] == other["total"] == "300.00"


def test_migrating_says_what_it_did(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A SQLite ledger is of the newest version from the start."""
    assert "nothing to do" in run(capfdbinary, home, "migrate")
    assert lines(run(capfdbinary, home, "migrate", "--json"))[0]["done"] == []


class Listener:
    """A sink that takes what it is told to."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.events: list[Event] = []

    def deliver(self, event: Event, *, timeout: float) -> None:
        """Take an event, or raise the next answer."""
        del timeout
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.events.append(event)


def test_an_issued_invoice_is_told_once_it_can_be(home: Path) -> None:
    """What no sink took is told the next time, in the same words, signed by billing."""
    ledger, keys = Ledger.open(f"sqlite:///{home}/billing.db"), MemoryKeys()
    now = datetime.now(UTC)
    for tenant in ("acme", "other"):
        closing.close(ledger, tenant, LONG_AGO, now)
        closing.issued(ledger, RateCards.load(), tenant, LONG_AGO, now)
    away = Listener(Unavailable("later"), Undeliverable("never"))
    assert len(tell(ledger, keys, away, now)) == 2
    sink = Listener()
    assert tell(ledger, keys, sink, now) == []
    assert tell(ledger, keys, sink, now) == []
    first = sink.events[0]
    assert (first.type, first.source) == (INVOICE_ISSUED, billing_source("acme"))
    verify(first, keys.verifiers(BILLING))
    invoice = closing.invoice_of(ledger, "acme", LONG_AGO)
    assert invoice is not None
    assert issued_event(invoice, keys) == first
    assert first.data["total"] == "120.00"
    ledger.close()


def test_a_database_that_refuses_is_quoted(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """An operator reads the database's own word, in one line."""
    nowhere = f"sqlite:///{tmp_path}/none/billing.db"
    said = run(capfdbinary, tmp_path, "credits", "--database", nowhere, code=1)
    assert said.startswith("error: Unavailable: unable to open database file (urn:")
    assert said.count("\n") == 1
