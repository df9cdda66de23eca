"""Attacks on closing: months out of order, passed over, held, late again and again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.billing import closing
from functions.billing.credits import Credit
from functions.billing.invoice import Period
from functions.billing.rates import FILE, RateCards
from functions.billing.usage import Usage, usage_of
from functions.events import Event
from functions.problems import Conflict, InvalidRequest
from tests.billing.house import BOTH, usage_data
from tests.billing.prices import cards_of

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.invoice import Invoice
    from functions.billing.ledger import Ledger

DATABASES = BOTH
OCTOBER, NOVEMBER, DECEMBER = (Period(2026, month) for month in (10, 11, 12))
JANUARY = Period(2027, 1)
CARDS = RateCards.load()


def usage(name: str, month: Period, requests: int = 10_000) -> Usage:
    """Return a use in a month that costs 0.0004 a request, and nothing else."""
    event = Event(
        id=name,
        source=events.swap_source("acme"),
        type=events.USAGE_RECORDED,
        subject="acme",
        tenant="acme",
        time=f"{month}-05T12:00:00.000Z",
        data=usage_data(
            job=name, gpu_seconds="0", cpu_seconds="0", requests=requests, load_ms=0
        ),
    )
    return usage_of(event, now=datetime(2028, 1, 1, tzinfo=UTC))


def due(period: Period) -> datetime:
    """Return a moment at which a period may be closed."""
    end = datetime(period.following.year, period.following.month, 1, tzinfo=UTC)
    return end + timedelta(days=4)


def closed(office: Ledger, period: Period) -> None:
    """Close a period of acme."""
    closing.close(office, "acme", period, due(period))


def issued(office: Ledger, period: Period, cards: RateCards = CARDS) -> Invoice | None:
    """Return a closed period's invoice."""
    return closing.issued(office, cards, "acme", period, due(period))


def billed(office: Ledger, period: Period, cards: RateCards = CARDS) -> Invoice:
    """Close a period and return its invoice."""
    closed(office, period)
    made = issued(office, period, cards)
    assert made is not None
    return made


def with_minimum(tmp_path: Path) -> RateCards:
    """Return our prices with a minimum of 9.00 a month."""
    text = FILE.read_text()
    head = 'currency = "USD"'
    return cards_of(tmp_path, text.replace(head, f'{head}\nminimum = "9.00"'))


def credit(name: str = "welcome", **changes: Any) -> Credit:
    """Return a credit of 20.00 that holds in October alone."""
    plain: dict[str, Any] = {
        "id": name,
        "tenant": "acme",
        "currency": "USD",
        "amount_minor": 2000,
        "from_ms": OCTOBER.start_ms,
        "until_ms": OCTOBER.stop_ms,
    }
    return Credit(**(plain | changes))


def test_attack_usage_late_twice_of_a_month_that_was_passed_over(
    ledger: Ledger, office: Ledger
) -> None:
    """The month has no invoice of its own, and yet is billed once."""
    ledger.post(usage("u1", NOVEMBER))
    billed(office, NOVEMBER)
    ledger.post(usage("u2", OCTOBER))
    first = billed(office, DECEMBER)
    ledger.post(usage("u3", OCTOBER))
    second = billed(office, JANUARY)
    assert [each.net for each in (first, second)] == ["4.00", "4.00"]


def test_attack_a_held_month_is_not_overtaken(ledger: Ledger, office: Ledger) -> None:
    """What the later invoice would correct is not billed yet: it waits its turn."""
    ledger.post(usage("u1", OCTOBER))
    closed(office, OCTOBER)
    ledger.post(usage("u2", OCTOBER))
    ledger.post(usage("u3", NOVEMBER))
    closed(office, NOVEMBER)
    with pytest.raises(InvalidRequest, match="2026-10 of acme is to be issued first"):
        issued(office, NOVEMBER)
    found = [issued(office, period) for period in (OCTOBER, NOVEMBER)]
    assert [each and each.net for each in found] == ["4.00", "8.00"]
    assert [each and each.number for each in found] == ["acme-000001", "acme-000002"]


def test_attack_a_month_that_was_passed_over_is_issued_afterwards(
    ledger: Ledger, office: Ledger, tmp_path: Path
) -> None:
    """Its minimum came with what was late of it; it is not asked for again."""
    cards = with_minimum(tmp_path)
    ledger.post(usage("u1", Period(2026, 9)))
    billed(office, Period(2026, 9), cards)
    closed(office, NOVEMBER)
    ledger.post(usage("u2", OCTOBER))
    december = billed(office, DECEMBER, cards)
    late = [each for each in december.lines if each.kind == "correction"]
    assert sum(each.amount_minor for each in late) == 900
    assert issued(office, OCTOBER, cards) is None
    assert issued(office, NOVEMBER, cards) is None


