"""Closing a month: what its invoice takes up, once, whoever closes and how often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions import events
from functions.billing import closing, statement, telling
from functions.billing.canonical import canonical
from functions.billing.counting import Posted
from functions.billing.credits import Credit
from functions.billing.evidence import root_of
from functions.billing.invoice import Period, State
from functions.billing.ledger import Ledger
from functions.billing.rates import FILE, RateCards
from functions.billing.usage import Usage, usage_of
from functions.events import Event
from functions.problems import Conflict, InvalidRequest, NotFound
from tests.billing.house import BOTH, usage_data
from tests.billing.prices import HEAD, PRICES, cards_of

if TYPE_CHECKING:
    import random
    from pathlib import Path

DATABASES = BOTH
OCTOBER = Period(2026, 10)
NOVEMBER = Period(2026, 11)
IN_GRACE = datetime(2026, 11, 2, tzinfo=UTC)
CLOSING = datetime(2026, 11, 4, tzinfo=UTC)
NEXT_CLOSING = datetime(2026, 12, 4, tzinfo=UTC)
CARDS = RateCards.load()


def usage(
    name: str, *, tenant: str = "acme", day: str = "2026-10-05", **data: Any
) -> Usage:
    """Return a use of a GPU on a day, which costs 0.00044008 unless told otherwise."""
    event = Event(
        id=name,
        source=events.swap_source(tenant),
        type=events.USAGE_RECORDED,
        subject=tenant,
        tenant=tenant,
        time=f"{day}T12:00:00.000Z",
        data=usage_data(**({"job": f"job-{name}"} | data)),
    )
    return usage_of(event, now=NEXT_CLOSING)


def closed(office: Ledger, period: Period = OCTOBER, now: datetime = CLOSING) -> None:
    """Close a period of acme."""
    closing.close(office, "acme", period, now)


def issued(office: Ledger, period: Period = OCTOBER, now: datetime = CLOSING) -> Any:
    """Close a period of acme and return its invoice."""
    closed(office, period, now)
    return closing.issued(office, CARDS, "acme", period, now)


def test_a_period_goes_on_from_open_to_issued(ledger: Ledger, office: Ledger) -> None:
    """Open, in grace for three days, closed, issued; and never back."""
    ledger.post(usage("u1"))
    seen = [
        closing.state(ledger, "acme", OCTOBER, datetime(2026, 10, 31, tzinfo=UTC)),
        closing.state(ledger, "acme", OCTOBER, IN_GRACE),
    ]
    with pytest.raises(InvalidRequest, match="3 days after"):
        closed(office, now=IN_GRACE)
    with pytest.raises(InvalidRequest, match="not closed"):
        closing.issued(office, CARDS, "acme", OCTOBER, CLOSING)
    closed(office)
    seen.append(closing.state(ledger, "acme", OCTOBER, CLOSING))
    closing.issued(office, CARDS, "acme", OCTOBER, CLOSING)
    seen.append(closing.state(ledger, "acme", OCTOBER, CLOSING))
    assert seen == [State.OPEN, State.GRACE, State.CLOSED, State.ISSUED]


def test_closing_and_issuing_again_is_the_same_invoice(
    ledger: Ledger, office: Ledger
) -> None:
    """Whoever closes a second time, even later, gets the first invoice's bytes."""
    ledger.post(usage("u1"))
    first = issued(office)
    again = issued(office, now=NEXT_CLOSING)
    assert canonical(again) == canonical(first)
    assert first.number == "acme-000001"
    assert closing.invoice_of(ledger, "acme", OCTOBER) == first
    assert closing.document(ledger, "acme", "acme-000001") == first
    assert closing.issued_documents(ledger, "acme") == [first]


def test_closers_at_once_issue_one_invoice(ledger: Ledger, office: Ledger) -> None:
    """One number, one document, however many close at the same moment."""
    ledger.post_all([usage(f"u{each}") for each in range(20)])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: issued(office), range(8)))
    assert len({canonical(each) for each in found}) == 1
    assert len(closing.issued_documents(ledger, "acme")) == 1


def test_late_usage_is_a_correction_in_the_next_invoice(
    ledger: Ledger, office: Ledger
) -> None:
    """What comes after its month was closed is billed by that month's prices, later."""
    ledger.post(usage("u1"))
    first = issued(office)
    ledger.post(usage("u2", requests=1_000_000))
    ledger.post(usage("u3", day="2026-11-05"))
    assert issued(office) == first
    second = issued(office, NOVEMBER, NEXT_CLOSING)
    corrections = [line for line in second.lines if line.kind == "correction"]
    assert {line.period for line in corrections} == {"2026-10"}
    requests = next(line for line in corrections if line.sku == "request")
    assert (requests.quantity, requests.amount) == ("1000000", "400.00")
    own = [line for line in second.lines if line.kind == "usage"]
    assert {line.period for line in own} == {"2026-11"}
    assert second.events.count == 2
    assert second.jobs.count == 2


