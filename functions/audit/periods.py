"""A span of time, and the steps in which a timeline shows it.  UTC throughout."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from functions import events
from functions.problems import InvalidRequest

STEPS_MAX: Final = 100
YEARS_MAX: Final = 50

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_WEEK_MS: Final = 7 * _DAY_MS
_MONDAY_MS: Final = 4 * _DAY_MS
"""The first Monday after the epoch, which was a Thursday."""
_MONTHS: Final = 12
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Period:
    """From a moment to before another, in milliseconds since the epoch.

    Raises `InvalidRequest` where it is empty, or longer than `YEARS_MAX`.
    """

    start_ms: int
    stop_ms: int

    def __post_init__(self) -> None:
        """Refuse what no timeline can show."""
        if self.start_ms >= self.stop_ms:
            raise InvalidRequest("a period begins before it ends")
        if self.stop_ms - self.start_ms > YEARS_MAX * 366 * _DAY_MS:
            raise InvalidRequest(f"a period has at most {YEARS_MAX} years")

    def __contains__(self, at_ms: int) -> bool:
        """Return whether a moment lies in it; its end does not."""
        return self.start_ms <= at_ms < self.stop_ms


def moment_ms(text: str) -> int:
    """Return a date (its first moment) or an RFC 3339 time, in milliseconds.

    Raises `InvalidRequest`.
    """
    if _DATE.fullmatch(text):
        text += "T00:00:00Z"
    return events.milliseconds(text)


def month_so_far(now: datetime) -> Period:
    """Return the current month in UTC, up to now."""
    now = now.astimezone(UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start_ms = _ms(first)
    return Period(start_ms, max(_ms(now), start_ms + 1))


class Scale(enum.Enum):
    """How long one step of a timeline is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


_FIXED: Final = {
    Scale.HOUR: (_HOUR_MS, 0),
    Scale.DAY: (_DAY_MS, 0),
    Scale.WEEK: (_WEEK_MS, _MONDAY_MS),
}


def scale_of(period: Period) -> Scale:
    """Return the shortest step of which the period has at most `STEPS_MAX`."""
    span_ms = period.stop_ms - period.start_ms
    for scale, (step_ms, _) in _FIXED.items():
        if span_ms < STEPS_MAX * step_ms:
            return scale
    return Scale.MONTH


def starts_of(period: Period, scale: Scale) -> list[int]:
    """Return where each step begins, in milliseconds; weeks begin on a Monday.

    The first may begin before the period does.
    """
    if scale is Scale.MONTH:
        return _months(period)
    step_ms, offset_ms = _FIXED[scale]
    first = period.start_ms - (period.start_ms - offset_ms) % step_ms
    return list(range(first, period.stop_ms, step_ms))


def _months(period: Period) -> list[int]:
    first = _date(period.start_ms)
    month = first.year * _MONTHS + first.month - 1
    starts: list[int] = []
    while True:
        year, index = divmod(month, _MONTHS)
        start_ms = _ms(datetime(year, index + 1, 1, tzinfo=UTC))
        if start_ms >= period.stop_ms:
            return starts
        starts.append(start_ms)
        month += 1


def label(start_ms: int, scale: Scale) -> str:
    """Return what a step is called: `2026-11`, `2026-11-21`, `2026-11-21 14:00`."""
    text = moment(start_ms).isoformat(" ", "minutes")
    ends = {Scale.HOUR: 16, Scale.DAY: 10, Scale.WEEK: 10, Scale.MONTH: 7}
    return text[: ends[scale]]


def tick(start_ms: int, scale: Scale) -> str:
    """Return its name as short as an axis needs it: `21 Nov`, `21 Nov 14h`."""
    at = moment(start_ms)
    form = "%b %Y" if scale is Scale.MONTH else "%d %b"
    if scale is Scale.HOUR and at.hour:
        form = "%d %b %Hh"
    return at.strftime(form).lstrip("0")


def moment(at_ms: int) -> datetime:
    """Return milliseconds since the epoch as a time in UTC, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def _date(at_ms: int) -> date:
    return moment(at_ms).date()


def _ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
