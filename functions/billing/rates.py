"""Rate cards and contracts: what a unit costs whom from when on.  Never changed.

A card is the price list from a moment until the next card's.  A contract replaces
some of its prices, the minimum or the tax for one tenant.  Each has a version, and a
digest of all that it says: what has priced an invoice once is held to its digest
for ever, so a new price is a new card or a new contract.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from functions.billing import money
from functions.billing.canonical import canonical
from functions.structs import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FILE: Final = Path(__file__).with_name("rates.toml")

Sku = Literal["cpu.exec", "gpu.exec", "gpu.idle", "gpu.load", "request", "storage"]
UNITS: Final[dict[Sku, str]] = {
    "cpu.exec": "second",
    "gpu.exec": "second",
    "gpu.idle": "second",
    "gpu.load": "second",
    "request": "request",
    "storage": "gib-month",
}
PER_MODEL: Final[frozenset[Sku]] = frozenset({"gpu.exec", "gpu.idle", "gpu.load"})
"""The SKUs that know GPU models."""

Amount = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,7})(\.[0-9]{1,12})?\Z")]
"""A price of one unit, as decimal text with up to 12 decimals."""
Size = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,13})(\.[0-9]{1,6})?\Z")]
"""A quantity, as decimal text that NUMERIC(20,6) holds."""
Version = Annotated[str, Meta(pattern=r"^[0-9a-z.-]{1,32}\Z")]
Moment = Annotated[datetime, Meta(tz=True)]
Coins = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?\Z")]
Text = Annotated[str, Meta(min_length=1, max_length=200)]


class Unpriced(ValueError):
    """Something was used that no card has a price for; the message names it."""


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A price up to and with a quantity; the last tier has no end."""

    price: Amount
    upto: Size | None = None


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a quantity is priced: flat, in graduated tiers, or by volume.

    `graduated`: each unit has the price of the tier it falls in.  `volume`: all units
    have the price of the tier that the whole period's quantity falls in.  The first
    `included` units of a period cost nothing; they count towards the tiers.
    """

    price: Amount | None = None
    graduated: tuple[Tier, ...] = ()
    volume: tuple[Tier, ...] = ()
    included: Size = "0"

    def __post_init__(self) -> None:
        """Refuse a rate that gives two prices, or leaves one open."""
        if (self.price is not None) + bool(self.graduated) + bool(self.volume) > 1:
            raise ValueError("one of price, graduated and volume")
        tiers = self.graduated or self.volume
        ends = [tier.upto and Decimal(tier.upto) for tier in tiers]
        bounds = [end for end in ends[:-1] if end]
        if tiers and (ends[-1] is not None or len(bounds) != len(ends) - 1):
            raise ValueError("tiers: each has an end above 0 but the last")
        if bounds != sorted(set(bounds)):
            raise ValueError("tiers: each ends above the one before")

    @property
    def priced(self) -> bool:
        """Whether it says any price."""
        return self.price is not None or bool(self.graduated or self.volume)

    def tiers(self, whole: Decimal) -> list[tuple[Decimal | None, Decimal]]:
        """Return (end, price) of each tier for a period with `whole` in all."""
        if self.price is not None:
            return [(None, Decimal(self.price))]
        if self.graduated:
            return [(_end(tier), Decimal(tier.price)) for tier in self.graduated]
        for tier in self.volume:
            end = _end(tier)
            if end is None or whole <= end:
                return [(None, Decimal(tier.price))]
        raise Unpriced("a rate without a price")


def _end(tier: Tier) -> Decimal | None:
    return None if tier.upto is None else Decimal(tier.upto)


class Price(
    Rate,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
):
    """The rate of a SKU, and those of single GPU models.

    Where it says no price of its own, a model that it does not name is `Unpriced`.
    """

    unit: Literal["second", "request", "gib-month"]
    models: dict[Text, Rate] = {}

    def of(self, model: str) -> Rate | None:
        """Return the rate of a model, or None."""
        return self.models.get(model) or (self if self.priced else None)


class Tax(
    msgspec.Struct,
    frozen=True,
    order=True,
    forbid_unknown_fields=True,
):
    """A tax on top, e.g. VAT at `0.19`; `note` is printed, e.g. of a reverse charge."""

    name: Text
    rate: Annotated[str, Meta(pattern=r"^(0(\.[0-9]{1,6})?|1)\Z")]
    note: str = ""


UNTAXED: Final = Tax("", "0")


class _Stated(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"valid_from": "from"},
):
    """What cards and contracts have in common."""

    version: Version
    valid_from: Moment
    prices: dict[Sku, Price] = {}

    def __post_init__(self) -> None:
        """Refuse a price by another unit, of a model of nothing, or of loading."""
        for sku, price in self.prices.items():
            if price.unit != UNITS[sku]:
                raise ValueError(f"{sku} is priced by the {UNITS[sku]}")
            if price.models and sku not in PER_MODEL:
                raise ValueError(f"{sku} knows no GPU models")
            if not all(rate.priced for rate in price.models.values()):
                raise ValueError(f"{sku}: a model without a price")
            if not (price.priced or price.models):
                raise ValueError(f"{sku} without a price")
        load = self.prices.get("gpu.load")
        if load and (load.models or load.price is None or Decimal(load.price)):
            raise ValueError("gpu.load is shown at the price 0 and never billed")

    @property
    def from_ms(self) -> int:
        """When it begins to hold, in milliseconds since the epoch."""
        return _ms(self.valid_from)

    @property
    def digest(self) -> str:
        """The SHA-256 of all that it says, in hex."""
        return hashlib.sha256(canonical(self)).hexdigest()


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


class RateCard(_Stated, frozen=True, kw_only=True):
    """One version of the price list, effective from a moment on.

    `minor_digits` are the decimals of the currency's smallest coin, by ISO 4217.
    `minimum` is what a period costs at the least, before credits and tax.
    """

    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
    minor_digits: int | None = None
    minimum: Coins = "0"
    tax: Tax | None = None

    def __post_init__(self) -> None:
        """Refuse coins that the currency does not have."""
        super().__post_init__()
        digits = money.minor_digits(self.currency)
        if self.minor_digits not in {None, digits}:
            raise ValueError(f"{self.currency} has {digits} decimals")
        money.minor_of(self.minimum, digits)


class Contract(_Stated, frozen=True, kw_only=True):
    """What one tenant has agreed instead: it stands over the price list.

    It holds from its moment until `until`, or the tenant's next contract.  `reserved`
    is how many devices of each GPU model are kept for the tenant: the time in which
    they do no work is `gpu.idle`.
    """

    tenant: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z")]
    until: Moment | None = None
    minimum: Coins | None = None
    tax: Tax | None = None
    reserved: dict[Text, Annotated[int, Meta(ge=1, le=100_000)]] = {}

    @property
    def until_ms(self) -> int | None:
        """When it ceases to hold, in milliseconds since the epoch."""
        return None if self.until is None else _ms(self.until)


@dataclass(frozen=True, slots=True)
class Agreed:
    """The rate that a tenant pays for something, and the one on the list.

    `version` is the card's or the contract's that says the rate.
    """

    rate: Rate
    listed: Rate
    version: str


@dataclass(frozen=True, slots=True)
class Terms:
    """A card, and the contract that stands over it."""

    card: RateCard
    contract: Contract | None = None

    def agreed(self, sku: Sku, model: str) -> Agreed:
        """Return the rate of a SKU on a GPU model, or raise `Unpriced`."""
        listed = _rate(self.card, sku, model)
        special = _rate(self.contract, sku, model) if self.contract else None
        if special and self.contract:
            return Agreed(special, listed or special, self.contract.version)
        if listed is None:
            named = f" on {model!r}" if model else ""
            raise Unpriced(f"rate card {self.card.version}: no price of {sku}{named}")
        return Agreed(listed, listed, self.card.version)

    @property
    def tax(self) -> Tax:
        """The tax on what is used under these terms."""
        return (self.contract and self.contract.tax) or self.card.tax or UNTAXED

    @property
    def minimum(self) -> tuple[str, str]:
        """What a period costs at the least, and the version that says so."""
        if self.contract and self.contract.minimum is not None:
            return self.contract.minimum, self.contract.version
        return self.card.minimum, self.card.version


def _rate(stated: _Stated, sku: Sku, model: str) -> Rate | None:
    price = stated.prices.get(sku)
    return price.of(model) if price else None


class Party(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who sends an invoice, or who gets it, as it is printed."""

    name: Text
    address: tuple[Text, ...] = ()
    tax_id: str = ""
    email: str = ""
    payment: tuple[Text, ...] = ()
    """Where to pay to; of the issuer alone."""


