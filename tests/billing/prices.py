"""Rate cards and usage for tests that need no database."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from functions.billing.invoice import Period
from functions.billing.rates import RateCards
from functions.billing.rating import Meter, Metered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from functions.billing.rates import Sku

NOVEMBER = Period(2026, 11)

HEAD = """
[[card]]
version = "a"
from = 2025-01-01T00:00:00Z
currency = "USD"
"""

PRICES = """
[card.prices]
"gpu.exec" = { unit = "second", price = "0.000222" }
"gpu.load" = { unit = "second", price = "0" }
"cpu.exec" = { unit = "second", price = "0.000024" }
"request" = { unit = "request", price = "0.0004" }
"storage" = { unit = "gib-month", price = "0.02" }
"""

CONTRACT = """
[[contract]]
version = "acme-1"
tenant = "acme"
from = 2026-11-10T00:00:00Z
until = 2026-11-20T00:00:00Z
minimum = "5.00"
tax = { name = "VAT", rate = "0.19" }
reserved = { "L4" = 2 }

[contract.prices]
"request" = { unit = "request", price = "0.0001" }
"gpu.idle" = { unit = "second", price = "0.00005" }
"""


def cards_of(tmp_path: Path, text: str) -> RateCards:
    """Return the cards that a file with this text holds."""
    path = tmp_path / "rates.toml"
    path.write_text(text)
    return RateCards.load(path)


def one_rate(tmp_path: Path, rate: str, sku: Sku = "request") -> RateCards:
    """Return one card with one price, `rate` in TOML."""
    return cards_of(tmp_path, f'{HEAD}\n[card.prices]\n"{sku}" = {{ {rate} }}\n')


def used(**quantities: str | int) -> dict[Meter, Decimal]:
    """Return quantities by SKU, its dot written as `_`."""
    return {_meter(name): Decimal(each) for name, each in quantities.items()}


def _meter(name: str) -> Meter:
    sku: Any = name.replace("_", ".")
    return Meter(sku)


def metered(
    cards: RateCards,
    quantities: Mapping[Meter, Decimal],
    tenant: str = "acme",
    period: Period = NOVEMBER,
) -> tuple[Metered, ...]:
    """Return a period's usage, all of it under the terms of its beginning."""
    terms = cards.terms(tenant, period.start_ms)
    return (Metered(terms, period.start_ms, period.stop_ms, quantities),)
