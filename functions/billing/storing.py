"""Stored bytes: once a day, what each tenant's store held of the day before.

A PingSource in each tenant's namespace (a timer on one machine) asks; so the tenants
are known by having one, and no list of them is kept anywhere.  The answer is a usage
event, signed by billing's own key, which the tenant's broker carries on: back to
billing's events, where it is counted, and to any other meter.

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
from functions.events import Event
from functions.keys import BILLING
from functions.problems import InvalidRequest, Unavailable
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from functions.keys import KeyProvider
    from functions.storage import Store
    from functions.tenant import Tenant

EVERYTHING: Final = Key("")
SECONDS_MAX: Final = 540
"""How long one listing may take: less than the request may."""
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

    Raises `InvalidRequest` for a tick of no time, or of a day that has not begun.
    """
    if event.type != events.PING:
        raise InvalidRequest(f"billing is not woken by {event.type}")
    if not event.time:
        raise InvalidRequest("the tick has no time")
    ticked = datetime.fromtimestamp(events.milliseconds(event.time) // 1000, UTC)
    if ticked.date() > now.astimezone(UTC).date():
        raise InvalidRequest("the tick is of a day that has not begun")
    return ticked.date() - _DAY


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
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
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
    """Return the signed usage event of a tenant's day; its time is the day's last."""
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
    data: dict[str, Any] = {
        "operation": "storage",
        "day": day.isoformat(),
        "objects": stored.objects,
        "bytes": stored.bytes,
        "byte_hours": str(stored.byte_hours),
        "billable": True,
    }
    event = Event(
        id=events.derived_id(tenant.id, "storage", day.isoformat()),
        source=events.billing_source(tenant.id),
        type=events.USAGE_RECORDED,
        subject=tenant.id,
        time=events.rfc3339(begins + _DAY - _MILLISECOND),
        tenant=tenant.id,
        data=data,
    )
    return events.sign(event, keys.signer(BILLING))


def _ms(moment: datetime) -> int:
    return events.milliseconds(events.rfc3339(moment))
