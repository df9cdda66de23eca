"""Rate cards: what a unit costs from when on, and what a quantity comes to.  Exact.

Amounts are `Decimal` in a context that raises where a digit would be lost; the
one rounding there is stands in `invoice.py`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import (
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

EXACT: Final = Context(
    prec=60,
    traps=[InvalidOperation, DivisionByZero, Overflow, Inexact],
)
"""Enough digits for any quantity at any price; a lost one is an error."""

FILE: Final = Path(__file__).with_name("rates.toml")

Sku = Literal["gpu.exec", "gpu.load", "cpu.exec", "request"]
Amount = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,7})(\.[0-9]{1,12})?\Z")]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of one unit, in the card's currency."""

    unit: Literal["second", "request"]
    price: Amount


class RateCard(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"valid_from": "from"},
):
    """One version of the prices, effective from a moment on.

    `minor_digits` are the decimals of the currency's smallest coin.
    """

    version: Annotated[str, Meta(pattern=r"^[0-9a-z.-]{1,32}\Z")]
    valid_from: Annotated[datetime, Meta(tz=True)]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
    minor_digits: Annotated[int, Meta(ge=0, le=4)]
    prices: dict[Sku, Price]

    @property
    def from_ms(self) -> int:
        """When it begins to hold, in milliseconds since the epoch."""
        return int(self.valid_from.astimezone(UTC).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Charge:
    """A quantity of one SKU at one card's price; `amount` is exact."""

    sku: Sku
    unit: str
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal
    rate_card: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    card: list[RateCard]


@dataclass(frozen=True, slots=True)
class RateCards:
    """Every card there has been, the oldest first; all in one currency."""

    cards: tuple[RateCard, ...]

    def __post_init__(self) -> None:
        """Refuse cards that would leave a price open."""
        starts = [card.from_ms for card in self.cards]
        if not starts or starts != sorted(set(starts)):
            raise ValueError("rate cards: at least one, each later than the one before")
        if len({card.version for card in self.cards}) != len(self.cards):
            raise ValueError("rate cards: a version is used twice")
        if len({(card.currency, card.minor_digits) for card in self.cards}) != 1:
            raise ValueError("rate cards: one currency")

    @classmethod
    def load(cls, path: Path = FILE) -> RateCards:
        """Return the cards in a TOML file, or raise `ValueError`."""
        document = tomllib.loads(path.read_text())
        try:
            return cls(tuple(msgspec.convert(document, _File).card))
        except msgspec.ValidationError as error:
            raise ValueError(f"rate cards: {error}") from error

    @property
    def currency(self) -> str:
        """The ISO 4217 code of every amount."""
        return self.cards[0].currency

    @property
    def minor_digits(self) -> int:
        """How many decimals the currency's smallest coin has."""
        return self.cards[0].minor_digits

    def between(
        self, start_ms: int, stop_ms: int
    ) -> Iterator[tuple[RateCard, int, int]]:
        """Yield each card that holds in a span, and the part of it in which it does.

        The first card also covers what came before it.
        """
        starts = [start_ms, *(card.from_ms for card in self.cards[1:])]
        stops = [*(card.from_ms for card in self.cards[1:]), stop_ms]
        for card, first, last in zip(self.cards, starts, stops, strict=True):
            part = max(first, start_ms), min(last, stop_ms)
            if part[0] < part[1]:
                yield card, *part


def charges(card: RateCard, quantities: Mapping[Sku, Decimal]) -> list[Charge]:
    """Return what `quantities` come to, in the order of the SKUs' names."""
    return [
        _charge(sku, quantities[sku], card)
        for sku in sorted(quantities)
        if quantities[sku]
    ]


def _charge(sku: Sku, quantity: Decimal, card: RateCard) -> Charge:
    price = card.prices[sku]
    unit_price = Decimal(price.price)
    return Charge(
        sku=sku,
        unit=price.unit,
        quantity=quantity,
        unit_price=unit_price,
        amount=EXACT.multiply(quantity, unit_price),
        rate_card=card.version,
    )


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def plain(amount: Decimal) -> str:
    """Return an amount in full: no exponent, no trailing zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
