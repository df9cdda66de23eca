"""What a report of a period counts, and how much it ever remembers."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from functions import events
from functions.audit import periods, tally
from functions.audit.leaf import ERASED
from functions.audit.periods import Scale, moment_ms
from functions.audit.report import ACTORS_MAX, KINDS_MAX, OTHERS
from functions.problems import InvalidRequest
from tests.audit.reports import (
    ended,
    leaf,
    lively,
    span,
    started,
    tallied,
)


def test_a_job_is_told_of_by_its_beginning_and_its_ending() -> None:
    """Who, on what ground and with what is at its beginning, the rest at its end."""
    report = tallied(started("a", "2026-11-10"), ended("a", "2026-11-11"))
    (job,) = report.jobs
    assert job.began is not None
    assert (job.began.index, job.index, job.operation) == (0, 1, "swap")
    assert (job.began.actor, job.began.basis) == ("alice", "contract")
    assert job.began.pack == "lite 1.2.0 ab12"
    assert (report.begun, report.unended_total) == (1, 0)


def test_a_period_holds_its_first_moment_and_not_its_last() -> None:
    """What happened at `to` belongs to the next report."""
    period = span("2026-11-10", "2026-11-11")
    inside = leaf(events.SWAP_COMPLETED, "2026-11-10T00:00:00Z", job="a")
    last = leaf(events.SWAP_COMPLETED, "2026-11-10T23:59:59.999Z", job="b")
    after = leaf(events.SWAP_COMPLETED, "2026-11-11T00:00:00Z", job="c")
    report = tallied(after, inside, last, after, period=period)
    assert [each.job for each in report.jobs] == ["a", "b"]
    assert (report.entries, report.spans) == (2, {1: (1, 2)})


def test_a_job_begun_before_the_period_is_known_in_it() -> None:
    """The ending counts in the period; the actor comes from the entry before it."""
    report = tallied(started("a", "2026-10-31"), ended("a", "2026-11-01"))
    assert (report.begun, report.entries) == (0, 1)
    assert report.jobs[0].began is not None


def test_another_attempt_is_no_other_job() -> None:
    """A job that is tried again was begun once, by one actor, with one consent."""
    again = started("a", "2026-11-10", "again", attempt=2)
    report = tallied(started("a"), again, ended("a"))
    assert (report.begun, report.retries, report.actors.total) == (1, 1, 1)


def test_what_began_and_never_ended_is_listed() -> None:
    """An auditor wants to see exactly those."""
    report = tallied(started("early", "2026-10-01"), started("lost"))
    assert [each.job for each in report.unended] == ["lost"]
    assert report.unended_total == 1


def test_each_thing_has_its_lane() -> None:
    """Completed work by operation; refusals, failures and erasures apart."""
    report = tallied(*lively())
    totals = {name: sum(counts) for name, counts in report.lanes.items()}
    assert totals == {
        "swap": 140,
        "anonymize": 0,
        "detect": 0,
        "other": 0,
        "refused": 3,
        "failed": 1,
        "cancelled": 1,
        "erased": 1,
        "expired": 1,
        "conflict": 1,
    }
    assert report.lanes["erased"][11] == report.lanes["expired"][11] == 1
    other = tallied(ended("a", operation="anonymize"), ended("b", operation="dream"))
    assert other.lanes["anonymize"][9] == other.lanes["other"][9] == 1


def test_refusals_that_were_only_counted_are_counted() -> None:
    """Past the rate there is no entry each, but a number in the next one."""
    door = [
        leaf(events.SWAP_REFUSED, "2026-11-11", f"{unsent}", unsent=unsent)
        for unsent in (9, 2)
    ]
    report = tallied(*door)
    assert (report.outcomes.named["refused"], report.unsent) == (2, 11)
    assert report.operations["no job", "refused"] == 2


@pytest.mark.parametrize(
    ("said", "basis"),
    [
        ({"admission": {"consent": {"basis": "consent"}}}, "consent"),
        ({"admission": {"consent": None}}, "none asked for"),
        ({"admission": {}, "consent": {"basis": "public-domain"}}, "public-domain"),
        ({"admission": {}}, "not stated"),
        ({"admission": "yes"}, "not stated"),
        ({"admission": {"consent": {"basis": 7}}}, "not stated"),
    ],
)
def test_the_ground_is_read_wherever_a_version_put_it(
    said: dict[str, Any], basis: str
) -> None:
    """The first events said it beside the admission; what is no text is not stated."""
    assert tallied(started("a", **said)).bases.rows() == [(basis, 1)]


def test_a_job_that_audit_erased_itself_says_so() -> None:
    """Whoever asked audit, and not the tenant's function, has erased it, too."""
    own = leaf(ERASED, "2026-11-24", job="a", actor="operator")
    report = tallied(started("a"), ended("a"), own)
    assert [job.erased for job in report.jobs] == [True]
    assert report.erasures_total == 1


def test_a_job_that_was_erased_says_so() -> None:
    """Even where the erasure came after the period."""
    erased = leaf(events.SWAP_ERASED, "2026-12-24", job="a", outcome="erased")
    report = tallied(started("a"), ended("a"), started("b"), ended("b"), erased)
    assert [each.erased for each in report.jobs] == [True, False]
    assert report.erasures_total == 0


def test_what_expired_is_counted_apart_from_what_was_erased() -> None:
    """Nobody asked for it; uploads that retention took are of that kind, too."""
    gone = leaf(events.SWAP_ERASED, "2026-11-24", job="a", outcome="expired")
    uploads = leaf(events.SWAP_ERASED, "2026-11-24", reason="retention", uploads=3)
    report = tallied(started("a"), ended("a"), gone, uploads)
    assert [(job.erased, job.expired) for job in report.jobs] == [(False, True)]
    assert (report.erasures_total, report.expired_total) == (0, 2)
    assert (sum(report.lanes["erased"]), sum(report.lanes["expired"])) == (0, 2)
    assert [each.why for each in report.erasures] == ["expired", "retention"]


