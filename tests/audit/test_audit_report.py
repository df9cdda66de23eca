"""The report of a period: what it counts, what it refuses, what it promises."""

from __future__ import annotations

import json
import re
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.audit import periods, tally
from functions.audit.bundle import SIGNING_KEY
from functions.audit.continued import CONTINUED
from functions.audit.leaf import CONFLICT
from functions.audit.log import Log
from functions.audit.merkle import VerificationError
from functions.audit.periods import Period, Scale, moment_ms
from functions.audit.report import ACTORS_MAX, KINDS_MAX, OTHERS
from functions.audit.reporting import survey
from functions.audit.tiles import NoteVerifier, bundle_bytes, origin
from functions.cli import main
from functions.keys import FileKeys, MemoryKeys, events_key
from functions.problems import InvalidRequest
from tests.audit.reports import FakeLog, ended, leaf, started, tallied
from tests.pages.browser import browser
from tests.pages.promises import hold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pages.strict import Element

EVIL = "<script>alert(1)</script>"


def span(since: str, until: str) -> Period:
    return Period(moment_ms(since), moment_ms(until))


def table(page: Element, caption: str) -> list[list[str]]:
    """Return the texts of the one table whose caption begins so."""
    (found,) = (
        each
        for each in page.all("table")
        if each.one("caption").text.startswith(caption)
    )
    return found.rows()


def lively() -> list[bytes]:
    """Return a log with one of everything, two bundles long."""
    many = [
        each
        for number in range(140)
        for job in [f"job-{number}"]
        for at in [f"2026-11-{number % 28 + 1:02d}"]
        for each in (started(job, at, actor=f"actor {number % 15}"), ended(job, at))
    ]
    refused = {"reason": "urn:guise:problem:no-face", "outcome": "refused"}
    return [
        *many,
        started("evil", actor=EVIL, pack={"id": EVIL, "digest": '"><img src=x>'}),
        ended("evil", operation=EVIL, how=events.SWAP_REFUSED, reason=EVIL),
        started("hidden", actor="\u202egnp.exe"),
        ended("faceless", how=events.SWAP_REFUSED, **refused),
        started("broken"),
        ended("broken", how=events.SWAP_FAILED, outcome="failed"),
        started("stopped"),
        ended("stopped", how=events.SWAP_FAILED, outcome="cancelled"),
        leaf(events.SWAP_REFUSED, "2026-11-11", reason=EVIL, where="door", unsent=9),
        leaf(events.SWAP_ERASED, "2026-11-12", job="job-3", outcome="erased"),
        leaf(events.SWAP_ERASED, "2026-11-12", "x", reason="retention", uploads=14),
        leaf(CONFLICT, "2026-11-13", job="j", type=EVIL, index=7, leaf_hash="ff00"),
        leaf(events.MODELS_ACCEPTED, "2026-11-14", kind=EVIL, pack="p"),
        leaf("dev.guise.some.later.v9", "2026-11-15", job="j"),
    ]


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
    assert (report.entries, report.first_index, report.last_index) == (2, 1, 2)


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
        "erased": 2,
        "conflict": 1,
    }
    assert report.lanes["erased"][11] == 2
    other = tallied(ended("a", operation="anonymize"), ended("b", operation="dream"))
    assert other.lanes["anonymize"][9] == other.lanes["other"][9] == 1


def test_refusals_that_were_only_counted_are_counted() -> None:
    """Past the rate there is no entry each, but a number in the next one."""
    report = tallied(*lively())
    assert (report.outcomes.named["refused"], report.unsent) == (3, 9)
    assert report.operations["no job", "refused"] == 1


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


def test_a_job_that_was_erased_says_so() -> None:
    """Even where the erasure came after the period."""
    erased = leaf(events.SWAP_ERASED, "2026-12-24", job="a", outcome="erased")
    report = tallied(started("a"), ended("a"), started("b"), ended("b"), erased)
    assert [each.erased for each in report.jobs] == [True, False]
    assert report.erasures_total == 0


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


def test_the_page_keeps_every_promise() -> None:
    """Alone, guarded, heard, with true tables: with all that a log can hold."""
    page = hold(FakeLog(lively()).page())
    assert page.one("h1").text == "acme"
    assert len(list(page.one("figure").all("rect"))) > 28


def test_the_page_of_a_quiet_period_keeps_every_promise() -> None:
    """Nothing happened, and that is said."""
    page = hold(FakeLog(lively()).page(span("2025-01-01", "2025-02-01")))
    assert "No job ended in this period." in page.text
    assert "Nothing was erased in this period." in page.text
    assert "No id came again with other content." in page.text
    assert not list(page.one("figure").all("rect"))


