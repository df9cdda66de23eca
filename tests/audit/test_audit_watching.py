"""`guise audit monitor`, `evidence`, `backup`, `restore`, `retention`, `prune`."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.serving import make_server

from functions import events
from functions.audit import copies
from functions.audit.app import create_app
from functions.audit.bundle import log_verifiers
from functions.audit.log import Log
from functions.cli import main
from functions.cli.audit.monitor import FILE_BYTES_MAX
from functions.keys import FileKeys, events_key
from functions.storage.file import FileStore
from tests.audit.house import TokensByName
from tests.audit.shown import VERIFIERS, Shown, leaves

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.sink import Receipt


@dataclass
class Desk:
    """An operator's folder: a home with a log and its keys, and what was kept."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def home(self) -> Path:
        """Where the log lies."""
        return self.folder / "home"

    @property
    def keys(self) -> FileKeys:
        """The keys of the home."""
        return FileKeys(self.home / "keys")

    @property
    def url(self) -> str:
        """The log's database."""
        return f"sqlite:///{self.home}/audit.db"

    def append(self, *names: str, time: str = "2026-11-21T12:00:00Z") -> list[Receipt]:
        """Append events as the function does."""
        log = Log.at(self.url, self.keys, clock_ms=lambda: events.milliseconds(time))
        found = []
        for name in names:
            event = events.Event(
                id=name,
                source=events.swap_source("acme"),
                type=events.SWAP_STARTED,
                time=time,
                tenant="acme",
                data={"job": name},
            )
            signed = events.sign(event, self.keys.signer(events_key("acme")))
            found.append(log.append(signed).receipt)
        log.close()
        return found

    def run(self, *arguments: object, code: int = 0) -> str:
        """Run `guise audit …`, hold it to its exit status, return what it printed."""
        with pytest.raises(SystemExit) as ended:
            main(["audit", *map(str, arguments), "--home", str(self.home)])
        out, err = self.capsys.readouterr()
        assert ended.value.code == code, out + err
        return out + err

    def monitor(self, *more: object, code: int = 0) -> str:
        """Run the monitor over what was kept."""
        kept = self.folder / "kept"
        return self.run("monitor", "--tenant", "acme", "--kept", kept, *more, code=code)

    def told(self, *arguments: object, code: int = 0) -> Any:
        """Return the JSON that a command prints."""
        return json.loads(self.run(*arguments, "--json", code=code))


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Return a home with three entries, and an empty folder for what is kept."""
    made = Desk(tmp_path, capsys)
    made.home.mkdir()
    made.keys.create("audit")
    made.keys.create(events_key("acme"))
    (tmp_path / "kept").mkdir()
    made.append("e0", "e1", "e2")
    return made


def test_the_first_look_keeps_what_the_second_holds_the_log_to(desk: Desk) -> None:
    """One line, exit 0, and the newest checkpoint in the folder, whole."""
    said = desk.monitor()
    assert "acme: 0 kept checkpoints; guise.audit/acme at 3" in said
    state = desk.folder / "kept" / "acme.checkpoint"
    first = state.read_text()
    desk.append("e3")
    assert "acme: 1 kept checkpoints; guise.audit/acme at 4" in desk.monitor()
    assert state.read_text() != first
    assert [each.name for each in state.parent.iterdir()] == [state.name]


def test_receipts_in_job_records_are_held_to_the_log(desk: Desk) -> None:
    """Whatever holds a checkpoint of this tenant counts; others' do not."""
    receipts = desk.append("e3", "e4")
    for number, receipt in enumerate(receipts):
        record = {"receipt": {"index": receipt.index, "checkpoint": receipt.checkpoint}}
        path = desk.folder / "kept" / f"job-{number}.json"
        path.write_text(json.dumps(record))
    (desk.folder / "kept" / "other").write_text(Shown(leaves(2), "other").checkpoint())
    (desk.folder / "kept" / "readme").write_text("nothing")
    stranger = Shown(leaves(2)).checkpoint().replace("guise.audit/acme", "example.org")
    (desk.folder / "kept" / "stranger").write_text(stranger)
    assert desk.told("monitor", "--tenant", "acme", "--kept", desk.folder / "kept") == {
        "tenant": "acme",
        "fine": True,
        "checked": 2,
        "checkpoint": receipts[1].checkpoint,
        "losses": [],
        "faults": [],
    }


