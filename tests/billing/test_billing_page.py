"""The usage page: what is negotiated, what it shows, what it forecasts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.billing import drafting, statement
from functions.billing.drafting import Bill
from functions.billing.forecast import forecast
from functions.billing.invoice import Period
from functions.billing.ledger import Ledger
from functions.billing.page import usage_page
from functions.billing.rates import RateCards
from functions.billing.rating import Meter, Metered
from functions.billing.statement import Span
from functions.problems import InvalidRequest
from tests.billing.house import NOW, usage_data
from tests.billing.prices import CONTRACT, HEAD, PRICES, cards_of
from tests.pages.browser import browser
from tests.pages.promises import hold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from werkzeug.test import TestResponse

    from tests.billing.house import House
    from tests.pages.strict import Element

NOVEMBER = Period(2026, 11)
DAY_MS = 86_400_000
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
EVIL = "<script>alert(1)</script>\u202e"


def ask(house: House, accept: str, query: str = "") -> TestResponse:
    headers = {"Authorization": "Bearer acme"} | ({"Accept": accept} if accept else {})
    return house.client.get(f"/v1/tenants/acme/usage{query}", headers=headers)


def shown(house: House, query: str = "") -> Element:
    answer = ask(house, "text/html", query)
    assert answer.status_code == 200, answer.text
    return hold(answer.text)


def table(page: Element, caption: str) -> list[list[str]]:
    """Return the texts of the one table whose caption begins so."""
    (found,) = (
        each
        for each in page.all("table")
        if each.one("caption").text.startswith(caption)
    )
    return found.rows()


def use(house: House, name: str, day: str, **data: Any) -> None:
    attributes = {"time": f"2026-11-{day}T10:00:00.000Z"}
    event = house.event(name, attributes=attributes, job=name, **data)
    assert house.post(event).status_code == 204


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/xml", False),
        ("text/html", True),
        ("text/html, application/json;q=0.9", True),
        (FIREFOX, True),
    ],
)
def test_json_is_the_default_and_html_for_who_prefers_it(
    house: House,
    accept: str,
    html: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """A script that says nothing gets what it always got; a browser gets a page."""
    answer = ask(house, accept)
    assert answer.status_code == 200
    assert answer.mimetype == ("text/html" if html else "application/json")
    assert answer.headers["Vary"] == "Accept"


def test_the_page_is_nobody_elses_to_see_or_to_keep(house: House) -> None:
    """As the JSON: only with the tenant's token; no cache holds it, no frame."""
    answer = ask(house, "text/html")
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    refused = house.client.get(
        "/v1/tenants/acme/usage",
        headers={"Authorization": "Bearer other", "Accept": "text/html"},
    )
    assert refused.status_code == 404
    assert refused.mimetype == "application/problem+json"


def test_the_page_says_what_the_json_says(house: House) -> None:
    """The same exact sums, day for day, and the draft that the invoice's path shows."""
    for name, day in (("a", "02"), ("b", "02"), ("c", "20")):
        use(house, name, day)
    page = shown(house)
    usage = house.get("usage?by=day").get_json()
    days = table(page, "What is charged by day")
    assert [row[0] for row in days[1:-1]] == ["2026-11-02", "2026-11-20"]
    assert [row[-1] for row in days[1:-1]] == [
        group["amount"] for group in usage["groups"]
    ]
    assert days[-1][-1] == usage["total"]["amount"]
    draft = house.get("invoices/2026-11").get_json()
    bill = table(page, "Draft as of 2026-11-21 12:00 UTC")
    assert [row[-1] for row in bill[1:-1]] == [
        line["amount"] for line in draft["lines"]
    ]
    assert bill[-1][-1] == draft["total"]
    assert draft["total"] in [each.text for each in page.all("dd")]


def test_every_day_that_has_begun_has_its_place(house: House) -> None:
    """Bars stand where their day is, also beside days on which nothing was used."""
    use(house, "a", "01")
    use(house, "b", "21")
    chart = shown(house).one("figure").one("svg")
    lanes = [each for each in chart.all("g") if "lane" in each.attributes["class"]]
    assert [each.attributes["class"].split()[1] for each in lanes] == [
        *("money", "gpu-exec", "gpu-load", "cpu-exec", "request"),
    ]
    for lane in lanes:
        first, last = lane.all("rect")
        assert first.attributes["x"] == "0.238%"  # of 21 days, the first
        assert last.attributes["x"] == "95.476%"