def test_a_correction_of_a_correction_counts_once(
    ledger: Ledger, office: Ledger
) -> None:
    """Usage that is late by two months is only in the invoice that was next."""
    ledger.post(usage("u1", requests=10_000))
    issued(office)
    ledger.post(usage("u2", requests=10_000))
    second = issued(office, NOVEMBER, NEXT_CLOSING)
    ledger.post(usage("u3", requests=10_000))
    december = Period(2026, 12)
    third = issued(office, december, datetime(2027, 1, 4, tzinfo=UTC))
    amounts = [
        next(line.amount for line in each.lines if line.sku == "request")
        for each in (second, third)
    ]
    assert amounts == ["4.00", "4.00"]


def test_an_earlier_month_with_usage_is_closed_first(
    ledger: Ledger, office: Ledger
) -> None:
    """Nothing is passed over; months without usage are."""
    ledger.post(usage("u1", day="2026-09-05"))
    with pytest.raises(InvalidRequest, match="2026-09 of acme is to be closed first"):
        closed(office)
    issued(office, Period(2026, 9))
    closed(office)


def test_a_month_without_usage_has_no_invoice(ledger: Ledger, office: Ledger) -> None:
    """Nothing used, nothing agreed: nothing is sent, and no number is lost."""
    assert issued(office) is None
    ledger.post(usage("u1", day="2026-11-05"))
    assert issued(office, NOVEMBER, NEXT_CLOSING).number == "acme-000001"


def test_credits_are_used_up_by_invoices(ledger: Ledger, office: Ledger) -> None:
    """An invoice takes what is left; its note gives it back; what is over ends."""
    ledger.post(usage("u1", requests=100_000))
    credit = Credit(
        id="welcome",
        tenant="acme",
        currency="USD",
        amount_minor=1500,
        from_ms=OCTOBER.start_ms,
        until_ms=NOVEMBER.stop_ms,
    )
    closing.grant(office, credit)
    closing.grant(office, credit)
    with pytest.raises(Conflict):
        closing.grant(office, Credit(**{**_fields(credit), "amount_minor": 1}))
    invoice = issued(office)
    assert (invoice.credits, invoice.total) == ("-15.00", "25.00")
    assert closing.available(ledger, "acme")[0].left_minor == 0
    note = closing.credit_note(
        office, "acme", invoice.number, now=CLOSING, reason="a fault of ours"
    )
    assert note.total == "-25.00"
    assert closing.available(ledger, "acme")[0].left_minor == 1500
    assert closing.expire(office, "acme", datetime(2027, 2, 1, tzinfo=UTC)) == []
    closed(office, NOVEMBER, NEXT_CLOSING)
    ended = closing.expire(office, "acme", datetime(2027, 2, 1, tzinfo=UTC))
    assert [each.amount_minor for each in ended] == [-1500]
    assert closing.expire(office, "acme", datetime(2027, 2, 1, tzinfo=UTC)) == []


def _fields(credit: Credit) -> dict[str, Any]:
    return {name: getattr(credit, name) for name in credit.__struct_fields__}


def test_a_note_needs_an_invoice_and_takes_back_no_more(
    ledger: Ledger, office: Ledger
) -> None:
    """Numbers go on without a gap, whatever was refused."""
    ledger.post(usage("u1", requests=100_000))
    invoice = issued(office)
    with pytest.raises(NotFound):
        closing.credit_note(office, "acme", "acme-000009", now=CLOSING, reason="none")
    closing.credit_note(office, "acme", invoice.number, now=CLOSING, reason="all")
    with pytest.raises(InvalidRequest):
        closing.credit_note(office, "acme", invoice.number, now=CLOSING, reason="more")
    numbers = [each.number for each in closing.issued_documents(ledger, "acme")]
    assert numbers == ["acme-000001", "acme-000002"]


def test_a_card_that_has_priced_something_cannot_change(
    ledger: Ledger, office: Ledger, tmp_path: Path
) -> None:
    """The second invoice by a changed card is refused, and nothing half-issued."""
    ledger.post(usage("u1"))
    ledger.post(usage("u2", day="2026-11-05"))
    issued(office)
    closed(office, NOVEMBER, NEXT_CLOSING)
    changed = cards_of(tmp_path, FILE.read_text().replace('"0.0004"', '"0.0005"'))
    with pytest.raises(Conflict, match="a new price is a new card"):
        closing.issued(office, changed, "acme", NOVEMBER, NEXT_CLOSING)
    assert closing.invoice_of(ledger, "acme", NOVEMBER) is None
    made = closing.issued(office, CARDS, "acme", NOVEMBER, NEXT_CLOSING)
    assert made is not None
    assert made.number == "acme-000002"


def test_what_was_issued_is_told_of_until_somebody_took_it(
    ledger: Ledger, office: Ledger
) -> None:
    """A document is untold from its transaction on, until it is noted as told."""
    ledger.post(usage("u1"))
    invoice = issued(office)
    assert telling.untold(office) == [invoice]
    telling.told(office, invoice, CLOSING)
    assert telling.untold(office) == []


