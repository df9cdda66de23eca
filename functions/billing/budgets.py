"""Budgets: how much a tenant means to spend in a month, and who brakes when.

Billing decides; the tenant's door and worker obey.  Between them lies one object in
the tenant's store, `policy/budget.json`, which holds the last `budget.changed` event
word for word, signed by billing's own key.  It is written when something changes: a
threshold is crossed, the month begins or the budget is another.  What lies there says
by itself whether it binds: a hard budget that is exhausted, of the month that is now.

A budget is a brake and no wall: what is under way when it is reached is finished, and
what billing has not heard of yet it cannot count.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import structs

from functions import events
from functions.events import Event
from functions.keys import BILLING
from functions.problems import (
    Changed,
    Forbidden,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unavailable,
)
from functions.structs import prepare
from functions.tenant import BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.keys import KeyProvider
    from functions.storage import Store, Stores
    from functions.tenant import Tenant

log = logging.getLogger(__name__)

ALERTS_MAX: Final = 10
PERCENT_MAX: Final = 1_000
LOOK_SECONDS: Final = 5.0
"""How often one process asks what a tenant has spent, at most."""
_TRIES_MAX: Final = 5
_BYTES_MAX: Final = 65_536
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a tenant means to spend in a month, in coins of `currency`.

    `alerts` are per cent of the limit, rising.  A soft budget only tells; a `hard`
    one also lets nothing new run once it is reached.  Raises `InvalidRequest`.
    """

    tenant: str
    currency: str
    limit: Decimal
    alerts: tuple[int, ...] = (50, 80, 100)
    hard: bool = False

    def __post_init__(self) -> None:
        """Refuse what could not be compared with an invoice."""
        if not _CURRENCY.fullmatch(self.currency):
            raise InvalidRequest(f"{self.currency!r} is no currency such as USD")
        if not _AMOUNT.fullmatch(f"{self.limit:f}"):
            raise InvalidRequest(f"{self.limit} is no amount of money")
        if len(self.alerts) > ALERTS_MAX or list(self.alerts) != sorted(
            {each for each in self.alerts if 0 < each <= PERCENT_MAX}
        ):
            raise InvalidRequest(
                f"alerts: up to {ALERTS_MAX} rising whole per cents, 1 to {PERCENT_MAX}"
            )

    @classmethod
    def parse(
        cls, tenant: Tenant, *, limit: str, alerts: str, hard: bool, currency: str
    ) -> Budget:
        """Return a budget a person wrote, e.g. `100.00` and `50,80,100`.

        Raises `InvalidRequest`.
        """
        if not _AMOUNT.fullmatch(limit):
            raise InvalidRequest(f"{limit!r} is no amount such as 100.00")
        try:
            percents = tuple(int(each) for each in alerts.split(",") if each)
        except ValueError as error:
            raise InvalidRequest(f"{alerts!r} is no list such as 50,80,100") from error
        return cls(
            tenant=tenant.id,
            currency=currency,
            limit=Decimal(limit),
            alerts=percents,
            hard=hard,
        )


class State(msgspec.Struct, frozen=True):
    """How a budget stands: the data of `budget.changed`.

    `period` is a month in UTC; `limit` and `spent` are decimal text in `currency`,
    `spent` before credits and tax.  `crossed` are the alerts that are reached.
    """

    period: str
    currency: str
    limit: str
    spent: str
    hard: bool
    alerts: tuple[int, ...]
    crossed: tuple[int, ...]
    exhausted: bool


def decide(budget: Budget, period: str, spent: Decimal) -> State:
    """Return how the budget stands once `spent` is spent in `period`.  Pure.

    An alert is crossed at exactly its percentage, and a limit reached at exactly it.
    """
    crossed = [each for each in budget.alerts if spent * 100 >= budget.limit * each]
    return State(
        period=period,
        currency=budget.currency,
        limit=f"{budget.limit:f}",
        spent=f"{spent:f}",
        hard=budget.hard,
        alerts=budget.alerts,
        crossed=tuple(crossed),
        exhausted=spent >= budget.limit,
    )


def same(before: State | None, after: State) -> bool:
    """Return whether nothing changed but what was spent."""
    return before is not None and structs.replace(before, spent=after.spent) == after


@dataclass(frozen=True, slots=True)
class Kept:
    """What stands in a tenant's store: the event, whom it came of, the generation.

    `event` is None where there is nothing, or nothing of billing's.
    """

    event: Event | None = None
    state: State | None = None
    cause: str = ""
    generation: int = 0


class _File(msgspec.Struct, frozen=True):
    event: dict[str, Any]
    cause: str = ""