def test_what_is_of_no_single_day_is_said(house: House, tmp_path: Path) -> None:
    """A reserved device idles over the whole month: in the bill, and under no day."""
    use(house, "a", "12", device={**usage_data()["device"], "name": "L4"})
    cards = cards_of(tmp_path, HEAD + PRICES + CONTRACT)
    span = Span(NOVEMBER.start_ms, NOVEMBER.stop_ms)
    page = hold(usage_page(house.ledger, cards, "acme", span, NOW))
    assert "of no single day: GPU reserved and idle 1727999.864 s." in page.text
    assert not any("idle" in name for name in table(page, "What is charged by day")[0])
    names = [row[0] for row in table(page, "Draft as of")]
    assert any(name.startswith("GPU reserved and idle, L4") for name in names)


class Sums(Ledger):
    """A ledger that hands out sums, and no event by itself."""

    def digests(self, tenant: str, period: Period) -> Iterator[bytes]:
        raise AssertionError(tenant, period)

    def jobs(self, tenant: str, period: Period) -> Iterator[bytes]:
        raise AssertionError(tenant, period)


def test_a_page_costs_the_same_however_many_events_there_are(tmp_path: Path) -> None:
    """Sums are read, and not event after event as for an invoice's roots."""
    ledger = Sums.open(f"sqlite:///{tmp_path}/sums.db")
    span = Span(NOVEMBER.start_ms, NOVEMBER.stop_ms)
    hold(usage_page(ledger, RateCards.load(), "acme", span, NOW))
    ledger.close()


def test_a_month_in_which_nothing_was_used(house: House) -> None:
    """No bars, no lines, a bill of nothing; nothing fails."""
    page = shown(house)
    assert "Nothing was used in this span." in page.text
    assert "Nothing is charged so far." in page.text
    assert not list(page.one("figure").all("rect"))


def test_a_device_named_script_stays_text(house: House) -> None:
    """What a worker calls its GPU is a stranger's text."""
    device = {"kind": "cuda", "name": EVIL, "uuid": "GPU-1", "share": "1"}
    use(house, "a", "20", device=device)
    page = shown(house)
    assert "\u202e" not in page.text
    names = [row[0] for row in table(page, "Draft as of")]
    assert "GPU time, <script>alert(1)</script>⟨U+202E⟩" in names


def test_a_span_of_years_is_not_drawn(house: House) -> None:
    """At most a leap year of bars; the JSON goes further."""
    query = "?from=2020-01-01T00:00:00Z&to=2026-11-21T00:00:00Z"
    answer = ask(house, "text/html", query)
    assert answer.status_code == 400
    assert "366 days" in answer.get_json()["detail"]
    assert ask(house, "application/json", query).status_code == 200
    year = "?from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z"
    assert ask(house, "text/html", year).status_code == 200


def test_a_span_that_is_yet_to_come_is_empty(house: House) -> None:
    """It begins after today; there is one empty day and no error."""
    page = shown(house, "?from=2027-01-01T00:00:00Z&to=2027-02-01T00:00:00Z")
    assert "Nothing was used in this span." in page.text


def bill(*parts: tuple[int, int, str]) -> Bill:
    """Return a bill with a part for each (first day, day after, GPU-seconds)."""
    cards = RateCards.load()
    start = NOVEMBER.start_ms
    ((terms, _, _),) = cards.spans("acme", start, NOVEMBER.stop_ms)
    metered = [
        Metered(
            terms,
            start + first * DAY_MS,
            start + after * DAY_MS,
            {Meter("gpu.exec", "NVIDIA L4"): Decimal(seconds)},
        )
        for first, after, seconds in parts
    ]
    return Bill(tenant="acme", period=NOVEMBER, metered=tuple(metered))


def seconds_of(coming: Bill | None) -> list[Decimal]:
    assert coming is not None
    return [each.quantities[Meter("gpu.exec", "NVIDIA L4")] for each in coming.metered]


def test_half_a_month_is_half_of_what_is_to_come() -> None:
    """Pro rata: 100 seconds in 15 of 30 days are 200 in the whole month."""
    now_ms = NOVEMBER.start_ms + 15 * DAY_MS
    coming = forecast(bill((0, 30, "100")), now_ms)
    assert seconds_of(coming) == [Decimal(200)]


