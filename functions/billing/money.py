"""Exact decimals: quantities, amounts and coins.  No float, and one rounding.

Every sum and product is taken in `EXACT`, which raises where a digit would be
lost.  `round_half_up` is the one rounding of money there is, once for a line of an
invoice.  A quantity of a period has six decimals, as NUMERIC(20,6) has: times are
whole milliseconds and never need more; `gib_months` is cut off there.
"""

from __future__ import annotations

from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

EXACT: Final = Context(
    prec=60,
    traps=[InvalidOperation, DivisionByZero, Overflow, Inexact],
)
"""Enough digits for any quantity at any price; a lost one is an error."""

_ROUNDING: Final = Context(prec=EXACT.prec, rounding=ROUND_HALF_UP)

QUANTITY_DECIMALS: Final = 6
QUANTITY_MAX: Final = Decimal(10) ** 14  # above what NUMERIC(20,6) holds
MINOR_MAX: Final = 2**53 - 1  # the largest whole number of I-JSON, RFC 7493
HOURS_A_MONTH: Final = 730
_BYTES_A_GIB: Final = 2**30

# ISO 4217 by the number of decimals; of funds and metals it names none.
_TWO: Final = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN
BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP
GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT
LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN
NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE
SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES
WST XCD XCG YER ZAR ZMW ZWG
"""
_MINOR_DIGITS: Final = {
    **dict.fromkeys(
        (
            *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW"),
            *("PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
        ),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
    **dict.fromkeys(_TWO.split(), 2),
}


def minor_digits(currency: str) -> int:
    """Return how many decimals the currency's smallest coin has, by ISO 4217.

    Raises `ValueError` for a currency that it does not have: a slip of the pen would
    be on every invoice.
    """
    if currency not in _MINOR_DIGITS:
        raise ValueError(f"{currency!r} is no currency of ISO 4217")
    return _MINOR_DIGITS[currency]


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def plain(amount: Decimal) -> str:
    """Return an amount in full: no exponent, no trailing zeros, no minus at zero."""
    if not amount:
        return "0"
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def round_half_up(amount: Decimal, digits: int) -> int:
    """Return an amount in whole smallest coins; half a coin goes away from zero.

    So an amount and its reversal cancel.  Raises `ValueError` over 2**53 - 1, which
    is the largest whole number that every reader of JSON holds exactly.
    """
    coins_ = amount.scaleb(digits, context=EXACT)
    whole = int(coins_.quantize(Decimal(1), context=_ROUNDING))
    if abs(whole) > MINOR_MAX:
        raise ValueError(f"{plain(amount)} is more than an invoice can hold")
    return whole


def coins(minor: int, digits: int) -> str:
    """Return smallest coins as decimal text with all the currency's decimals."""
    return f"{Decimal(minor).scaleb(-digits, context=EXACT):f}"


def minor_of(text: str, digits: int) -> int:
    """Return decimal text in smallest coins, or raise `ValueError` for a finer one."""
    amount = Decimal(text).scaleb(digits, context=EXACT)
    if amount != int(amount):
        raise ValueError(f"{text} has more than the currency's {digits} decimals")
    return round_half_up(Decimal(text), digits)


def quantity(amount: Decimal) -> Decimal:
    """Return `amount` if NUMERIC(20,6) holds it and it is no less than nothing.

    Raises `ValueError`.
    """
    if not amount.is_finite() or not 0 <= amount < QUANTITY_MAX:
        raise ValueError(f"{amount} is no quantity")
    millionths = amount.scaleb(QUANTITY_DECIMALS, context=EXACT)
    if millionths != int(millionths):
        raise ValueError(f"{plain(amount)} has more than six decimals")
    return amount


def seconds(milliseconds: int) -> Decimal:
    """Return whole milliseconds as exact seconds."""
    return Decimal(milliseconds).scaleb(-3, context=EXACT)


def gib_months(byte_hours: int) -> Decimal:
    """Return byte-hours in GiB-months of 730 hours, cut off at six decimals.

    Clouds meter storage by bytes and time and price it by the GiB-month (S3's
    `TimedStorage-ByteHrs`, GCS's `GiBy.mo`).  A month of 730 hours is the same for
    February and for March.  What is cut off, once in a period, is worth less than a
    thousandth of a cent at any price below ten a GiB-month, and is never billed.
    """
    millionths = byte_hours * 10**QUANTITY_DECIMALS // (_BYTES_A_GIB * HOURS_A_MONTH)
    return Decimal(millionths).scaleb(-QUANTITY_DECIMALS, context=EXACT)