NOBODY: Final = Party("")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    card: list[RateCard]
    contract: list[Contract] = []
    issuer: Party = NOBODY
    customers: dict[str, Party] = {}
    due_days: Annotated[int, Meta(ge=0, le=365)] = 30


@dataclass(frozen=True, slots=True)
class RateCards:
    """Every card and contract there has been, the oldest first; in one currency.

    `called` says what a tenant is called that is none of the `customers`.
    """

    cards: tuple[RateCard, ...]
    contracts: tuple[Contract, ...] = ()
    issuer: Party = NOBODY
    customers: tuple[tuple[str, Party], ...] = ()
    due_days: int = 30
    called: Callable[[str], str] = str

    def __post_init__(self) -> None:
        """Refuse cards that would leave a price open."""
        starts = [card.from_ms for card in self.cards]
        if not starts or starts != sorted(set(starts)):
            raise ValueError("rate cards: at least one, each later than the one before")
        versions = [each.version for each in (*self.cards, *self.contracts)]
        if len(set(versions)) != len(versions):
            raise ValueError("rate cards: a version is used twice")
        if len({card.currency for card in self.cards}) != 1:
            raise ValueError("rate cards: one currency")
        for each in self.contracts:
            if each.until_ms is not None and each.until_ms <= each.from_ms:
                raise ValueError(f"rate cards: {each.version} ends before it begins")
            money.minor_of(each.minimum or "0", self.minor_digits)
        for tenant in {each.tenant for each in self.contracts}:
            theirs = [each.from_ms for each in self._of(tenant)]
            if theirs != sorted(set(theirs)):
                raise ValueError("rate cards: a tenant's contracts, oldest first")

    @classmethod
    def load(cls, path: Path = FILE, called: Callable[[str], str] = str) -> RateCards:
        """Return the cards in a TOML file, or raise `ValueError`."""
        document = tomllib.loads(path.read_text())
        try:
            found = msgspec.convert(document, _File)
        except msgspec.ValidationError as error:
            raise ValueError(f"rate cards: {error}") from error
        return cls(
            tuple(found.card),
            tuple(found.contract),
            found.issuer,
            tuple(sorted(found.customers.items())),
            found.due_days,
            called,
        )

    @property
    def currency(self) -> str:
        """The ISO 4217 code of every amount."""
        return self.cards[0].currency

    @property
    def minor_digits(self) -> int:
        """How many decimals the currency's smallest coin has."""
        return money.minor_digits(self.currency)

    @property
    def digests(self) -> dict[str, str]:
        """The digest of every card and contract, by version."""
        return {each.version: each.digest for each in (*self.cards, *self.contracts)}

    def customer(self, tenant: str) -> Party:
        """Return whom a tenant's invoices are made out to."""
        return dict(self.customers).get(tenant) or Party(self.called(tenant))

    def _of(self, tenant: str) -> list[Contract]:
        return [each for each in self.contracts if each.tenant == tenant]

    def spans(
        self, tenant: str, start_ms: int, stop_ms: int
    ) -> Iterator[tuple[Terms, int, int]]:
        """Yield a tenant's terms in a span, and the part of it in which they hold.

        The first card also covers what came before it.
        """
        turns = {each.from_ms for each in (*self.cards[1:], *self._of(tenant))}
        turns |= {each.until_ms or stop_ms for each in self._of(tenant)}
        inside = sorted(turn for turn in turns if start_ms < turn < stop_ms)
        starts, stops = [start_ms, *inside], [*inside, stop_ms]
        for first, last in zip(starts, stops, strict=True):
            yield self.terms(tenant, first), first, last

    def terms(self, tenant: str, moment_ms: int) -> Terms:
        """Return what a tenant pays at a moment."""
        card = [each for each in self.cards if each.from_ms <= moment_ms][-1:]
        held = [each for each in self._of(tenant) if each.from_ms <= moment_ms][-1:]
        over = held and held[0].until_ms is not None and held[0].until_ms <= moment_ms
        return Terms(
            card[0] if card else self.cards[0],
            held[0] if held and not over else None,
        )


prepare()
