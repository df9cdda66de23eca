"""`guise audit report`: of a database, and of a bundle from anybody."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.audit import tally
from functions.audit.backup import open_backup, write_backup
from functions.audit.bundle import SIGNING_KEY, log_verifiers
from functions.audit.copies import checkpoint_key
from functions.audit.log import Log
from functions.audit.manifest import Range
from functions.audit.merkle import VerificationError
from functions.audit.reporting import survey_bundle
from functions.audit.restore import restore
from functions.audit.source import KeptLog
from functions.audit.store import Store
from functions.cli import main
from functions.keys import FileKeys, events_key
from functions.storage.memory import MemoryStore
from tests.audit.bundles import VERIFIERS, Made, bundle, changed, told
from tests.audit.reports import (
    EVIL,
    NOVEMBER,
)
from tests.pages.promises import hold

if TYPE_CHECKING:
    from pathlib import Path


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
    """No such tenant, or none named: said in one line."""
    out = tmp_path / "report.html"
    run("-o", out, "--home", home, "--tenant", "other", *MONTH, code=1)
    assert "urn:guise:problem:not-found" in capsys.readouterr().err
    run("-o", out, "--home", home, "--tenant", "", *MONTH, code=1)
    assert "name the --tenant" in capsys.readouterr().err


def restored(home: Path, folder: Path, witness: MemoryStore, *, early: bool) -> str:
    """Return where the home's log is restored, from before it began if `early`."""
    keys = FileKeys(home / "keys")
    keys_of = partial(log_verifiers, keys=keys)
    source = folder / "early.db" if early else home / "audit.db"
    with closing(Store.open(f"sqlite:///{source}")) as store:
        write_backup(store, folder / "audit.backup", keys_of)
    with closing(Store.open(f"sqlite:///{home}/audit.db")) as store:
        note = KeptLog(store, "acme").checkpoint()
        witness.put_if_absent(checkpoint_key(note), note.encode())
    target = f"sqlite:///{folder}/restored.db"
    with (
        closing(open_backup(folder / "audit.backup", folder)) as backup,
        closing(Store.open(target)) as store,
    ):
        restore(backup, store, keys, keys_of, witness=witness)
    return target


@pytest.mark.parametrize(
    ("early", "read", "said"),
    [(False, 3, "Nothing that log 1 is known"), (True, 1, "2 were not in the backup")],
)
def test_a_restored_log_is_reported_on_with_what_came_before(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    early: bool,
    read: int,
    said: str,
) -> None:
    """Each log is verified by itself; what is lost is said, also if that is all."""
    url = restored(home, tmp_path, MemoryStore(), early=early)
    out = tmp_path / "report.html"
    run("-o", out, "--home", home, "--database", url, *MONTH, "--json")
    assert json.loads(capsys.readouterr().out)["read"] == read
    page = hold(out.read_text("utf-8"))
    assert "Log 2 goes on from log 1 after a restore" in page.text
    assert said in page.text


