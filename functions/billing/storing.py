"""Stored bytes: once a day, what each tenant's store held of the day before.

A PingSource in each tenant's namespace (a timer on one machine) asks; who asks, and
who is told, is for `measuring`.  What is measured becomes a usage event, signed by
billing's own key.

What is counted is what the day ended with, each object for as long of the day as it
lay there: from its last write, or from the day's beginning.  So nothing is billed for
time in which it did not exist; what was deleted before the day's end is not billed at
all.  The id follows from tenant and day: asked twice, or late, it counts once, and the
first count stands.  A store is listed a page at a time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from functions import events
from functions.billing import closing
from functions.billing.invoice import Period, State
from functions.events import Event
from functions.keys import BILLING
from functions.problems import InvalidRequest, Unavailable
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from functions.billing.ledger import Ledger
    from functions.keys import KeyProvider
    from functions.storage import Store
    from functions.tenant import Tenant

EVERYTHING: Final = Key("")
SECONDS_MAX: Final = 540
"""How long one listing may take: less than the request may."""
LATE_DAYS_MAX: Final = 2
"""Which days are measured: yesterday, and the one before for a tick that comes late.

A broker tries for an hour, and who replays its dead letter has a day more.  A
month cannot be closed yet while its last day is among them.
"""
_MS_PER_HOUR: Final = 3_600_000
_DAY: Final = timedelta(days=1)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a day ended with, and for how many byte-hours of it that lay there."""

    objects: int = 0
    bytes: int = 0
    byte_hours: int = 0


def day_before(event: Event, now: datetime) -> date:
    """Return the day that a tick asks for: in UTC, the one before its own.

    Nobody signs a tick, so its time is no more than a hint of which of the last days
    is meant.  Raises `InvalidRequest` for a tick of no time, or of any other day.
    """
    if event.type != events.PING:
        raise InvalidRequest(f"billing is not woken by {event.type}")
    if not event.time:
        raise InvalidRequest("the tick has no time")
    ticked = datetime.fromtimestamp(events.milliseconds(event.time) // 1000, UTC)
    today = now.astimezone(UTC).date()
    if ticked.date() > today:
        raise InvalidRequest("the tick is of a day that has not begun")
    if ticked.date() <= today - LATE_DAYS_MAX * _DAY:
        raise InvalidRequest("the tick is too old: what lay there then is not known")
    return ticked.date() - _DAY


def is_due(ledger: Ledger, tenant: Tenant, day: date, now: datetime) -> bool:
    """Return whether a day of a tenant's is still to be counted.

    Raises `InvalidRequest` where its month is closed: an invoice has it as it is.
    """
    source, name = events.billing_source(tenant.id), _name(tenant, day)
    if ledger.has(tenant.id, source, name):
        return False
    month = Period.of(_begins(day))
    if closing.state(ledger, tenant.id, month, now) in {State.CLOSED, State.ISSUED}:
        raise InvalidRequest("the tick is of a month that is closed")
    return True


def is_worth_counting(
    ledger: Ledger, tenant: Tenant, day: date, stored: Stored
) -> bool:
    """Return whether a tenant was there on a day: it stored something, or had been.

    Nothing that lay there before its first usage would be a beginning of its own, and
    a month before that to be closed, and to owe a minimum.
    """
    return bool(stored.objects) or ledger.has_before(tenant.id, _ms(_begins(day)))


def measure(
    store: Store,
    day: date,
    *,
    seconds_max: int = SECONDS_MAX,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Stored:
    """Return what `store` holds of a day that is over.

    Holds one page at a time.  Raises `Unavailable` where it takes too long.
    """
    begins = _begins(day)
    start, stop = _ms(begins), _ms(begins + _DAY)
    deadline_ns = clock() + seconds_max * 10**9
    objects = size = byte_ms = 0
    cursor = ""
    while True:
        page = store.list(EVERYTHING, cursor=cursor)
        for info in page.objects:
            since = max(start, int(info.updated * 1000))
            if since < stop:
                objects += 1
                size += info.size
                byte_ms += info.size * (stop - since)
        cursor = page.cursor
        if not cursor:
            return Stored(objects, size, byte_ms // _MS_PER_HOUR)
        if clock() > deadline_ns:
            raise Unavailable(internal=f"over {seconds_max} s, at {cursor!r}")


def told(tenant: Tenant, day: date, stored: Stored, keys: KeyProvider) -> Event:
    """Return the signed usage event of a tenant's day; its time is the day's last.

    It says no more than the ledger keeps, so that a tenant can write it down again.
    """
    data: dict[str, Any] = {
        "operation": "storage",
        "day": day.isoformat(),
        "byte_hours": str(stored.byte_hours),
        "billable": True,
    }
    event = Event(
        id=_name(tenant, day),
        source=events.billing_source(tenant.id),
        type=events.USAGE_RECORDED,
        subject=tenant.id,
        time=events.rfc3339(_begins(day) + _DAY - _MILLISECOND),
        tenant=tenant.id,
        data=data,
    )
    return events.sign(event, keys.signer(BILLING))


def _name(tenant: Tenant, day: date) -> str:
    return events.derived_id(tenant.id, "storage", day.isoformat())


def _begins(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _ms(moment: datetime) -> int:
    return events.milliseconds(events.rfc3339(moment))
