"""Bars over time, a lane for each thing counted; geometry alone, and no floats.

Each lane has a scale of its own, so that three refusals are seen beside ten
thousand swaps.  Places across are percents, so the chart is as wide as its page;
heights are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

BAR_PX: Final = 34
LANE_PX: Final = 63
AXIS_PX: Final = 24
_TOP_PX: Final = 22
_TICKS_MAX: Final = 5
_NICE: Final = (1, 2, 3, 4, 6, 12, 24)
"""So many steps from tick to tick: hours and months divide so."""
_LAST_TICK: Final = Fraction(86, 100)
_SHORTEST_PX: Final = 2


@dataclass(frozen=True, slots=True)
class Row:
    """What one lane shows: a value for each step; `kind` names its colour."""

    name: str
    kind: str
    values: Sequence[int | Decimal]
    shown: Sequence[str]
    total: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: `x` and `width` as percents, `y` and `height` in pixels."""

    x: str
    width: str
    y: int
    height: int
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane with its baseline at `base` pixels from the top; `peak` in words."""

    name: str
    kind: str
    total: str
    peak: str
    top: int
    base: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A name on the axis at `x` percent."""

    x: str
    name: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A whole chart, `height` pixels high."""

    height: int
    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]


def chart(rows: Sequence[Row], steps: Sequence[str], ticks: Sequence[str]) -> Chart:
    """Return the chart of `rows`, each with a value for each of `steps`.

    `ticks` are the same steps' names for the axis, of which few are shown.
    """
    lanes = tuple(_lane(row, number, steps) for number, row in enumerate(rows))
    return Chart(LANE_PX * len(rows) + AXIS_PX, lanes, _ticks(ticks))


def _lane(row: Row, number: int, steps: Sequence[str]) -> Lane:
    top = number * LANE_PX
    base = top + _TOP_PX + BAR_PX
    peak = max(row.values, default=0)
    bars = [
        _bar(each, len(steps), base, _height(value, peak), f"{step}: {shown}")
        for each, (value, step, shown) in enumerate(
            zip(row.values, steps, row.shown, strict=True)
        )
        if value > 0
    ]
    return Lane(
        *(row.name, row.kind, row.total, _peak(row, peak, steps)),
        *(top, base, tuple(bars)),
    )


def _bar(place: int, places: int, base: int, height: int, title: str) -> Bar:
    """Return a bar of nine tenths of its step, so that neighbours stand apart."""
    x = _percent(Fraction(place * 20 + 1, places * 20))
    width = _percent(Fraction(9, places * 10))
    return Bar(x, width, base - height, height, title)


def _height(value: int | Decimal, peak: int | Decimal) -> int:
    """Return a bar's pixels in proportion, but never so few that it is not seen."""
    return max(_SHORTEST_PX, round(Fraction(value) / Fraction(peak) * BAR_PX))


def _peak(row: Row, peak: int | Decimal, steps: Sequence[str]) -> str:
    if peak <= 0:
        return ""
    place = list(row.values).index(peak)
    return f"peak {row.shown[place]}, {steps[place]} · total "


def _ticks(names: Sequence[str]) -> tuple[Tick, ...]:
    fewest = -(-len(names) // _TICKS_MAX)
    every = next((each for each in _NICE if each >= fewest), fewest)
    return tuple(
        Tick(_percent(Fraction(place, len(names))), names[place])
        for place in range(0, len(names), every)
        if Fraction(place, len(names)) <= _LAST_TICK
    )


def _percent(part: Fraction) -> str:
    """Return a part of the whole as a percentage to the thousandth."""
    thousandths = round(part * 100_000)
    return f"{thousandths // 1000}.{thousandths % 1000:03d}%"
