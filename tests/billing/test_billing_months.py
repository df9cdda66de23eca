"""Attacks on a year of months: two functions that count, a closer, and usage too late.

Whatever came when, and by which function, each use is billed once and to the coin.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.billing import closing, focus
from functions.billing.counting import Posted
from functions.billing.drafting import Bill, draft
from functions.billing.ledger import Ledger
from functions.billing.rates import RateCards
from functions.billing.rating import Meter
from tests.billing.bills import OCTOBER
from tests.billing.house import BOTH
from tests.billing.prices import HEAD, cards_of, metered, used
from tests.billing.test_billing_closing import usage
from tests.billing.test_billing_order import due

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from functions.billing.invoice import Invoice

DATABASES = BOTH
TIERS = """
minimum = "0.05"
[card.prices]
"gpu.exec" = { unit = "second", price = "0.000222" }
"gpu.load" = { unit = "second", price = "0" }
"cpu.exec" = { unit = "second", price = "0.000024" }
[card.prices."request"]
unit = "request"
included = "3"
graduated = [{ upto = "20", price = "0.0049" }, { price = "0.0011" }]
"""


def test_attack_two_functions_count_while_a_month_is_closed(
    ledger: Ledger, office: Ledger, url: str
) -> None:
    """Both bring the same batches: each use is new once, and in one invoice."""
    other = Ledger.open(url)
    batches = [[usage(f"u{n}-{each}") for each in range(5)] for n in range(30)]
    cards = RateCards.load()

    def closed() -> Invoice | None:
        closing.close(office, "acme", OCTOBER, due(OCTOBER))
        return closing.issued(office, cards, "acme", OCTOBER, due(OCTOBER))

    with ThreadPoolExecutor(9) as pool:
        posting = [
            pool.submit(each.post_all, batch)
            for batch in batches
            for each in (ledger, other)
        ]
        found = [pool.submit(closed).result()]
        posted = [each for batch in posting for each in batch.result()]
    other.close()
    november = OCTOBER.following
    closing.close(office, "acme", november, due(november))
    found.append(closing.issued(office, cards, "acme", november, due(november)))
    assert posted.count(Posted.NEW) == 150
    assert posted.count(Posted.DUPLICATE) == 150
    assert sum(each.events.count for each in found if each) == 150


# (how many requests, how many months late) of each use of October, and its duplicates
USES = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 3), st.booleans()),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(uses=USES)
def test_attack_usage_late_by_any_number_of_months(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    uses: list[tuple[int, int, bool]],
) -> None:
    """All invoices together are what one would have been; FOCUS adds up to each."""
    cards = cards_of(tmp_path, HEAD + TIERS)
    ledger = Ledger.open(f"sqlite:///{tmp_path_factory.mktemp('months')}/billing.db")
    found = [usage(f"u{n}", requests=count) for n, (count, _, _) in enumerate(uses)]
    period, made = OCTOBER, []
    for month in range(4):
        batch = [
            each
            for each, (_, late, again) in zip(found, uses, strict=True)
            if late == month or (again and late < month)
        ]
        ledger.post_all(batch)
        closing.close(ledger, "acme", period, due(period))
        invoice = closing.issued(ledger, cards, "acme", period, due(period))
        made += [invoice] if invoice else []
        period = period.following
    ledger.close()
    whole = used(
        request=sum(count for count, _, _ in uses),
        gpu_exec=str(Decimal("0.136") * len(uses)),
        cpu_exec=str(Decimal("0.412") * len(uses)),
    )
    whole[Meter("gpu.exec", "L4")] = whole.pop(Meter("gpu.exec"))
    once = draft(
        Bill(
            tenant="acme", period=OCTOBER, metered=metered(cards, whole, period=OCTOBER)
        ),
        cards,
    )
    of_october = [
        line for each in made for line in each.lines if line.period == "2026-10"
    ]
    assert sum(line.amount_minor for line in of_october) == once.net_minor
    for each in made:
        assert focus.payable(focus.rows(each), each.minor_digits) == each.total
