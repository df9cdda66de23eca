"""`guise audit erase`: in the tenant's store first, then beside the log."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from werkzeug.serving import make_server

from functions import events
from functions.audit import copies
from functions.audit.bundle import log_verifiers
from functions.audit.leaf import ERASED, RECORDED
from functions.audit.log import Log
from functions.audit.recording import record
from functions.audit.store import Selection, select_entries
from functions.audit.tiles import open_note
from functions.cli import main
from functions.keys import FileKeys, events_key
from functions.local.home import Home
from functions.storage import open_store
from functions.swap import intake, ledger, outbox, retention
from functions.tenant import Key
from tests.swap.house import ACME, SWAP, House, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Desk:
    """One machine on which a job was done; nothing runs there any more."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = Home(folder / "home")
        self.home.prepare([ACME])
        self.keys = FileKeys(self.home.keys)
        self.capsys = capsys
        stored = (self.home.tenants / "acme").as_uri()
        self.house = House(opener=lambda _: open_store(stored))
        self.house.put("a.png", picture(1))
        self.house.put("b.png", picture(2))
        answer = self.house.post(SWAP)
        self.job = str(answer.json["job"])  # type: ignore[index]
        self.salt = intake.load(ACME, self.job, self.house.store).salt
        self._audit()

    def _audit(self) -> None:
        """Have the log hold what the house told, under this machine's keys."""
        signer = self.keys.signer(events_key("acme"))
        told = [*self.house.auditor.seen, *self.house.sink.taken]
        with closing(self.log()) as log:
            for event in told:
                if event.type in RECORDED:
                    record(events.sign(event, signer), ACME, log, self.keys)

    def log(self) -> Log:
        return Log.at(self.home.database_url("audit"), self.keys)

    def entries(self) -> list[dict[str, Any]]:
        with closing(self.log()) as log, log.store.reading("acme") as db:
            found = select_entries(db, Selection("acme"), 100)
        return [msgspec.json.decode(entry.leaf) for entry in found]

    def expire(self) -> None:
        """Let the tenant's retention take the job, and audit hear of it."""
        ending, generation = ledger.record_at(ACME, self.job, self.house.store)
        assert ending is not None
        del self.house.auditor.seen[:], self.house.sink.taken[:]
        assert retention.expire(ending, generation, self.house.books)
        self._audit()

    def run(self, command: str, *arguments: object, code: int = 0) -> tuple[str, str]:
        where = ("--home", self.home.root, "--tenant", "acme")
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["audit", command, *map(str, (*where, *arguments))])
        said = self.capsys.readouterr()
        assert (ended.value.code or 0) == code, said.err
        return said.out, said.err

    def hits(self) -> list[Any]:
        path = self.home.root / "photo.png"  # the person's own: the store's may go
        path.write_bytes(picture(1))
        found = json.loads(self.run("search", "--image", path, "--json")[0])
        return list(found["hits"])

    def holds_salt(self) -> bool:
        store = self.house.store
        keys = [info.key for info in store.list(Key("")).objects]
        return any(self.salt.encode() in store.get(key).data for key in keys)

    def opened(self, text: str) -> str:
        return open_note(text, log_verifiers("acme", self.keys))


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Return a machine with one job that has ended."""
    return Desk(tmp_path, capsys)


def test_a_job_is_erased_everywhere(desk: Desk, tmp_path: Path) -> None:
    """Store, sidecar and index; the tenant's own event is the entry that says so."""
    assert [hit["role"] for hit in desk.hits()] == ["source"]
    file = tmp_path / "statement.txt"
    out, _ = desk.run("erase", "--job", desk.job, "-o", file)
    assert f"{desk.job} is erased" in out
    assert f"job {desk.job}\n" in desk.opened(file.read_text())
    assert desk.hits() == []
    assert not desk.holds_salt()
    kinds = [entry["type"] for entry in desk.entries()]
    assert kinds[2:] == [events.SWAP_ERASED]


def test_a_job_that_expired_is_found_and_can_be_erased(desk: Desk) -> None:
    """Its folder and its salt are gone from the store; the evidence only now."""
    before = desk.hits()
    photo = desk.home.root / "photo.png"
    desk.expire()
    assert not desk.holds_salt()
    found = json.loads(desk.run("search", "--image", photo, "--json")[0])
    (hit,) = found["hits"]
    expired = hit.pop("expired")
    assert [hit] == before
    desk.opened(desk.run("erase", "--job", desk.job)[0])
    told = [e["data"]["outcome"] for e in desk.entries()[2:]]
    assert (told, bool(expired)) == (["expired", "erased"], True)
    found = json.loads(desk.run("search", "--image", photo, "--json")[0])
    assert found["hits"] == []


