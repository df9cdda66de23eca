"""Attacks on rounding: usage that comes late in many small parts."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from functions.billing.drafting import Bill, Late, draft
from functions.billing.money import EXACT
from functions.billing.rating import Meter
from tests.billing.bills import OCTOBER
from tests.billing.prices import HEAD, NOVEMBER, PRICES, cards_of, metered

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.rating import Metered

METERS = [Meter("cpu.exec"), Meter("request"), Meter("gpu.exec", "L4")]
PARTS = st.lists(
    st.dictionaries(
        st.sampled_from(METERS),
        st.integers(0, 10**9).map(lambda n: Decimal(n).scaleb(-6, context=EXACT)),
    ),
    min_size=1,
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, minimum=st.sampled_from(["0", "0.05", "5.00", "900.00"]))
@example(parts=[{METERS[1]: Decimal(12)}] * 6, minimum="0")
@example(parts=[{METERS[1]: Decimal(12)}] * 6, minimum="0.05")
def test_attack_usage_that_trickles_in_month_after_month(
    tmp_path: Path, parts: list[dict[Meter, Decimal]], minimum: str
) -> None:
    """However a month's usage is split into late parts, it comes to the same coins."""
    found = cards_of(tmp_path, HEAD + f'minimum = "{minimum}"' + PRICES)
    sofar: dict[Meter, Decimal] = {}
    before: tuple[Metered, ...] = ()
    billed = 0
    for part in parts:
        for meter, quantity in part.items():
            sofar[meter] = sofar.get(meter, Decimal(0)) + quantity
        after = metered(found, dict(sofar), period=OCTOBER)
        given_ = Bill(
            tenant="acme",
            period=NOVEMBER,
            metered=(),
            late=(Late(OCTOBER, before, after),),
        )
        billed += draft(given_, found).net_minor
        before = after
    assert (
        billed
        == draft(Bill(tenant="acme", period=OCTOBER, metered=before), found).net_minor
    )
