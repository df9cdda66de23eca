"""A bill with all that a bill may have, for tests of invoices and documents."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from functions.billing.credits import Available, Credit
from functions.billing.drafting import Bill, Late, draft
from functions.billing.evidence import root_of
from functions.billing.invoice import Invoice, Period, issue, number
from functions.billing.rates import Contract, Party, RateCard, RateCards
from functions.billing.rating import Meter, Metered
from tests.billing.prices import NOVEMBER, used

if TYPE_CHECKING:
    from collections.abc import Mapping

OCTOBER = Period(2026, 10)
ISSUED = date(2026, 12, 3)

CARDS = """
[[card]]
version = "2026-01"
from = 2026-01-01T00:00:00Z
currency = "EUR"
tax = { name = "VAT", rate = "0.19" }

[card.prices]
"cpu.exec" = { unit = "second", price = "0.000024" }
"gpu.load" = { unit = "second", price = "0" }
"storage" = { unit = "gib-month", price = "0.02", included = "5" }

[card.prices."request"]
unit = "request"
graduated = [
  { upto = "1000000", price = "0.0004" },
  { price = "0.0003" },
]

[card.prices."gpu.exec".models]
"NVIDIA L4" = { price = "0.000222" }
"NVIDIA H100 80GB HBM3" = { price = "0.001097" }

[card.prices."gpu.exec"]
unit = "second"

[card.prices."gpu.idle"]
unit = "second"
price = "0.000133"

[[contract]]
version = "acme-2026"
tenant = "acme"
from = 2026-10-01T00:00:00Z
reserved = { "NVIDIA L4" = 1 }

[contract.prices."gpu.exec"]
unit = "second"

[contract.prices."gpu.exec".models]
"NVIDIA L4" = { price = "0.000199" }
"""


def cards() -> RateCards:
    """Return a card and a contract with every kind of price."""
    document = tomllib.loads(CARDS)
    return RateCards(
        msgspec.convert(document["card"], tuple[RateCard, ...]),
        msgspec.convert(document["contract"], tuple[Contract, ...]),
        issuer=Party(
            "Guise Clouds GmbH",
            ("Hauptstraße 1", "10115 Berlin", "Germany"),
            tax_id="DE123456789",
            email="billing@guise.example",
            payment=("IBAN DE02 1203 0000 0000 2020 51", "BIC BYLADEM1001"),
        ),
        customers=(
            (
                "acme",
                Party(
                    "Acme Pictures & Söhne AG",
                    ("Lange Straße 17", "60311 Frankfurt am Main", "Germany"),
                    tax_id="DE987654321",
                ),
            ),
        ),
    )


def spans(
    found: RateCards, period: Period, quantities: Mapping[Meter, Decimal]
) -> tuple[Metered, ...]:
    """Return acme's usage in a period, all in its first span."""
    given = [quantities, *({} for _ in range(99))]
    parts = found.spans("acme", period.start_ms, period.stop_ms)
    return tuple(Metered(*part, each) for part, each in zip(parts, given, strict=False))


def november() -> dict[Meter, Decimal]:
    """Return what acme used in November."""
    return {
        Meter("gpu.exec", "NVIDIA L4"): Decimal("1213600.136"),
        Meter("gpu.exec", "NVIDIA H100 80GB HBM3"): Decimal("40210.5"),
        Meter("gpu.load", "NVIDIA L4"): Decimal(5400),
        Meter("cpu.exec"): Decimal("3120400.412"),
        Meter("request"): Decimal(1_250_000),
        Meter("storage"): Decimal("812.345678"),
    }


def bill(**changes: Any) -> Bill:
    """Return a bill with late usage and two credits."""
    found = cards()
    before, after = used(request=10_000), used(request=10_250, cpu_exec="90.5")
    credits_ = [
        Available(_credit("welcome", 2000, until_ms=NOVEMBER.stop_ms), 1250),
        Available(_credit("pilot", 5000, priority=10), 5000),
    ]
    whole: dict[str, Any] = {
        "tenant": "acme",
        "period": NOVEMBER,
        "metered": spans(found, NOVEMBER, november()),
        "late": (
            Late(OCTOBER, spans(found, OCTOBER, before), spans(found, OCTOBER, after)),
        ),
        "credits": tuple(credits_),
        "events": root_of(sorted(sha256(bytes([n])).digest() for n in range(200))),
        "jobs": root_of(sorted(f"job-{n}".encode() for n in range(150))),
        "log": "guise.audit/acme",
    }
    return Bill(**(whole | changes))


def _credit(name: str, minor: int, **changes: Any) -> Credit:
    plain: dict[str, Any] = {"from_ms": OCTOBER.start_ms, "note": f"The {name} credit"}
    return Credit(
        id=name,
        tenant="acme",
        currency="EUR",
        amount_minor=minor,
        **(plain | changes),
    )


def issued(**changes: Any) -> Invoice:
    """Return acme's seventh invoice, as it is sent."""
    return issue(draft(bill(**changes), cards()), number("acme", 7), ISSUED, 14)