def current(tenant: Tenant, store: Store, keys: KeyProvider) -> Kept:
    """Return what stands in a tenant's store; what is not billing's is to be replaced.

    Raises what the store does.
    """
    try:
        found = store.get(BUDGET, bytes_max=_BYTES_MAX)
    except NotFound:
        return Kept()
    except TooLarge:
        return Kept(generation=store.head(BUDGET).generation)
    try:
        file = msgspec.convert(events.strict_json(found.data), _File)
        event = events.from_dict(file.event)
        events.verify(event, keys.verifiers(BILLING))
        state = msgspec.convert(event.data, State)
    except (InvalidRequest, Forbidden, msgspec.ValidationError) as fault:
        log.warning("%s of %s is not ours: %s", BUDGET, tenant.id, fault)
        return Kept(generation=found.generation)
    if (event.type, event.tenant) != (events.BUDGET_CHANGED, tenant.id):
        log.warning("%s of %s is about something else", BUDGET, tenant.id)
        return Kept(generation=found.generation)
    return Kept(event, state, file.cause, found.generation)


def changed(tenant: Tenant, state: State, before: Kept, keys: KeyProvider) -> Event:
    """Return the signed event that says how a budget stands now.

    Its id follows from the event before it: who reaches the same state twice, by
    way of another, says two things; two who race say one.
    """
    earlier = before.event.id if before.event else ""
    what = events.canonical(_plain(structs.replace(state, spent="")))
    event = Event(
        id=events.derived_id(tenant.id, events.BUDGET_CHANGED, earlier, what.decode()),
        source=events.billing_source(tenant.id),
        type=events.BUDGET_CHANGED,
        subject=tenant.id,
        time=events.now(),
        tenant=tenant.id,
        data=_plain(state),
    )
    return events.sign(event, keys.signer(BILLING))


def _plain(state: State) -> dict[str, Any]:
    """Return a state as it reads back."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(state))
    return plain


def put(
    tenant: Tenant, event: Event, cause: str, store: Store, generation: int
) -> None:
    """Write the event over exactly that generation (0: none), or raise `Changed`."""
    file = _File(events.as_dict(event), cause)
    store.put_if_match(BUDGET, msgspec.json.encode(file), generation)
    log.info("the budget of %s changed: %s", tenant.id, dict(event.data))


def this_month() -> str:
    """Return the month that it is in UTC, such as `2026-11`."""
    return events.now()[:7]


@dataclass(slots=True)
class Watch:
    """Keeps what stands in the tenants' stores true to what they spend.

    `budget_of` gives a tenant's budget or None, `spent` what a tenant has spent in a
    month such as `2026-11`, exactly, before credits and tax.
    """

    budget_of: Callable[[str], Budget | None]
    spent: Callable[[str, str], Decimal]
    stores: Stores
    keys: KeyProvider
    month: Callable[[], str] = this_month
    clock: Callable[[], float] = time.monotonic
    seconds: float = LOOK_SECONDS
    _looked: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def after(self, tenant: Tenant, cause: str, *, again: bool = False) -> Event | None:
        """Look after a tenant's usage `cause` was counted; return what is to be told.

        Not at each: in a rush the next one that is due sees all of it.  `again`, for
        a cause that came before, always looks: its answer may have been lost.
        """
        if not again and not self._due(tenant.id):
            return None
        return self.look(tenant, cause)

    def look(self, tenant: Tenant, cause: str = "") -> Event | None:
        """Write how the tenant's budget stands if that changed, and return the event.

        The same `cause` again gets the same event again.  Where there was none nobody
        was told, and the next that comes is.  Raises what the store does.
        """
        if self.budget_of(tenant.id) is None:
            return None
        store = self.stores.of(tenant)
        for _ in range(_TRIES_MAX):
            # In this order: whoever wrote what we find, or took it away, had seen no
            # more than we will.
            before = current(tenant, store, self.keys)
            budget, period = self.budget_of(tenant.id), self.month()
            if budget is None:
                return None
            state = decide(budget, period, self.spent(tenant.id, period))
            stands = before.event if same(before.state, state) else None
            if stands is not None and (not cause or before.cause):
                return stands if cause and before.cause == cause else None
            event = stands or changed(tenant, state, before, self.keys)
            try:
                put(tenant, event, cause, store, before.generation)
            except Changed:
                continue
            return event
        raise Unavailable(internal=f"{BUDGET} of {tenant.id} changes all the time")

    def _due(self, tenant: str) -> bool:
        now = self.clock()
        with self._lock:
            if now - self._looked.get(tenant, -self.seconds) < self.seconds:
                return False
            self._looked[tenant] = now
            return True


def lift(tenant: Tenant, store: Store) -> None:
    """Take away what stands of a budget that is no more; the door lets all pass."""
    store.delete(BUDGET)
    log.info("the budget of %s is lifted", tenant.id)


prepare()