def test_twice_it_is_the_same_statement(desk: Desk) -> None:
    """Printed where no file is named; a script gets JSON."""
    first, _ = desk.run("erase", "--job", desk.job)
    desk.opened(first)
    assert desk.run("erase", "--job", desk.job)[0] == first
    printed = json.loads(desk.run("erase", "--job", desk.job, "--json")[0])
    assert printed == {
        "tenant": "acme",
        "job": desk.job,
        "statement": first,
        "missed": "",
    }
    assert len(desk.entries()) == 3


def test_the_statement_is_copied_into_the_second_store(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore replays erasures from there, and no function may hear of this one."""
    monkeypatch.setenv("GUISE_WITNESS", (tmp_path / "witness").as_uri())
    text, _ = desk.run("erase", "--job", desk.job)
    objects = open_store((tmp_path / "witness").as_uri())
    assert list(copies.statements(objects, "acme")) == [(desk.job, text)]


def test_a_job_that_has_not_ended_is_not_erased(desk: Desk) -> None:
    """Cancel it first: neither here nor there is anything gone."""
    answer = desk.house.post(SWAP, Prefer="respond-async")
    job = answer.json["job"]  # type: ignore[index]
    _, said = desk.run("erase", "--job", job, code=1)
    assert "cancel it first" in said
    assert ledger.record(ACME, job, desk.house.store) is None
    assert len(desk.entries()) == 2


def test_an_ending_that_is_not_told_comes_first(desk: Desk) -> None:
    """The tombstone takes its place, so it must have been sent: start the stack."""
    outbox.mark(ACME, desk.job, desk.house.store)
    desk.run("erase", "--job", desk.job, code=1)
    assert desk.holds_salt()
    assert len(desk.hits()) == 1


def test_a_store_that_is_not_reached_is_named(desk: Desk) -> None:
    """What can be erased is; the command fails, and says what may remain."""
    shutil.rmtree(desk.home.tenants / "acme")
    out, said = desk.run("erase", "--job", desk.job, code=1)
    desk.opened(out)
    assert "not reached" in said
    assert "salt" in said
    assert desk.entries()[2]["type"] == ERASED
    assert desk.entries()[2]["data"] == {"job": desk.job, "actor": "operator"}


def test_the_store_can_be_left_alone_knowingly(desk: Desk) -> None:
    """`--log-only`, where somebody else has erased there."""
    desk.run("erase", "--job", desk.job, "--log-only")
    assert desk.holds_salt()
    assert desk.entries()[2]["type"] == ERASED


def test_a_stranger_to_the_tenants_key_writes_nothing_in_its_name(desk: Desk) -> None:
    """Its own event is recorded only where it verifies; audit's will do."""
    (desk.home.keys / "events/acme.pub").write_bytes(b"")
    desk.run("erase", "--job", desk.job)
    assert not desk.holds_salt()
    assert [entry["type"] for entry in desk.entries()][2:] == [ERASED]


def test_a_job_that_nobody_knows(desk: Desk) -> None:
    """One line, and nothing is recorded."""
    _, said = desk.run("erase", "--job", "no-such-job", code=1)
    assert "no such job" in said
    assert len(desk.entries()) == 2


@pytest.fixture
def door(desk: Desk) -> Iterator[str]:
    """Return where the desk's door is served."""
    server = make_server("127.0.0.1", 0, desk.house.door.application)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_door_erases_where_the_store_is_elsewhere(
    desk: Desk, door: str, tmp_path: Path
) -> None:
    """As `DELETE` does; a job that the door does not know is said to be missed."""
    token = tmp_path / "token"
    token.write_text("acme\n")
    where = ("--url", door, "--token-file", token)
    desk.run("erase", "--job", desk.job, *where)
    assert not desk.holds_salt()
    assert desk.hits() == []
    with closing(desk.log()) as log:
        event = events.Event(
            id="x",
            source=events.swap_source("acme"),
            type=events.SWAP_STARTED,
            time=events.now(),
            tenant="acme",
            data={"job": "elsewhere"},
        )
        log.append(event)
    _, said = desk.run("erase", "--job", "elsewhere", *where, code=1)
    assert "the door knows no such job" in said
    token.write_text("")
    _, said = desk.run("erase", "--job", desk.job, *where, code=1)
    assert "not reached" not in said
