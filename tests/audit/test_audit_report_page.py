"""The page of a report: what it promises, and what leaves no page at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from functions.audit import tally
from functions.audit.continued import CONTINUED
from functions.audit.merkle import VerificationError
from functions.audit.report import Counts
from functions.audit.reporting import page, survey
from functions.audit.tiles import NoteVerifier, bundle_bytes, origin
from functions.keys import MemoryKeys
from tests.audit.reports import (
    ABOUT,
    EVIL,
    NOVEMBER,
    FakeLog,
    ended,
    leaf,
    lively,
    span,
    table,
    tallied,
)
from tests.pages.browser import browser
from tests.pages.promises import hold

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_keeps_every_promise() -> None:
    """Alone, guarded, heard, with true tables: with all that a log can hold."""
    page = hold(FakeLog(lively()).page())
    assert page.one("h1").text == "acme"
    assert len(list(page.one("figure").all("rect"))) > 28


def test_the_page_of_a_quiet_period_keeps_every_promise() -> None:
    """Nothing happened, and that is said."""
    page = hold(FakeLog(lively()).page(span("2025-01-01", "2025-02-01")))
    assert "No job ended in this period." in page.text
    assert "Nothing was erased in this period, and nothing expired." in page.text
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


def test_more_actors_than_are_followed_are_said_to_be_more() -> None:
    """Never "2 actors" where there were two and others."""
    found = tallied(*lively())
    found.actors = Counts(2)
    for name in ("a", "b", "c", "d"):
        found.actors.add(name)
    log = FakeLog(lively())
    proof = survey(log, log.verifiers(), tally.Tally(NOVEMBER))
    shown = table(hold(page(found, [proof], ABOUT)), "Who asked: more than 10,000")
    assert shown[1:] == [["all others", "2"], ["a", "1"], ["b", "1"]]


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
    assert "of which nothing is counted: 1." in page.text


def test_a_log_after_a_restore_says_that_it_goes_on_and_what_was_lost() -> None:
    """Its first entry is audit's own; the same words elsewhere mean nothing."""
    note = "guise.audit/acme\n300\nroot\n\n— guise.audit/acme sig\n"
    earlier = [{"epoch": 1, "held": 290, "checkpoint": note}]
    first = leaf(CONTINUED, "2026-11-20", epoch=2, earlier=earlier)
    counting = tally.Tally(NOVEMBER)
    for index, job in enumerate("az"):
        counting.add(index, ended(job))
    for index, each in enumerate([first, ended("b"), first]):
        counting.add(index, each, 2)
    found = counting.report()
    (restore,) = found.restores
    assert (restore.epoch, restore.earlier, restore.held, restore.size) == (
        2,
        1,
        290,
        300,
    )
    assert [(each.epoch, each.index) for each in found.jobs] == [(1, 0), (1, 1), (2, 1)]
    log = FakeLog([ended("a")])
    proof = survey(log, log.verifiers(), tally.Tally(NOVEMBER))
    shown = hold(page(found, [proof, proof], ABOUT))
    assert "10 were not in the backup" in shown.text
    assert [row[-1] for row in table(shown, "Jobs that ended")[1:]] == ["0", "1", "2/1"]
    assert "all 2 entries of the tenant's 2 logs" in shown.text


@pytest.mark.parametrize("earlier", [None, [], ["x"], [{"checkpoint": "x\n-4\n"}]])
def test_a_first_entry_that_says_nothing_stops_nothing(earlier: Any) -> None:
    """It is taken as it is: nothing is known to be lost."""
    first = leaf(CONTINUED, "2026-11-20", epoch=2, earlier=earlier)
    restores = tallied(first, ended("a")).restores
    assert all(each.size == each.held == 0 for each in restores)


def test_progress_is_told_of_every_entry() -> None:
    """Pruned or not, so that a bar reaches its end."""
    log, told = FakeLog(lively(), pruned={0}), list[tuple[int, int]]()
    size = len(log.leaves)

    def progress(done: int, whole: int) -> None:
        told.append((done, whole))

    survey(log, log.verifiers(), tally.Tally(NOVEMBER), progress=progress)
    assert told == [(256, size), (size, size)]


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