def test_an_actor_named_script_stays_text() -> None:
    """Markup in an actor, a pack, a reason, an operation, a job: read, never run."""
    text = FakeLog(lively()).page()
    assert "<script" not in text
    assert "<img" not in text
    page = hold(text)
    assert [EVIL, "1"] in table(page, "Who asked")
    assert [f"refused: {EVIL}", "2"] in table(page, "Why jobs")
    assert f'{EVIL} "><img src=x>' in [row[0] for row in table(page, "With which")]


def test_a_name_that_turns_itself_round_is_shown_as_it_is_written() -> None:
    """U+202E would show `gnp.exe` as a picture."""
    page = hold(FakeLog(lively()).page())
    assert "\u202e" not in page.text
    assert "⟨U+202E⟩gnp.exe" in page.text


def test_the_tables_add_up() -> None:
    """Outcomes by operation, their sums, and the timeline's numbers are the same."""
    page = hold(FakeLog(lively()).page())
    operations = table(page, "Ended jobs")
    assert operations[-1] == ["All", "140", "3", "1", "1"]
    sums = [sum(int(row[each]) for row in operations[1:-1]) for each in range(1, 5)]
    assert sums == [140, 3, 1, 1]
    numbers = table(page, "Counted by day")
    columns = range(1, len(numbers[0]))
    added = [sum(int(row[each]) for row in numbers[1:-1]) for each in columns]
    assert [str(each) for each in added] == numbers[-1][1:]


def test_the_page_says_how_many_more_jobs_there_are_and_where() -> None:
    """Bounded, and it does not hide that it is."""
    page = hold(FakeLog(lively()).page(jobs_max=10))
    assert len(table(page, "Jobs that ended")) == 11
    assert "The newest 10 of 144 jobs are listed; 134 more are in the log." in page.text
    assert "guise audit export" in page.text


def test_the_page_shows_what_it_was_made_from() -> None:
    """Checkpoint, size, root, the key's id: enough to check it against the log."""
    log = FakeLog(lively())
    page = hold(log.page())
    assert log.checkpoint() in [each.text for each in page.all("pre")]
    (verifier,) = log.verifiers()
    assert verifier.line in page.text
    assert f"{len(log.leaves)} entries" in page.text


def test_a_report_shows_only_the_keys_that_signed() -> None:
    """After a rotation, the older key is known and did not sign this checkpoint."""
    log = FakeLog(lively())
    older = NoteVerifier(origin("acme"), MemoryKeys().signer("x").public_bytes())
    counting = tally.Tally(span("2026-11-01", "2026-12-01"))
    proof = survey(log, [older, *log.verifiers()], counting)
    assert proof.signed_by == (log.verifiers()[0].line,)


def test_attack_a_flipped_bit_anywhere_leaves_no_report() -> None:
    """Also outside of the period: it is the whole log that is verified."""
    leaves = lively()
    for place in (0, 1, 255, 256, len(leaves) - 1):
        flipped = list(leaves)
        flipped[place] = flipped[place][:-1] + b" "
        with pytest.raises(VerificationError, match="not those of the checkpoint"):
            FakeLog(flipped, signed=leaves).page(span("2025-01-01", "2025-02-01"))


def test_attack_entries_reordered_or_swapped_for_others() -> None:
    """Every leaf is there, in another order."""
    leaves = lively()
    with pytest.raises(VerificationError):
        FakeLog([leaves[1], leaves[0], *leaves[2:]], signed=leaves).page()


def test_attack_a_checkpoint_by_another_key() -> None:
    """Whoever holds the database and no key signs with one of his own."""
    log = FakeLog(lively())
    counting = tally.Tally(span("2026-11-01", "2026-12-01"))
    with pytest.raises(VerificationError, match="not signed by a known key"):
        survey(log, FakeLog([]).verifiers(), counting)


def test_attack_an_entry_left_out_is_no_pruning() -> None:
    """A hole in the middle, or a bundle cut short, is not what retention leaves."""
    with pytest.raises(VerificationError, match="entry 256 is missing"):
        FakeLog(lively(), pruned={1}).page()
    with pytest.raises(VerificationError, match="entries are missing at 0"):
        FakeLog(lively(), short={0}).page()
    with pytest.raises(VerificationError, match="hashes are missing at 0"):
        FakeLog(lively(), pruned={0}, short={0}).page()


def test_attack_a_bundle_with_one_entry_more() -> None:
    """A length that runs past the end, or an entry slipped in."""

    class Longer(FakeLog):
        def entries(self, number: int, width: int) -> bytes:
            return super().entries(number, width) + bundle_bytes([b"{}"])

    with pytest.raises(VerificationError, match="missing at 0"):
        Longer(lively()).page()


def test_what_retention_pruned_is_verified_by_its_hashes_and_said() -> None:
    """The root still holds; the page says how much it could not read."""
    page = hold(FakeLog(lively(), pruned={0}).page())
    assert "The content of 256 entries was not there to be read" in page.text


