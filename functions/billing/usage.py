"""What a `usage.recorded` event says, typed, or why it is refused."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from functions import events
from functions.problems import InvalidRequest
from functions.structs import prepare
from functions.tenant import job_id

if TYPE_CHECKING:
    from datetime import datetime

    from functions.events import Event

FUTURE_MS_MAX: Final = 5 * 60 * 1000
_SHARES_KEPT: Final = 64
_ID: Final = re.compile(r"[!-~]{1,128}")

Count = Annotated[int, Meta(ge=0, le=2**40)]
"""Of one job: a TiB, or 34 years of milliseconds.

SQLite sums in 64 bits: without a bound, a thousand events would leave no sum at all.
"""
Held = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""Of a whole store."""
Name = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Word = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,31}\Z")]
Seconds = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,3})?\Z")]
"""Decimal seconds with at most milliseconds: text, so that no float touches them."""
Share = Annotated[
    str,
    Meta(
        pattern=r"^(0\.0*[1-9][0-9]*|1(\.0+)?|[1-9][0-9]{0,3}/[1-9][0-9]{0,3})\Z",
        max_length=20,
    ),
]
"""The part of the device that was leased, above 0 and at most 1: 0.5, or 1/7."""


Whole = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,17})\Z")]
"""A whole number that a BIGINT holds, as text: JSON's end at 2**53."""
Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
T = TypeVar("T")


@lru_cache(maxsize=_SHARES_KEPT)
def _part(share: str) -> Fraction:
    """Return a share as a number; there are few, and each event has one."""
    return Fraction(share)


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the work ran on."""

    kind: Word
    name: Name
    uuid: Name
    share: Share

    def __post_init__(self) -> None:
        """Refuse more than the whole device.

        Raises:
            ValueError: the share is over 1.
        """
        if _part(self.share) > 1:
            raise ValueError(f"the share {self.share} is over 1")


class UsageData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data of the event; no other field is known.

    Every field is required but `leased_at` (RFC 3339), which older workers left out.
    """

    job: str
    operation: Word
    device: Device
    lease_ms: Count
    gpu_seconds: Seconds
    cpu_seconds: Seconds
    load_ms: Count
    requests: Count
    faces: Count
    frames: Count
    input_bytes: Count
    output_bytes: Count
    model_digest: Name
    outcome: Literal["completed", "refused", "failed", "cancelled"]
    billable: bool
    leased_at: Name = ""


_NO_WORK: Final = UsageData(
    job="",
    operation="",
    device=Device("none", "", "", "1"),
    lease_ms=0,
    gpu_seconds="0",
    cpu_seconds="0",
    load_ms=0,
    requests=0,
    faces=0,
    frames=0,
    input_bytes=0,
    output_bytes=0,
    model_digest="",
    outcome="completed",
    billable=False,
)


class StorageData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data of the event that billing itself sends of a tenant's stored bytes.

    `day` is a day in UTC; `byte_hours` is the size of what it ended with, times how
    long of it that had lain there, as decimal text.  Older billing said how much it
    was, too: `bytes` in so many `objects`.
    """

    operation: Literal["storage"]
    day: Day
    byte_hours: Whole
    billable: bool
    objects: Held = 0
    bytes: Held = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """One usage event: when, how much, and the digest of all that it states.

    `at_ms` is milliseconds since the epoch, `gpu_ms` and `cpu_ms` milliseconds.
    `leased_ms` is when the device was granted, also since the epoch, None where
    nobody said.  Of stored bytes there are `byte_hours`, and no device in `data`.
    """

    tenant: str
    source: str
    id: str
    at_ms: int
    gpu_ms: int
    cpu_ms: int
    digest: bytes
    data: UsageData
    byte_hours: int = 0
    leased_ms: int | None = None


def usage_of(event: Event, *, now: datetime) -> Usage:
    """Return what the event says, or raise `InvalidRequest`."""
    if not _ID.fullmatch(event.id):
        raise InvalidRequest("an event's id has 1 to 128 visible ASCII characters")
    if event.source == events.billing_source(event.tenant):
        return _stored(event, now)
    return _worked(event, now)


def _stored(event: Event, now: datetime) -> Usage:
    data = _read(event, StorageData)
    return Usage(
        tenant=event.tenant,
        source=event.source,
        id=event.id,
        at_ms=_past_ms(event.time, now),
        gpu_ms=0,
        cpu_ms=0,
        digest=_digest(event),
        data=msgspec.structs.replace(
            _NO_WORK, operation=data.operation, billable=data.billable
        ),
        byte_hours=int(data.byte_hours),
    )


def _worked(event: Event, now: datetime) -> Usage:
    data = _read(event, UsageData)
    gpu_ms = _exact_ms(data.gpu_seconds)
    # Both are cut off, each by itself: the lease was under a millisecond longer.
    share = _part(data.device.share)
    held = (data.lease_ms + 1) * share.numerator
    if gpu_ms > data.lease_ms or gpu_ms * share.denominator > held:
        raise InvalidRequest("usage data: more GPU time than the lease was long")
    job_id(data.job)
    return Usage(
        tenant=event.tenant,
        source=event.source,
        id=event.id,
        at_ms=_past_ms(event.time, now),
        gpu_ms=gpu_ms,
        cpu_ms=_exact_ms(data.cpu_seconds),
        digest=_digest(event),
        data=data,
        leased_ms=_past_ms(data.leased_at, now) if data.leased_at else None,
    )


def _read(event: Event, kind: type[T]) -> T:
    try:
        return msgspec.convert(event.data, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"usage data: {error}") from error


def _exact_ms(seconds: str) -> int:
    return int(Decimal(seconds).scaleb(3))


def _past_ms(text: str, now: datetime) -> int:
    at_ms = events.milliseconds(text)
    if at_ms - now.timestamp() * 1000 > FUTURE_MS_MAX:
        raise InvalidRequest("the usage is yet to come")
    if at_ms < 0:  # no clock of ours; months are counted from 1970 on
        raise InvalidRequest("the usage is from before 1970")
    return at_ms


def _digest(event: Event) -> bytes:
    names = ("source", "id", "type", "subject", "time", "tenant", "data")
    statement = events.canonical({name: getattr(event, name) for name in names})
    return hashlib.sha256(statement).digest()


prepare()
