"""What FOCUS 1.2 demands of a row, restated as a table and a few predicates.

Facts from the specification's column and attribute pages, version 1.2:
https://focus.finops.org/focus-specification/v1-2/
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Row = Mapping[str, str | None]

MANDATORY = frozenset(
    [
        "BilledCost",
        "BillingAccountId",
        "BillingAccountName",
        "BillingCurrency",
        "BillingPeriodEnd",
        "BillingPeriodStart",
        "ChargeCategory",
        "ChargeClass",
        "ChargeDescription",
        "ChargePeriodEnd",
        "ChargePeriodStart",
        "ContractedCost",
        "EffectiveCost",
        "InvoiceIssuerName",
        "ListCost",
        "PricingQuantity",
        "PricingUnit",
        "ProviderName",
        "PublisherName",
        "ServiceCategory",
        "ServiceName",
    ]
)
# Of the conditional ones, those whose condition holds here: prices are published and
# negotiated, use is measured, there are SKUs and accounts of tenants.
CONDITIONAL = frozenset(
    [
        "ConsumedQuantity",
        "ConsumedUnit",
        "ContractedUnitPrice",
        "ListUnitPrice",
        "SkuId",
        "SkuMeter",
        "SkuPriceDetails",
        "SkuPriceId",
        "SubAccountId",
        "SubAccountName",
    ]
)
OTHERS = frozenset(
    [
        "AvailabilityZone",
        "BillingAccountType",
        "CapacityReservationId",
        "CapacityReservationStatus",
        "ChargeFrequency",
        "CommitmentDiscountCategory",
        "CommitmentDiscountId",
        "CommitmentDiscountName",
        "CommitmentDiscountQuantity",
        "CommitmentDiscountStatus",
        "CommitmentDiscountType",
        "CommitmentDiscountUnit",
        "InvoiceId",
        "PricingCategory",
        "PricingCurrency",
        "PricingCurrencyContractedUnitPrice",
        "PricingCurrencyEffectiveCost",
        "PricingCurrencyListUnitPrice",
        "RegionId",
        "RegionName",
        "ResourceId",
        "ResourceName",
        "ResourceType",
        "ServiceSubcategory",
        "SubAccountType",
        "Tags",
    ]
)
NEVER_NULL = frozenset(
    [
        "BilledCost",
        "BillingAccountId",
        "BillingCurrency",
        "BillingPeriodEnd",
        "BillingPeriodStart",
        "ChargeCategory",
        "ChargeDescription",
        "ChargeFrequency",
        "ChargePeriodEnd",
        "ChargePeriodStart",
        "ContractedCost",
        "EffectiveCost",
        "InvoiceIssuerName",
        "ListCost",
        "ProviderName",
        "PublisherName",
        "ServiceCategory",
        "ServiceName",
        "ServiceSubcategory",
    ]
)
DECIMALS = frozenset(
    [
        "BilledCost",
        "ConsumedQuantity",
        "ContractedCost",
        "ContractedUnitPrice",
        "EffectiveCost",
        "ListCost",
        "ListUnitPrice",
        "PricingQuantity",
    ]
)
MOMENTS = frozenset(
    ["BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart"]
)
ALLOWED: dict[str, set[str | None]] = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {None, "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {None, "Standard", "Dynamic", "Committed", "Other"},
}
# The part of the table of services that is used here.
SERVICES = {
    ("AI and Machine Learning", "Generative AI"),
    ("Storage", "Object Storage"),
}
PRICED = (
    *("PricingQuantity", "ListUnitPrice", "ContractedUnitPrice", "PricingCategory"),
    *("SkuId", "SkuPriceId"),
)

_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(E-?[0-9]+)?")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_UNIT = re.compile(r"[A-Z][A-Za-z]*(-[A-Z][a-z]*s)?")


def _nulls(row: Row) -> bool:
    """Null means there is none: never where it is forbidden, never an empty text."""
    return all(row[name] is not None for name in NEVER_NULL) and "" not in row.values()


def _forms(row: Row) -> bool:
    """Numbers, moments, units, a currency and JSON are written as the format says."""
    numbers = [row[name] for name in DECIMALS]
    units = [row["PricingUnit"], row["ConsumedUnit"]]
    return (
        all(_DECIMAL.fullmatch(each) for each in numbers if each is not None)
        and all(_MOMENT.fullmatch(row[name] or "") for name in MOMENTS)
        and all(_UNIT.fullmatch(each) for each in units if each is not None)
        and bool(re.fullmatch("[A-Z]{3}", row["BillingCurrency"] or ""))
    )


def _details(row: Row) -> bool:
    """SkuPriceDetails is an object of plain values, its own keys with an `x_`."""
    if row["SkuPriceDetails"] is None:
        return True
    details = json.loads(row["SkuPriceDetails"])
    plain = all(not isinstance(each, dict | list) for each in details.values())
    return plain and all(name.startswith("x_") for name in details)


def _values(row: Row) -> bool:
    """Only allowed values; a service has the subcategory of its category."""
    service = (row["ServiceCategory"], row["ServiceSubcategory"])
    return all(row[n] in each for n, each in ALLOWED.items()) and service in SERVICES


def _priced(row: Row) -> bool:
    """Usage and purchases have quantity, prices and SKU; a tax has none of them."""
    given = [row[name] is not None for name in PRICED]
    if row["ChargeCategory"] == "Tax":
        return not any(given)
    if row["ChargeCategory"] in {"Usage", "Purchase"} and row["ChargeClass"] is None:
        return all(given)
    return True


def _pairs(row: Row) -> bool:
    """Name a unit with its quantity, a meter and details with their SKU."""
    return (
        (row["PricingUnit"] is None) == (row["PricingQuantity"] is None)
        and (row["ConsumedUnit"] is None) == (row["ConsumedQuantity"] is None)
        and (row["SkuMeter"] is None) == (row["SkuId"] is None)
        and (row["SkuPriceDetails"] is None or row["SkuPriceId"] is not None)
    )


def _consumed(row: Row) -> bool:
    """Only usage consumes; usage that is no correction says how much."""
    if row["ChargeCategory"] != "Usage":
        return row["ConsumedQuantity"] is None
    return row["ConsumedQuantity"] is not None or row["ChargeClass"] is not None


def _products(row: Row) -> bool:
    """Let a cost be exactly its unit price times the pricing quantity."""
    if row["PricingQuantity"] is None:
        return True
    quantity = Decimal(row["PricingQuantity"])
    return all(
        Decimal(row[f"{kind}UnitPrice"] or 0) * quantity
        == Decimal(row[f"{kind}Cost"] or 0)
        for kind in ("List", "Contracted")
    )


def _prices(row: Row) -> bool:
    """Let no unit price be below zero."""
    return all(
        Decimal(row[name] or 0) >= 0
        for name in ("ListUnitPrice", "ContractedUnitPrice")
    )


def _unrelated(row: Row) -> bool:
    """Let all costs of what rests on no other charge be its billed cost."""
    if row["ChargeCategory"] != "Credit":
        return True
    costs = {row[n] for n in ("BilledCost", "EffectiveCost")}
    costs |= {str(Decimal(row["BilledCost"] or 0))}
    same = [Decimal(row[n] or 0) for n in ("ListCost", "ContractedCost", "BilledCost")]
    return len(set(same)) == 1 and len(costs) == 1


def _frequency(row: Row) -> bool:
    """No purchase is usage-based."""
    category, frequency = row["ChargeCategory"], row["ChargeFrequency"]
    return (category, frequency) != ("Purchase", "Usage-Based")


def _times(row: Row) -> bool:
    """Let a period end after it begins."""
    return all(
        (row[f"{kind}PeriodStart"] or "") < (row[f"{kind}PeriodEnd"] or "")
        for kind in ("Billing", "Charge")
    )


RULES: tuple[Callable[[Any], bool], ...] = (
    *(_nulls, _forms, _details, _values, _priced, _pairs, _consumed, _products),
    *(_prices, _unrelated, _frequency, _times),
)


def broken(row: Row) -> list[str]:
    """Return what each rule that a row breaks says."""
    return [rule.__doc__ or "" for rule in RULES if not rule(row)]