def test_the_newest_jobs_are_listed_and_the_rest_counted() -> None:
    """Two of three, and a job listed twice is not forgotten twice."""
    report = tallied(*(ended(each) for each in "abcaab"), jobs_max=2)
    assert [each.job for each in report.jobs] == ["a", "b"]
    assert report.jobs_total == 6


def test_a_leaf_that_is_no_event_is_counted_as_such() -> None:
    """A later version's entry, or none at all, stops no report."""
    nonsense = (b"", b"[]", b'{"type":"a","time":"yesterday","data":{}}', b"\xff{")
    report = tallied(*nonsense, ended("a"))
    assert (report.unreadable, report.entries) == (4, 1)


def test_whatever_the_data_says_is_taken_as_text_or_not_at_all() -> None:
    """Lists, numbers and negative counts where text and counts belong: no error."""
    odd = started("a", operation=["swap"], actor={"x": 1}, pack=[1], admission=None)
    door = leaf(events.SWAP_REFUSED, "2026-11-02", reason=5, unsent=-4, where=True)
    truth = leaf(events.SWAP_REFUSED, "2026-11-03", unsent=True)
    report = tallied(odd, door, truth)
    assert report.actors.rows() == [("not stated", 1)]
    assert report.unsent == 0


def test_memory_is_bounded_whatever_the_log_holds() -> None:
    """Ever new jobs, actors, types, operations, reasons: the report stops growing."""
    counting = tally.Tally(span("2026-11-01", "2026-12-01"))

    def feed(first: int, last: int) -> None:
        for number in range(first, last):
            name = f"{number:06d}" + "x" * 400
            counting.add(number, started(f"{number}", actor=name, pack={"id": name}))
            gone = {"operation": name, "reason": name, "how": events.SWAP_FAILED}
            counting.add(number, ended(f"other-{number}", **gone))
            counting.add(number, leaf(f"type.{number}", "2026-11-01"))
            counting.add(
                number, leaf(events.SWAP_ERASED, "2026-11-01", job=f"{number}")
            )

    feed(0, tally.OPEN_MAX + 2_000)
    tracemalloc.start()
    feed(tally.OPEN_MAX + 2_000, tally.OPEN_MAX + 7_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    report = counting.report()
    assert grown < 12_000_000  # of new text in the place of old, not more of it
    assert len(report.actors.named) == ACTORS_MAX + 1
    assert report.actors.full
    assert len(report.types.named) == KINDS_MAX + 1
    assert len(report.operations) == KINDS_MAX + 1
    assert report.operations[OTHERS, "failed"] > 0
    assert len(report.jobs) == len(report.erasures) == tally.LISTED_MAX
    assert report.forgotten == 7_000
    assert len(report.actors.rows()[0][0]) <= tally.TEXT_MAX


@pytest.mark.parametrize(
    ("period", "scale", "number", "first", "tick"),
    [
        (
            ("2026-11-21", "2026-11-22"),
            Scale.HOUR,
            24,
            "2026-11-21 00:00",
            "21 Nov",
        ),
        (("2026-11-01", "2026-12-01"), Scale.DAY, 30, "2026-11-01", "1 Nov"),
        (("2026-01-01", "2027-01-01"), Scale.WEEK, 53, "2025-12-29", "29 Dec"),
        (("2020-11-15", "2026-02-01"), Scale.MONTH, 63, "2020-11", "Nov 2020"),
    ],
)
def test_the_timeline_is_never_too_fine(
    period: tuple[str, str], scale: Scale, number: int, first: str, tick: str
) -> None:
    """Hours, days, weeks from a Monday, months: about a hundred bars at the most."""
    asked = span(*period)
    assert periods.scale_of(asked) is scale
    starts = periods.starts_of(asked, scale)
    assert len(starts) == number
    assert starts[0] <= asked.start_ms < starts[1]
    assert starts[-1] < asked.stop_ms
    assert periods.label(starts[0], scale) == first
    assert periods.tick(starts[0], scale) == tick


def test_an_hour_of_a_day_is_named_with_its_day() -> None:
    """Ticks a day apart that all read 10:00 would tell nobody anything."""
    at = moment_ms("2026-11-09T10:00:00Z")
    assert periods.tick(at, Scale.HOUR) == "9 Nov 10h"


def test_an_odd_hour_still_has_its_step() -> None:
    """A period may begin and end within a step; both ends are counted."""
    asked = span("2026-11-21T10:30:00Z", "2026-11-21T12:30:00Z")
    early = leaf(events.SWAP_COMPLETED, "2026-11-21T10:30:00Z", job="a")
    late = leaf(events.SWAP_COMPLETED, "2026-11-21T12:29:00Z", job="b")
    report = tallied(early, late, period=asked)
    assert report.lanes["other"] == [1, 0, 1]


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2026-11-02", "2026-11-01"),
        ("2026-11-01", "2026-11-01"),
        ("1926-01-01", "2026-01-01"),
    ],
)
def test_no_timeline_of_nothing_or_of_a_century(since: str, until: str) -> None:
    """A period begins before it ends, and has an end."""
    with pytest.raises(InvalidRequest):
        span(since, until)


def test_without_a_period_it_is_the_month_so_far() -> None:
    """From the first of the month in UTC, even in its first moment."""
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert periods.month_so_far(now) == span("2026-11-01", "2026-11-21T12:00:00Z")
    first = datetime(2026, 11, 1, tzinfo=UTC)
    assert periods.month_so_far(first).start_ms == moment_ms("2026-11-01")