def test_what_is_to_come_is_priced_by_the_terms_that_will_hold() -> None:
    """A new card on the 21st: what is left of each span goes on at the old rate."""
    now_ms = NOVEMBER.start_ms + 10 * DAY_MS
    coming = forecast(bill((0, 20, "100"), (20, 30, "0")), now_ms)
    assert seconds_of(coming) == [Decimal(200), Decimal(100)]


def test_there_is_no_forecast_on_the_first_day_or_of_a_past_month() -> None:
    """One hour is no month; a month that is over needs none."""
    used = bill((0, 30, "100"))
    assert forecast(used, NOVEMBER.start_ms + DAY_MS - 1) is None
    assert forecast(used, NOVEMBER.start_ms + DAY_MS) is not None
    assert forecast(used, NOVEMBER.stop_ms) is None


def test_a_forecast_has_no_half_requests() -> None:
    """What is to come is cut off at whole requests, and at milliseconds."""
    used = bill((0, 30, "1"))
    more = {Meter("request"): Decimal(7), Meter("cpu.exec"): Decimal("0.001")}
    part = replace(used.metered[0], quantities=more)
    coming = forecast(replace(used, metered=(part,)), NOVEMBER.start_ms + 9 * DAY_MS)
    assert coming is not None
    assert coming.metered[0].quantities == {
        Meter("request"): Decimal(23),
        Meter("cpu.exec"): Decimal("0.003"),
    }


@given(st.integers(0, 10**12), st.integers(DAY_MS, 30 * DAY_MS - 1))
def test_a_forecast_is_never_below_the_bill_so_far(used_ms: int, elapsed: int) -> None:
    """And never above the exact proportion."""
    used = Decimal(used_ms).scaleb(-3)
    coming = forecast(bill((0, 30, f"{used:f}")), NOVEMBER.start_ms + elapsed)
    (found,) = seconds_of(coming)
    assert used <= found
    assert Fraction(found) <= Fraction(used) * 30 * DAY_MS / elapsed


def test_the_page_states_the_method_and_the_sum(house: House) -> None:
    """20.5 of 30 days: the reader can do the sum again."""
    for number in range(41):
        use(house, f"u{number}", "20")
    page = shown(house)
    assert "Pro rata: 20.5 of 30 days have passed." in page.text
    now_ms = NOVEMBER.start_ms + 41 * DAY_MS // 2
    cards = RateCards.load()
    used = statement.bill_of(house.ledger, cards, "acme", NOVEMBER)
    coming = forecast(used, now_ms)
    assert coming is not None
    total = drafting.draft(coming, cards).total
    rows = table(page, f"{total} USD at the end of the month")
    assert ["Requests", "request", "41", "60"] in rows
    assert ["GPU time", "second", "5.576", "8.16"] in rows


def test_on_the_first_day_the_page_says_that_there_is_no_forecast(
    house: House,
) -> None:
    """And why."""
    span = Span(NOVEMBER.start_ms, NOVEMBER.stop_ms)
    early = datetime(2026, 11, 1, 3, tzinfo=UTC)
    page = hold(usage_page(house.ledger, RateCards.load(), "acme", span, early))
    assert "There is none yet" in page.text
    assert "none yet" in [each.text for each in page.all("dd")]


def test_the_page_refuses_too_many_days_by_itself(house: House) -> None:
    """Whoever calls it: 366 days are drawn, 367 are not."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    for days, fits in ((366, True), (367, False)):
        start_ms = int(start.timestamp()) * 1000
        span = Span(start_ms, start_ms + days * DAY_MS)
        if fits:
            usage_page(house.ledger, RateCards.load(), "acme", span, NOW)
            continue
        with pytest.raises(InvalidRequest):
            usage_page(house.ledger, RateCards.load(), "acme", span, NOW)


def test_a_browser_shows_it_whole(house: House, tmp_path: Path) -> None:
    """Wide or narrow, light or dark: nothing fetched, refused or cut off."""
    for number in range(1, 22):
        use(house, f"u{number}", f"{number:02d}" if number < 21 else "20")
    file = tmp_path / "usage.html"
    file.write_text(ask(house, FIREFOX).text, "utf-8")
    with browser(tmp_path / "profile") as seen:
        for width in (1100, 400):
            for scheme in ("light", "dark"):
                seen.show(file, width, scheme=scheme)
                assert seen.ask("document.documentElement.scrollWidth") <= width
                assert seen.fetched() == [file.as_uri()]
                assert seen.complaints() == []
        assert seen.ask("document.querySelectorAll('svg.chart rect').length") == 100