def test_what_could_not_be_read_is_said() -> None:
    """An entry of a later version is in the root, and in no count."""
    page = hold(FakeLog([*lively(), b"not even JSON"]).page())
    assert "1 entries of the log are not in a form" in page.text


def test_a_log_after_a_restore_says_that_it_goes_on() -> None:
    """Its first entry is audit's own; the same words elsewhere mean nothing."""
    first = leaf(CONTINUED, "2026-11-01", epoch=2, earlier=[])
    page = hold(FakeLog([first, *lively()]).page())
    assert "This log goes on after a restore from a backup." in page.text
    assert "goes on after" not in hold(FakeLog([*lively(), first]).page()).text


def test_progress_is_told_of_every_entry() -> None:
    """Pruned or not, so that a bar reaches its end."""
    log, told = FakeLog(lively(), pruned={0}), list[int]()
    survey(
        log, log.verifiers(), tally.Tally(span("2026-11-01", "2026-12-01")), told.append
    )
    assert told == [256, len(log.leaves) - 256]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a log of two jobs and its keys."""
    root = tmp_path_factory.mktemp("report") / "home"
    keys = FileKeys(root / "keys")
    keys.create(SIGNING_KEY)
    signer = keys.create(events_key("acme"))
    log = Log.at(f"sqlite:///{root}/audit.db", keys)
    for kind in (events.SWAP_STARTED, events.SWAP_COMPLETED):
        event = events.Event(
            id=f"a-{kind}",
            source=events.swap_source("acme"),
            type=kind,
            time="2026-11-21T12:00:00.000Z",
            tenant="acme",
            data={"job": "a", "operation": "swap", "actor": EVIL},
        )
        log.append(events.sign(event, signer))
    log.close()
    return root


def run(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["audit", "report", "--tenant", "acme", *map(str, arguments)])
    assert (ended.value.code or 0) == code


MONTH = ("--from", "2026-11-01", "--to", "2026-12-01")


def test_the_command_writes_a_page_and_says_what_it_verified(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a script: what was verified, and how much was found."""
    out = tmp_path / "report.html"
    run("-o", out, "--home", home, *MONTH, "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["verified"], told["size"], told["entries"]) == (True, 2, 2)
    assert (told["completed"], told["refused"]) == (1, 0)
    page = hold(out.read_text("utf-8"))
    assert told["root"] in page.text
    assert "<script" not in out.read_text("utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_the_command_tells_a_person_in_two_lines(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a period, it is the month so far."""
    out = tmp_path / "report.html"
    run("-o", out, "--home", home)
    assert "2 entries verified" in capsys.readouterr().out
    assert "To the content" in out.read_text("utf-8")


def test_no_page_is_written_of_what_does_not_verify(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another log's key nothing verifies: one line, exit 1, and no file."""
    FileKeys(tmp_path / "keys").create(SIGNING_KEY)
    out = tmp_path / "report.html"
    run("-o", out, "--home", home, "--keys", tmp_path / "keys", *MONTH, code=1)
    assert "no report: the note is not signed by a known key" in capsys.readouterr().err
    assert not out.exists()


def test_a_log_that_is_not_there_is_an_error(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No such epoch, and no such tenant: said in one line."""
    out = tmp_path / "report.html"
    run("-o", out, "--home", home, "--epoch", 2, *MONTH, code=1)
    run("-o", out, "--home", home, "--tenant", "other", *MONTH, code=1)
    assert capsys.readouterr().err.count("urn:guise:problem:not-found") == 2


def test_a_page_that_cannot_be_written_leaves_nothing_behind(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The place is a folder: an error, and no half of a page beside it."""
    (tmp_path / "folder").mkdir()
    run("-o", tmp_path / "folder", "--home", home, *MONTH, code=1)
    assert "OSError" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_browser_shows_it_whole(tmp_path: Path) -> None:
    """Wide or narrow, light or dark: nothing fetched, refused or cut off."""
    file = tmp_path / "report.html"
    file.write_text(FakeLog(lively()).page(), "utf-8")
    with browser(tmp_path / "profile") as shown:
        for width in (1100, 400):
            for scheme, ground in (("light", "250, 249, 246"), ("dark", "18, 21, 24")):
                shown.show(file, width, scheme=scheme)
                colour = "getComputedStyle(document.body).backgroundColor"
                assert shown.ask(colour) == f"rgb({ground})"
                assert shown.ask("document.documentElement.scrollWidth") <= width
                assert shown.fetched() == [file.as_uri()]
                assert shown.complaints() == []
        assert shown.ask("document.querySelectorAll('svg.chart rect').length") > 28
        printed = shown.pdf()
    assert printed.startswith(b"%PDF-")
    # A4 in points, as the style asks: not the letter paper of the browser's default.
    box = re.search(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", printed)
    assert box is not None
    assert [round(float(each)) for each in box.groups()] == [595, 842]