def test_attack_a_minimum_of_before_the_tenant_came(
    ledger: Ledger, office: Ledger, tmp_path: Path
) -> None:
    """October is closed in November: who came in November owes nothing for it."""
    cards = with_minimum(tmp_path)
    ledger.post(usage("u1", NOVEMBER))
    closed(office, OCTOBER)
    assert issued(office, OCTOBER, cards) is None
    assert billed(office, NOVEMBER, cards).total == "9.00"


def test_attack_a_credit_that_ends_while_its_month_is_held(
    ledger: Ledger, office: Ledger
) -> None:
    """It held in that month, so it pays for it, however late that is issued."""
    ledger.post(usage("u1", OCTOBER))
    closing.grant(office, credit())
    closed(office, OCTOBER)
    assert closing.expire(office, "acme", due(OCTOBER)) == []
    made = issued(office, OCTOBER)
    assert made is not None
    assert (made.credits, made.total) == ("-4.00", "0.00")
    (ended,) = closing.expire(office, "acme", due(OCTOBER))
    assert ended.amount_minor == -1600


def test_attack_a_credit_that_is_returned_after_it_ended(
    ledger: Ledger, office: Ledger
) -> None:
    """Its invoice is taken back whole; it ends once more, and closing goes on."""
    ledger.post(usage("u1", OCTOBER))
    closing.grant(office, credit())
    made = billed(office, OCTOBER)
    closing.expire(office, "acme", due(OCTOBER))
    note = closing.credit_note(
        office, "acme", made.number, now=due(OCTOBER), reason="an outage"
    )
    assert (note.total, note.credits, note.net) == ("0.00", "0.00", "0.00")
    assert closing.available(ledger, "acme")[0].left_minor == 400
    again = [closing.expire(office, "acme", due(NOVEMBER)) for _ in range(2)]
    assert [[each.amount_minor for each in some] for some in again] == [[-400], []]
    assert closing.available(ledger, "acme")[0].left_minor == 0


def test_attack_a_note_over_an_invoice_that_credits_paid_takes_no_money(
    ledger: Ledger, office: Ledger
) -> None:
    """Whole, it returns the credits, once; in part there is nothing to take back."""
    ledger.post(usage("u1", OCTOBER))
    closing.grant(office, credit())
    made = billed(office, OCTOBER)
    with pytest.raises(InvalidRequest, match="no more than was billed"):
        closing.credit_note(
            office, "acme", made.number, now=due(OCTOBER), reason="x", amounts={1: 1}
        )
    for left in (2000, 2000):
        if closing.available(ledger, "acme")[0].left_minor != left:
            closing.credit_note(
                office, "acme", made.number, now=due(OCTOBER), reason="all"
            )
    with pytest.raises(InvalidRequest, match="no more than was billed"):
        closing.credit_note(office, "acme", made.number, now=due(OCTOBER), reason="x")
    assert closing.available(ledger, "acme")[0].left_minor == 2000


def test_attack_a_credit_in_another_currency_stops_no_invoice(
    ledger: Ledger, office: Ledger
) -> None:
    """It pays nothing, and is still there."""
    ledger.post(usage("u1", OCTOBER))
    closing.grant(office, credit(currency="EUR"))
    closing.grant(office, credit("other", amount_minor=100))
    assert billed(office, OCTOBER).total == "3.00"
    left = {
        each.credit.id: each.left_minor for each in closing.available(ledger, "acme")
    }
    assert left == {"welcome": 2000, "other": 0}


@pytest.mark.parametrize(
    ("begins", "version"),
    [("2026-10-03", "backdated"), ("2025-01-01", "instead")],
    ids=["one more, in the past", "the old one is gone"],
)
def test_attack_cards_that_price_an_invoiced_month_anew(
    ledger: Ledger, office: Ledger, tmp_path: Path, begins: str, version: str
) -> None:
    """What is late is priced as its month was billed, or there is no invoice."""
    ledger.post(usage("u1", OCTOBER))
    billed(office, OCTOBER)
    ledger.post(usage("u2", OCTOBER))
    closed(office, NOVEMBER)
    text = FILE.read_text()
    other = text[text.index("[[card]]") : text.index("[issuer]")]
    other = other.replace('"2025-01"', f'"{version}"')
    other = other.replace("2025-01-01T", f"{begins}T").replace('"0.0004"', '"0.0009"')
    cards = cards_of(tmp_path, text + other if version == "backdated" else other)
    with pytest.raises(Conflict, match="2026-10 otherwise than it was billed"):
        issued(office, NOVEMBER, cards)
    made = issued(office, NOVEMBER)
    assert made is not None
    assert (made.number, made.net) == ("acme-000002", "4.00")


def test_attack_a_month_that_only_late_usage_waits_in_is_not_passed_over(
    ledger: Ledger, office: Ledger
) -> None:
    """It has no usage of its own, and is closed before the one after it."""
    ledger.post(usage("u1", OCTOBER))
    billed(office, OCTOBER)
    ledger.post(usage("u2", OCTOBER))
    with pytest.raises(InvalidRequest, match="2026-11 of acme is to be closed first"):
        closed(office, DECEMBER)
    assert billed(office, NOVEMBER).net == "4.00"