def test_a_file_of_ones_own_is_made_and_moved_on(desk: Desk) -> None:
    """`--kept FILE`: missing it is made, of notes alone it is the monitor's."""
    file = desk.folder / "newest"
    for size in (3, 4):
        desk.run("monitor", "--tenant", "acme", "--kept", file)
        assert file.read_text().split("\n")[1] == str(size)
        desk.append(f"next-{size}")


def test_a_record_is_read_and_never_written(desk: Desk) -> None:
    """`--kept FILE` with anything else in it stays as it is."""
    [receipt] = desk.append("e3")
    record = desk.folder / "job.json"
    record.write_text(json.dumps({"checkpoint": receipt.checkpoint}))
    before = record.read_bytes()
    said = desk.run("monitor", "--tenant", "acme", "--kept", record)
    assert "1 kept checkpoints" in said
    assert record.read_bytes() == before


def forge(desk: Desk, *names: str) -> None:
    """Begin the log anew, with the same keys."""
    for path in desk.home.glob("audit.db*"):
        path.unlink()
    if names:
        desk.append(*names)


def test_attack_a_rewritten_log_is_told_with_evidence_for_anyone(desk: Desk) -> None:
    """Exit 1, a line with both checkpoints, and a file that needs only the key."""
    desk.monitor()
    kept = (desk.folder / "kept" / "acme.checkpoint").read_text()
    forge(desk, "e0", "forged", "e2", "e3", "e4")
    said = desk.monitor(code=1)
    assert "FORK: two histories of one log" in said
    assert "at 3" in said
    assert "at 5" in said
    [evidence] = (desk.folder / "kept").glob("acme-fork-*.json")
    assert str(evidence) in said.replace("\n", "")
    assert (desk.folder / "kept" / "acme.checkpoint").read_text() == kept
    # Again, with what it wrote in the folder: the same line, no second file.
    desk.monitor(code=1)
    assert len(list((desk.folder / "kept").glob("*.json"))) == 1
    key = desk.folder / "key"
    key.write_text(log_verifiers("acme", desk.keys)[0].line)
    away = ("--keys", desk.folder / "nowhere", "--key", key)
    assert "proven: two histories" in desk.run("evidence", evidence, *away)
    told = desk.told("evidence", evidence, *away)
    assert told["tenant"] == "acme"
    key.write_text(VERIFIERS[0].line)
    assert "proves nothing" in desk.run("evidence", evidence, *away, code=1)


def test_attack_a_rollback_or_a_deleted_log_is_told(desk: Desk) -> None:
    """JSON names kind, text and evidence; what was kept stays kept."""
    desk.monitor()
    forge(desk, "e0")
    [fault] = desk.told(
        "monitor", "--tenant", "acme", "--kept", desk.folder / "kept", code=1
    )["faults"]
    assert fault["kind"] == "rollback"
    assert "proves nothing" in desk.run("evidence", fault["evidence"], code=1)
    forge(desk)
    Log.at(desk.url, desk.keys).close()
    assert "ROLLBACK: the log is gone" in desk.monitor(code=1)


def test_what_was_kept_must_be_signed_by_the_key_that_is_given(desk: Desk) -> None:
    """A key of somebody else does not make everything look fine."""
    desk.monitor()
    key = desk.folder / "key"
    key.write_text(VERIFIERS[0].line)
    said = desk.monitor("--key", key, code=1)
    assert said.count("SIGNATURE") == 2
    key.write_text("no key")
    assert "key" in desk.monitor("--key", key, code=1)