def test_a_page_that_cannot_be_written_leaves_nothing_behind(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The place is a folder: an error, and no half of a page beside it."""
    (tmp_path / "folder").mkdir()
    run("-o", tmp_path / "folder", "--home", home, *MONTH, code=1)
    assert "OSError" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """Return a file with the key that is trusted, as `guise audit keys` prints it."""
    path = tmp_path / "log.keys"
    path.write_text("".join(f"{each.line}\n" for each in VERIFIERS))
    return path


def of_bundle(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["audit", "report", *map(str, arguments)])
    assert (ended.value.code or 0) == code


def test_a_bundle_is_reported_on_without_a_database(
    tmp_path: Path, keys_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a whole log: all entries, in the period that they state."""
    path = bundle(tmp_path / "whole.zip", Made(told(700)).piece())
    out = tmp_path / "report.html"
    of_bundle(path, "--key", keys_file, "-o", out, "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["read"], said["entries"], said["completed"]) == (700, 700, 350)
    assert said["from"] == "2026-11-21T12:00:00Z"
    page = hold(out.read_text("utf-8"))
    assert "all 700 entries of the log" in page.text
    assert "a bundle, whole.zip" in page.text


def test_a_bundle_of_a_period_says_what_it_cannot_prove(
    tmp_path: Path, keys_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its entries are proven; that there are no others of the period is a claim."""
    log = Made(told(700))
    period = {"after": "2026-11-21T12:05:00Z", "before": "2026-11-21T12:06:00Z"}
    path = bundle(tmp_path / "part.zip", log.piece(Range(300, 360)), **period)
    out = tmp_path / "report.html"
    of_bundle(path, "--key", keys_file, "--tenant", "acme", "-o", out)
    assert "256 entries verified, 60 in the period" in capsys.readouterr().out
    page = hold(out.read_text("utf-8"))
    assert "Each of the 256 entries that were read was proven" in page.text
    assert "The bundle leaves out 444 entries" in page.text
    narrower = ("--from", "2026-11-21T12:05:10Z", "--to", "2026-11-21T12:05:20Z")
    of_bundle(path, "--key", keys_file, "-o", out, *narrower)
    assert "10 in the period" in capsys.readouterr().out


def test_a_bundle_is_held_to_what_is_asked_of_it(
    tmp_path: Path, keys_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another tenant, another period, a single job, no key: one line, and no page."""
    log = Made(told(700))
    period = {"after": "2026-11-21T12:05:00Z", "before": "2026-11-21T12:06:00Z"}
    part = bundle(tmp_path / "part.zip", log.piece(Range(300, 360)), **period)
    job = bundle(
        tmp_path / "job.zip", log.piece(Range(0, 0), single=(4, 5)), job="job-2"
    )
    out = tmp_path / "report.html"
    trusted = ("--key", keys_file, "-o", out)
    for arguments, match in (
        ((part, "-o", out), "needs the log's --key"),
        ((part, *trusted, "--tenant", "other"), "the bundle is of acme"),
        ((part, *trusted, "--from", "2026-11-21"), "does not hold all of this period"),
        ((part, *trusted, "--to", "2026-11-22"), "does not hold all of this period"),
        ((job, *trusted), "the bundle is of one job"),
    ):
        of_bundle(*arguments, code=1)
        assert match in capsys.readouterr().err
    assert not out.exists()


def test_attack_a_bundle_with_a_changed_entry_makes_no_page(
    tmp_path: Path, keys_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever `guise audit verify` finds wrong, no report is written of."""
    path = bundle(tmp_path / "whole.zip", Made(told(700)).piece())
    out = tmp_path / "report.html"

    def flip(data: bytes) -> bytes:
        return data.replace(b"job-3", b"job-4", 1)

    changed(path, {"tile/entries/000": flip})
    of_bundle(path, "--key", keys_file, "-o", out, code=1)
    assert "no report: entry 6 is not what the log holds" in capsys.readouterr().err
    (tmp_path / "nonsense.zip").write_bytes(b"PK")
    of_bundle(tmp_path / "nonsense.zip", "--key", keys_file, "-o", out, code=1)
    assert not out.exists()


def test_attack_the_bundle_is_exchanged_while_it_is_read(tmp_path: Path) -> None:
    """The checkpoint that the page shows is of the entries that it counts."""
    path = bundle(tmp_path / "whole.zip", Made(told(700)).piece())
    other = bundle(tmp_path / "other.zip", Made(told(600)).piece())

    def exchange(_done: int, _all: int) -> None:
        if other.exists():
            other.replace(path)

    with pytest.raises(VerificationError, match="changed while it was read"):
        survey_bundle(path, VERIFIERS, tally.Tally(NOVEMBER), progress=exchange)


def test_a_bundle_with_a_pruned_beginning_says_so(tmp_path: Path) -> None:
    """Hashes where entries were: proven, counted, and nothing more."""
    path = bundle(tmp_path / "pruned.zip", Made(told(700)).piece(minimum=256))
    counting = tally.Tally(NOVEMBER)
    (proof,) = survey_bundle(path, VERIFIERS, counting)
    assert (proof.read, proof.hidden, proof.left_out) == (444, 256, 0)
    assert counting.report().entries == 444


def test_no_bundle_at_all_is_an_empty_report(tmp_path: Path, keys_file: Path) -> None:
    """A log's period in which nothing was: a page, and not an error."""
    log = Made(told(700))
    period = {"after": "2027-01-01T00:00:00Z", "before": "2027-02-01T00:00:00Z"}
    path = bundle(tmp_path / "none.zip", log.piece(Range(0, 0)), **period)
    out = tmp_path / "report.html"
    of_bundle(path, "--key", keys_file, "-o", out)
    assert "No job ended in this period." in hold(out.read_text("utf-8")).text
