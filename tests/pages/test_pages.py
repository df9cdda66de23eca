"""Pages that stand alone: their chart, their style, and what they do to text."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions import pages
from functions.pages import counted, visible
from functions.pages.chart import BAR_PX, Row, chart
from tests.pages.strict import NotStrict, read

STYLE = (Path(pages.__file__).parent / "page.css").read_text()
TEXT = ("ink", "quiet", "good", "bad", "refused", "failed", "cancelled", "swap")
BARS = (*TEXT[4:], "anonymize", "detect", "other", "erased", "conflict", "money")


def row(values: list[int | Decimal]) -> Row:
    return Row("Name", "swap", values, [f"{each}" for each in values], "total")


def steps(number: int) -> list[str]:
    return [f"day {each}" for each in range(number)]


def test_a_bar_is_as_high_as_its_part_of_the_largest() -> None:
    """Heights are in proportion within a lane, and every lane has its own scale."""
    drawn = chart([row([5, 10]), row([1000, 500])], steps(2), steps(2))
    small, large = drawn.lanes
    assert [each.height for each in small.bars] == [BAR_PX // 2, BAR_PX]
    assert [each.height for each in large.bars] == [BAR_PX, BAR_PX // 2]
    assert small.peak == "peak 10, day 1 · total "


def test_what_is_small_is_still_seen() -> None:
    """One beside ten million has a bar; nothing has none."""
    (lane,) = chart([row([10_000_000, 1, 0])], steps(3), steps(3)).lanes
    assert [each.height for each in lane.bars] == [BAR_PX, 2]
    assert [each.title for each in lane.bars] == ["day 0: 10000000", "day 1: 1"]


def test_money_is_drawn_without_a_float() -> None:
    """A Decimal with more digits than a float holds makes a bar like any other."""
    exact = Decimal("0.1000000000000000000000000001")
    (lane,) = chart([row([exact, exact / 2])], steps(2), steps(2)).lanes
    assert [each.height for each in lane.bars] == [BAR_PX, BAR_PX // 2]


@pytest.mark.parametrize(
    ("number", "every"), [(1, 1), (5, 1), (24, 6), (72, 24), (96, 24), (300, 60)]
)
def test_ticks_are_few_and_even(number: int, every: int) -> None:
    """At most five, at every sixth hour or every midnight rather than anywhere."""
    drawn = chart([row([0] * number)], steps(number), steps(number))
    names = [each.name for each in drawn.ticks]
    assert names == steps(number)[::every][: len(names)]
    assert len(names) >= min(number, 4) - 1


def test_an_empty_lane_is_a_line_and_no_bars() -> None:
    """Where nothing happened, the baseline says so."""
    (lane,) = chart([row([0, 0])], steps(2), steps(2)).lanes
    assert (lane.bars, lane.peak) == ((), "")


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=120))
def test_bars_stay_in_the_picture(values: list[int | Decimal]) -> None:
    """Whatever is drawn lies between the edges, side by side, above its baseline."""
    drawn = chart([row(values)], steps(len(values)), steps(len(values)))
    (lane,) = drawn.lanes
    right = Decimal(0)
    for bar in lane.bars:
        x, width = (Decimal(each.removesuffix("%")) for each in (bar.x, bar.width))
        assert right <= x
        right = x + width
        assert right <= 100
        assert lane.top < bar.y
        assert bar.y + bar.height == lane.base
    assert 1 <= len(drawn.ticks) <= 5


def test_what_cannot_be_seen_is_named() -> None:
    """Text that would turn itself round, or hide, shows how."""
    assert visible("a\u202egnp.exe\u200b") == "a⟨U+202E⟩gnp.exe⟨U+200B⟩"
    assert visible("a\nb\x00") == "a⟨U+000A⟩b⟨U+0000⟩"
    assert visible("Zoë <b> 名前") == "Zoë <b> 名前"
    assert counted(1234567) == "1,234,567"


def colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", css))


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    parts = [int(colour[each : each + 2], 16) / 255 for each in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_everyone_can_read_it(scheme: str) -> None:
    """Text has a contrast of 4.5 on every ground, bars of 3, as WCAG 2.2 AA asks."""
    light, _, rest = STYLE.partition("@media screen and (prefers-color-scheme: dark)")
    chosen = colours(light)
    if scheme == "dark":
        chosen |= colours(rest[: rest.index("box-sizing")])
    if scheme == "print":
        chosen |= colours(rest[rest.index("@media print") :])
    grounds = [chosen[each] for each in ("paper", "sheet", "faint")]
    for name in TEXT:
        assert all(contrast(chosen[name], each) >= 4.5 for each in grounds), name
    for name in BARS:
        assert contrast(chosen[name], chosen["sheet"]) >= 3, name


def test_it_prints_on_a4() -> None:
    """The print style names the paper, repeats the heads of tables, cuts no row."""
    printed = STYLE[STYLE.index("@page") :]
    assert "size: A4" in printed
    assert "thead { display: table-header-group; }" in printed
    assert re.search(r"tr,[^{]*\{ break-inside: avoid; \}", printed)


@pytest.mark.parametrize(
    "wrong",
    [
        "<html></html>",
        "<!doctype html>\n<html><p></html>",
        "<!doctype html>\n<html></p></html>",
        '<!doctype html>\n<html lang="en" lang="de"></html>',
        "<!doctype html>\n<html><div/></html>",
        "<!doctype html>\n<html><!-- --></html>",
        "<!doctype html>\n<html>",
    ],
)
def test_the_strict_reader_is_strict(wrong: str) -> None:
    """What a browser would silently mend is an error in these tests."""
    with pytest.raises(NotStrict):
        read(wrong)