def test_attack_a_log_that_the_second_store_contradicts(desk: Desk) -> None:
    """What was copied convicts the log, though nobody else kept anything."""
    witness = FileStore(desk.folder / "witness")
    for receipt in desk.append("e3", "e4"):
        key = copies.checkpoint_key(receipt.checkpoint)
        copies.copy(witness, key, receipt.checkpoint)
    where = ("--witness", f"file://{desk.folder}/witness")
    assert "2 kept checkpoints" in desk.monitor(*where)
    # The next time only what came since is read, and once more the last.
    assert "1 kept checkpoints" in desk.monitor(*where)
    forge(desk, *(f"f{each}" for each in range(9)))
    (desk.folder / "kept" / "acme.checkpoint").unlink()
    assert desk.monitor(*where, code=1).count("FORK") == 2
    assert "GUISE_WITNESS" in desk.monitor("--witness", "nonsense", code=1)


@pytest.fixture
def served(desk: Desk) -> Iterator[str]:
    """Serve the log over HTTP; return the address."""
    log = Log.at(desk.url, desk.keys)
    app = create_app(log=log, keys=desk.keys, authenticator=TokensByName())
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()
    log.close()


def test_a_log_is_watched_over_http(desk: Desk, served: str) -> None:
    """With a token and the key; neither database nor home."""
    token = desk.folder / "token"
    token.write_text("acme\n")
    where = ("--url", served, "--token-file", token)
    desk.monitor(*where)
    desk.append("e3")
    assert "1 kept checkpoints; guise.audit/acme at 4" in desk.monitor(*where)
    token.write_text("other")
    said = desk.monitor(*where, code=1)
    assert "which is what another tenant's token is told, too" in said


def test_a_log_that_does_not_answer_is_not_one_that_is_gone(desk: Desk) -> None:
    """Nothing is said of the log, and nothing is kept."""
    desk.monitor()
    where = ("--url", "http://127.0.0.1:1")
    said = desk.monitor(*where, code=1)
    assert "does not answer" in said
    assert "ROLLBACK" not in said


def test_a_file_that_is_too_large_is_not_read(desk: Desk) -> None:
    """It is named, and not passed over."""
    with (desk.folder / "kept" / "film").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    assert "bytes" in desk.monitor(code=1)


def test_watching_goes_on_until_something_is_wrong(desk: Desk) -> None:
    """`--every`: look, wait, look; a log that is away is looked for again."""
    place = desk.home / "audit.db"
    other = replace(desk, folder=desk.folder / "2")
    other.home.mkdir(parents=True)
    (other.home / "keys").symlink_to(desk.home / "keys")
    other.append("other")
    broken = desk.folder / "broken"
    broken.write_text("no database, " * 1000)

    def spoil() -> None:
        for spoiled in (broken, other.home / "audit.db"):
            time.sleep(0.7)
            spoiled.replace(place)

    thread = threading.Thread(target=spoil)
    thread.start()
    said = desk.monitor("--every", 0.05, code=1)
    thread.join()
    assert "cannot look" in said
    assert said.count("guise.audit/acme at 3") > 1
    assert "ROLLBACK" in said


def test_what_is_no_evidence_is_refused(desk: Desk) -> None:
    """Neither a file that is none, nor one with something else in it."""
    desk.run("evidence", desk.folder / "none", code=1)
    for text in ("{", "[]", "{}", '{"tenant": "acme"}'):
        (desk.folder / "e").write_text(text)
        desk.run("evidence", desk.folder / "e", code=1)


