"""Invoices as rows of FOCUS 1.2, the FinOps Foundation's format for cost data.  Pure.

A row is a line of an invoice.  `BilledCost` is the line's amount, so its sum is the
payable; `ListCost` and `ContractedCost` are exact, as the format wants a cost to be
quantity times price.  A null is None here and an empty field in the CSV.

What corrects an earlier month has that as its charge period, and is billed in the
current one, late usage and credit notes alike: a month that was invoiced is exported
as it was, for ever.  (Version 1.2: ChargeClass, the glossary's "Correction" and
"Billing Period"; the draft of its attribute "Refund Handling" says it outright.)
Source: https://focus.finops.org/focus-specification/v1-2/
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from functions.billing.exports import csv_of
from functions.billing.invoice import Invoice, Line, Period
from functions.billing.money import EXACT, coins, plain, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from functions.billing.rates import Tax

VERSION: Final = "1.2"

COLUMNS: Final = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "x_InvoiceLine",
    "x_RateCard",
    "x_CorrectedInvoiceId",
)

UNITS: Final = {"second": "Seconds", "request": "Requests", "gib-month": "GiB-Months"}
METERS: Final = {
    "cpu.exec": "CPU Time",
    "gpu.exec": "GPU Time",
    "gpu.idle": "Reserved GPU Idle Time",
    "gpu.load": "GPU Model Load Time",
    "request": "Requests",
    "storage": "Storage",
}
_SWAPS: Final = ("AI and Machine Learning", "Guise", "Generative AI")
_STORAGE: Final = ("Storage", "Guise Storage", "Object Storage")
_FREQUENCIES: Final = {
    "Usage": "Usage-Based",
    "Adjustment": "Recurring",
    "Tax": "Recurring",
    "Credit": "One-Time",
}

Row = dict[str, str | None]


def rows(invoice: Invoice) -> Iterator[Row]:
    """Yield a row for each line of an invoice or a credit note."""
    bases = _bases(invoice)
    for number, line in enumerate(invoice.lines, start=1):
        costs = _costs(line, bases)
        yield {
            **dict.fromkeys(COLUMNS),
            **_accounts(invoice),
            **_charge(invoice, line),
            **(_usage(line) if line.quantity else {}),
            **costs,
            "x_InvoiceLine": str(number),
            "x_RateCard": line.rate_card or None,
            "x_CorrectedInvoiceId": invoice.refers or None,
        }


def as_csv(invoices: Iterable[Invoice]) -> str:
    """Return the rows of invoices as CSV with a header."""
    found = (row for invoice in invoices for row in rows(invoice))
    return csv_of(COLUMNS, ([row[name] for name in COLUMNS] for row in found))


def _accounts(invoice: Invoice) -> Row:
    """Return who bills whom, and for when; a tenant is its account's only part."""
    name = invoice.customer.name or invoice.tenant
    issuer = invoice.issuer.name or "Guise"
    service = dict(
        zip(
            ("ServiceCategory", "ServiceName", "ServiceSubcategory"),
            _SWAPS,
            strict=True,
        )
    )
    return {
        "BillingAccountId": invoice.tenant,
        "BillingAccountName": name,
        "BillingCurrency": invoice.currency,
        **_span("BillingPeriod", invoice.billing_period),
        "InvoiceId": invoice.number or None,
        "InvoiceIssuerName": issuer,
        "ProviderName": issuer,
        "PublisherName": issuer,
        **service,
        "SubAccountId": invoice.tenant,
        "SubAccountName": name,
    }


def _span(name: str, period: str) -> Row:
    month = Period.parse(period)
    return {
        f"{name}Start": _moment(month.start_ms),
        f"{name}End": _moment(month.stop_ms),
    }


def _moment(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _charge(invoice: Invoice, line: Line) -> Row:
    category = _category(line)
    corrects = line.kind == "correction" or bool(invoice.refers)
    return {
        "ChargeCategory": category,
        "ChargeClass": "Correction" if corrects else None,
        "ChargeDescription": _description(invoice, line),
        "ChargeFrequency": _FREQUENCIES[category],
        **_span("ChargePeriod", line.period),
    }


def _category(line: Line) -> str:
    if line.kind in {"tax", "credit"}:
        return line.kind.capitalize()
    if line.sku:
        return "Usage"
    # What a note takes back and no card had priced is a credit that was used up.
    returned = line.kind == "credited" and not line.rate_card
    return "Credit" if returned else "Adjustment"


def _description(invoice: Invoice, line: Line) -> str:
    if line.kind == "tax":
        return f"{line.tax.name} {plain(_percent(line.tax))} %"
    if line.kind == "credit":
        return line.note or f"Credit {line.refers}"
    what = " ".join(each for each in (METERS.get(line.sku), line.model) if each)
    if line.kind == "credited":
        return f"{what or 'Amount'} of {invoice.refers}, line {line.refers}: taken back"
    what = what or "Minimum charge"
    if line.included:
        what += ", included"
    return f"{what}, correction of {line.period}" if line.kind == "correction" else what


def _percent(tax: Tax) -> Decimal:
    return Decimal(tax.rate).scaleb(2, context=EXACT)


def _usage(line: Line) -> Row:
    """Return the quantity, the prices and the SKU of a line that has a quantity."""
    unit = UNITS[line.unit]
    sku = f"{line.sku}/{line.model}" if line.model else line.sku
    place = "included" if line.included else f"from-{line.tier_from}"
    service = _STORAGE if line.sku == "storage" else _SWAPS
    details = {"x_TierFrom": line.tier_from, "x_Included": line.included}
    return {
        "ConsumedQuantity": line.quantity,
        "ConsumedUnit": unit,
        "ContractedUnitPrice": line.unit_price,
        "ListUnitPrice": line.list_price,
        "PricingCategory": "Standard",
        "PricingQuantity": line.quantity,
        "PricingUnit": unit,
        "ServiceCategory": service[0],
        "ServiceName": service[1],
        "ServiceSubcategory": service[2],
        "SkuId": sku,
        "SkuMeter": METERS[line.sku],
        "SkuPriceDetails": json.dumps(details, separators=(",", ":")),
        "SkuPriceId": f"{sku}/{place}",
    }


def _costs(line: Line, bases: dict[Tax, Decimal]) -> Row:
    """Return the four costs; those of a tax are the rate of what they tax."""
    list_cost = contracted = Decimal(line.amount)
    if line.kind == "tax":
        list_cost = EXACT.multiply(bases[line.tax], Decimal(line.tax.rate))
    elif line.quantity:
        contracted = Decimal(line.exact)
        list_cost = _listed(line)
    return {
        "BilledCost": line.amount,
        "ContractedCost": plain(contracted),
        "EffectiveCost": line.amount,
        "ListCost": plain(list_cost),
    }


def _listed(line: Line) -> Decimal:
    return EXACT.multiply(Decimal(line.quantity), Decimal(line.list_price))


def _bases(invoice: Invoice) -> dict[Tax, Decimal]:
    """Return what each tax would tax at list prices."""
    found: defaultdict[Tax, list[Decimal]] = defaultdict(list)
    for line in invoice.lines:
        if line.kind != "tax":
            cost = _listed(line) if line.quantity else Decimal(line.amount)
            found[line.tax].append(cost)
    return {tax: total(costs) for tax, costs in found.items()}


def payable(found: Iterable[Row], digits: int) -> str:
    """Return the sum of BilledCost of rows, as an invoice writes its total."""
    billed = total(Decimal(row["BilledCost"] or 0) for row in found)
    return coins(int(billed.scaleb(digits, context=EXACT)), digits)