def test_the_same_id_with_other_content_stands_as_it_came_first(ledger: Ledger) -> None:
    """In one batch or in two: counted once, and the contradiction is seen."""
    one, other = usage("u1"), usage("u1", requests=5)
    first = ledger.post_all([one, other, one])
    assert first == [Posted.NEW, Posted.CONFLICT, Posted.DUPLICATE]
    assert ledger.post_all([other, one]) == [Posted.CONFLICT, Posted.DUPLICATE]


def test_usage_while_a_month_is_closed_is_in_one_invoice(
    ledger: Ledger, office: Ledger
) -> None:
    """Who posts at the moment of closing is billed in this month or the next, once."""
    batches = [[usage(f"u{n}-{each}") for each in range(5)] for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        posting = [pool.submit(ledger.post_all, batch) for batch in batches]
        first = pool.submit(issued, office).result()
        for each in posting:
            assert set(each.result()) == {Posted.NEW}
    second = issued(office, NOVEMBER, NEXT_CLOSING)
    counts = [each.events.count if each else 0 for each in (first, second)]
    assert sum(counts) == 200
    requests = [
        int(line.quantity)
        for each in (first, second)
        for line in (each.lines if each else ())
        if line.sku == "request"
    ]
    assert sum(requests) == 200


NAMES = st.lists(st.integers(0, 11), min_size=1, max_size=40)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(order=NAMES, seed=st.randoms(use_true_random=False))
def test_any_order_duplicates_and_restarts_give_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], seed: random.Random
) -> None:
    """An invoice depends on the set of events, not on how they came."""
    known = sorted(set(order))
    plain = _invoice(tmp_path_factory.mktemp("plain"), [known])
    often = [*order, *known]
    seed.shuffle(often)
    middle = len(often) // 2
    shuffled = _invoice(
        tmp_path_factory.mktemp("shuffled"), [often[:middle], often[middle:]]
    )
    assert plain == shuffled


def _invoice(folder: Path, sessions: list[list[int]]) -> bytes:
    """Return an invoice over uses, posted over several lives of the ledger."""
    url = f"sqlite:///{folder}/billing.db"
    for session in sessions:
        ledger = Ledger.open(url)
        for each in session:
            ledger.post(usage(f"u{each}", lease_ms=900, requests=each + 1))
        ledger.close()
    office = Ledger.open(url)
    try:
        return canonical(issued(office))
    finally:
        office.close()


def test_the_event_set_has_the_root_that_its_holder_computes(
    ledger: Ledger, office: Ledger
) -> None:
    """Whoever kept the events can tell that the invoice is over exactly those."""
    found = [usage(f"u{each}") for each in range(300)]
    ledger.post_all(found)
    invoice = issued(office)
    assert invoice.events == root_of(sorted(each.digest for each in found))
    jobs = root_of(sorted(each.data.job.encode() for each in found))
    assert invoice.jobs == jobs
    by_the_database = ledger.evidence("acme", OCTOBER)
    assert by_the_database == (invoice.events, invoice.jobs)


def test_a_bill_is_the_same_whether_its_usage_was_held_or_not(
    ledger: Ledger, office: Ledger, url: str, tmp_path: Path
) -> None:
    """Late and in time, under two cards and on two models, billable or not."""
    later = HEAD.replace('"a"', '"b"').replace("2025-01-01", "2026-10-10")
    cards = cards_of(tmp_path, HEAD + PRICES + later + PRICES)
    ledger.post(usage("u0", day="2026-09-30"))
    closed(office, OCTOBER.preceding)
    cpu = {"kind": "cpu", "name": "EPYC", "uuid": "", "share": "1"}
    ledger.post_all(
        [
            usage("u1", day="2026-09-30", requests=7),  # late
            usage("u2", day="2026-10-05"),
            usage("u3", day="2026-10-15", requests=5),
            usage("u4", day="2026-10-15", device=cpu, gpu_seconds="0"),
            usage("u5", day="2026-10-31", billable=False),
            usage("u6", day="2026-11-01"),  # the next month's
        ]
    )
    closed(office)
    held = statement.bill_of(office, cards, "acme", OCTOBER)
    assert held.events.count == 5
    assert len(held.metered) == len(held.late) + 1 == 2
    small = Ledger.open(url, held_max=4)
    assert statement.bill_of(small, cards, "acme", OCTOBER) == held
    small.close()


def test_late_usage_of_a_month_that_had_no_invoice_pays_its_minimum(
    ledger: Ledger, office: Ledger, tmp_path: Path
) -> None:
    """Nothing was billed of that month, so nothing is taken off again."""
    text = FILE.read_text().replace(
        'currency = "USD"', 'currency = "USD"\nminimum = "9.00"'
    )
    cards = cards_of(tmp_path, text)
    closed(office, NOVEMBER, NEXT_CLOSING)
    ledger.post(usage("u1", day="2026-10-05"))
    december = Period(2026, 12)
    now = datetime(2027, 1, 4, tzinfo=UTC)
    closed(office, december, now)
    made = closing.issued(office, cards, "acme", december, now)
    assert made is not None
    corrected = [each for each in made.lines if each.period == "2026-10"]
    assert sum(each.amount_minor for each in corrected) == 900