def test_backup_and_restore_by_hand(desk: Desk) -> None:
    """What is in it, what it holds that is private, and what it lacks afterwards."""
    file = desk.folder / "audit.backup"
    witness = ("--witness", f"file://{desk.folder}/witness")
    said = desk.run("backup", "-o", file)
    assert "acme, epoch 1: 3 entries, verified" in said
    assert "private" in said
    assert "exists" in desk.run("backup", "-o", file, code=1)
    desk.append("late")
    told = desk.told("backup", "-o", desk.folder / "second", *witness)
    assert (told["copied"], told["logs"][0]["size"]) == (1, 4)
    said = desk.run("backup", "-o", desk.folder / "third", *witness)
    assert "0 copies were missing" in said
    unsigned = FileStore(desk.folder / "witness")
    unsigned.put(copies.statement_key("acme", "job"), b"erase it")

    into = ("--into", f"sqlite:///{desk.folder}/restored.db")
    said = desk.run("restore", file, *into, *witness)
    assert "acme: epoch 2 is open" in said
    assert "LOST: entries 3 to 3" in said
    assert "passed over" in said
    assert "empty database" in desk.run("restore", file, *into, code=1)
    (desk.folder / "statements").write_text("none")
    given = ("--erasures", desk.folder / "statements")
    into = ("--into", f"sqlite:///{desk.folder}/again.db")
    told = desk.told("restore", desk.folder / "second", *into, *given)
    assert told["logs"] == [
        {
            "tenant": "acme",
            "epoch": 2,
            "lost": 0,
            "earlier": [{"epoch": 1, "held": 4, "known": 4}],
        }
    ]
    into = ("--into", f"sqlite:///{desk.folder}/third.db")
    said = desk.run("restore", desk.folder / "second", *into)
    assert "all that is known" in said


def test_a_monitor_says_what_a_restore_lost(desk: Desk) -> None:
    """The log's own word, which is no fault; afterwards the new epoch is held to."""
    file, restored = desk.folder / "backup", desk.folder / "restored.db"
    desk.run("backup", "-o", file)
    desk.append("e3", "e4")
    desk.monitor()
    witness = FileStore(desk.folder / "witness")
    note = (desk.folder / "kept" / "acme.checkpoint").read_text()
    copies.copy(witness, copies.checkpoint_key(note), note)
    into = ("--into", f"sqlite:///{restored}")
    desk.run("restore", file, *into, "--witness", f"file://{desk.folder}/witness")
    where = ("--database", f"sqlite:///{restored}")
    said = desk.monitor(*where)
    assert "a restore lacks entries 3 to 4 of epoch 1" in said
    assert "guise.audit/acme/2 at 1" in said
    assert "lacks" not in desk.monitor(*where)
    assert "ROLLBACK: the log is back" in desk.monitor(code=1)


def test_a_log_that_does_not_verify_is_neither_backed_up_nor_restored(
    desk: Desk,
) -> None:
    """One line says why, and there is no file."""
    file = desk.folder / "backup"
    strangers = ("--keys", desk.folder / "strangers")
    assert "no backup" in desk.run("backup", "-o", file, *strangers, code=1)
    assert not file.exists()
    desk.run("backup", "-o", file)
    into = ("--into", f"sqlite:///{desk.folder}/restored.db")
    said = desk.run("restore", file, *into, *strangers, code=1)
    assert "nothing was restored" in said


def test_retention_and_pruning_by_hand(desk: Desk) -> None:
    """Shown, set, refused below the least; what was dropped is said."""
    acme = ("--tenant", "acme")
    assert "for ever" in desk.run("retention", *acme)
    assert "no retention" in desk.run("prune", *acme, code=1)
    assert "180" in desk.run("retention", *acme, "--days", 30, code=1)
    assert "for 200 days" in desk.run("retention", *acme, "--days", 200)
    assert desk.told("retention", *acme) == {"tenant": "acme", "days": 200}
    desk.append(*(f"old-{each}" for each in range(260)), time="2020-01-01T00:00:00Z")
    assert "0 entries dropped" in desk.run("prune", *acme)
    other = replace(desk, folder=desk.folder / "2")
    other.home.mkdir(parents=True)
    (other.home / "keys").symlink_to(desk.home / "keys")
    other.append(*(f"old-{each}" for each in range(260)), time="2020-01-01T00:00:00Z")
    other.run("retention", *acme, "--days", 180)
    told = other.told("prune", *acme)
    assert told["pruned"] == [{"epoch": 1, "entries": 256, "jobs": 256, "minimum": 256}]
