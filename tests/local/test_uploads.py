"""The upload watcher: every finished file becomes one event, once."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import pytest

from functions.local import manifests
from functions.local.broker import Broker
from functions.local.filters import parse_all
from functions.local.queue import Queue
from functions.local.timers import Timer
from functions.local.uploads import (
    HASHED_BYTES_MAX,
    LOOK_SECONDS,
    TAKEN_MAX,
    Uploads,
    Watch,
)
from functions.problems import Unavailable
from functions.storage.file import FileStore
from functions.tenant import Tenant
from tests.local.rig import until
from tests.local.subscriber import HOME, trigger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.events import Event

WHOLE = b'{"operation": "swap"}'


class Shelf:
    """A tenant's folder, its watch, and the events that came of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests = root / "acme" / "requests"
        self.requests.mkdir(parents=True, exist_ok=True)
        self.queue = Queue(root / "broker.db")
        self.broker = Broker(
            self.queue,
            brokers=[manifests.Broker(HOME, "default")],
            triggers=[trigger()],
            address=lambda _: "",
        )
        self.watch = Watch(root / "acme", "acme", self.broker)

    def events(self) -> list[Event]:
        return [owed.event() for owed in self.queue.due(f"{HOME}/all", 1000)]

    def names(self) -> list[str]:
        return [event.subject.rpartition("/")[2] for event in self.events()]

    def look(self, seconds: float = 0.15) -> list[str]:
        """Look as a timer would for a while, and return what is owed then."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.watch.look()
            time.sleep(0.01)
        return self.names()


@contextmanager
def shelf(root: Path) -> Iterator[Shelf]:
    made = Shelf(root)
    try:
        yield made
    finally:
        made.queue.close()


def test_a_new_request_is_announced_once(tmp_path: Path) -> None:
    """One event for one file, however often we look."""
    with shelf(tmp_path) as made:
        (made.requests / "job-1.json").write_bytes(WHOLE)
        assert made.look(0.3) == ["job-1.json"]
        [event] = made.events()
    assert event.subject == "objects/requests/job-1.json"
    assert event.data["size"] == str(len(WHOLE))
    assert event.data["md5Hash"]


def test_the_generation_is_the_stores(tmp_path: Path) -> None:
    """What the event names is what a function reads from the store."""
    with shelf(tmp_path) as made:
        store = FileStore(tmp_path / "acme")
        generation = store.put(Tenant("acme").request("job-1"), WHOLE)
        made.look()
        [event] = made.events()
    assert event.data["generation"] == str(generation)


def test_a_file_written_over_is_another_event(tmp_path: Path) -> None:
    """By rename it is seen at once, in place within two seconds."""
    with shelf(tmp_path) as made:
        path = made.requests / "job-1.json"
        path.write_bytes(WHOLE)
        made.look()
        store = FileStore(tmp_path / "acme")
        store.put(Tenant("acme").request("job-1"), WHOLE + b" ")
        made.look()
        assert len(made.events()) == 2
        path.write_bytes(WHOLE + b"  ")
        until(lambda: len(made.look(0.05)) == 3, 5)
        assert len({event.id for event in made.events()}) == 3


def test_over_restarts_a_file_is_announced_once(tmp_path: Path) -> None:
    """What was seen is noted with the event, in one transaction."""
    with shelf(tmp_path) as made:
        (made.requests / "job-1.json").write_bytes(WHOLE)
        made.look()
    with shelf(tmp_path) as again:
        assert again.look() == ["job-1.json"]


def test_files_that_came_while_nothing_ran(tmp_path: Path) -> None:
    """They are found at the next start."""
    with shelf(tmp_path):
        pass
    for number in range(3):
        (tmp_path / "acme" / "requests" / f"job-{number}.json").write_bytes(WHOLE)
    with shelf(tmp_path) as made:
        assert sorted(made.look()) == ["job-0.json", "job-1.json", "job-2.json"]


def test_half_a_request_does_not_fire(tmp_path: Path) -> None:
    """A writer that pauses in the middle is waited for; the whole fires at once."""
    with shelf(tmp_path) as made, (made.requests / "job-1.json").open("wb") as file:
        for part in (WHOLE[:5], WHOLE[5:12]):
            file.write(part)
            file.flush()
            assert made.look(0.3) == []
        file.write(WHOLE[12:])
        file.flush()
        assert made.look() == ["job-1.json"]


def test_what_is_never_whole_fires_when_it_has_settled(tmp_path: Path) -> None:
    """The worker refuses it, on record; we only announce."""
    with shelf(tmp_path) as made:
        (made.requests / "bad.json").write_bytes(b"{")
        (made.requests / "list.json").write_bytes(b"[]")
        (made.requests / "empty.json").touch()
        assert made.look(0.3) == []
        assert sorted(made.look(0.5)) == ["bad.json", "empty.json", "list.json"]


def test_attack_a_request_larger_than_any(tmp_path: Path) -> None:
    """It is announced without digests, and not read."""
    with shelf(tmp_path) as made:
        with (made.requests / "big.json").open("wb") as file:
            file.truncate(HASHED_BYTES_MAX + 1)
        assert made.look(0.8) == ["big.json"]
        [event] = made.events()
    assert "md5Hash" not in event.data


def test_what_is_no_upload(tmp_path: Path) -> None:
    """Hidden and unfinished names, folders, links and pipes are left alone."""
    with shelf(tmp_path) as made:
        for name in (".hidden.json", "job.json.tmp", "job.json.part", "job.json~"):
            (made.requests / name).write_bytes(WHOLE)
        (made.requests / "folder.json").mkdir()
        (made.root / "elsewhere.json").write_bytes(WHOLE)
        (made.requests / "link.json").symlink_to(made.root / "elsewhere.json")
        os.mkfifo(made.requests / "pipe.json")
        (made.requests / os.fsdecode(b"\xff.json")).write_bytes(WHOLE)
        assert made.look(0.7) == []


def test_a_result_wakes_nothing(tmp_path: Path) -> None:
    """Only `requests/` is watched: not results, not uploads, not jobs."""
    with shelf(tmp_path) as made:
        store = FileStore(tmp_path / "acme")
        tenant = Tenant("acme")
        store.put(tenant.record("job-1"), WHOLE)
        store.put(tenant.pinned("job-1"), WHOLE)
        store.put(tenant.upload("uploads/a.json"), WHOLE)
        assert made.look(0.3) == []


def test_a_name_that_no_event_can_carry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, on one line; the others are announced, and it by another."""
    with shelf(tmp_path) as made:
        (made.requests / "a\nb.json").write_bytes(WHOLE)
        (made.requests / "job-1.json").write_bytes(WHOLE)
        assert made.look(0.3) == ["job-1.json"]
        (made.requests / "a\nb.json").rename(made.requests / "a-b.json")
        assert "a-b.json" in made.look(0.7)
    [said] = [each for each in caplog.messages if "cannot be announced" in each]
    assert said.startswith(r"'requests/a\nb.json' of acme cannot be announced: ")
    assert "\n" not in said


def test_a_file_that_goes_away_is_forgotten(tmp_path: Path) -> None:
    """What is remembered is what is there, so it has a bound."""
    with shelf(tmp_path) as made:
        path = made.requests / "job-1.json"
        path.write_bytes(WHOLE)
        (made.requests / "half.json").write_bytes(b"{")
        made.look()
        assert made.queue.generations("acme") != {}
        path.unlink()
        (made.requests / "half.json").unlink()
        made.look()
        assert made.queue.generations("acme") == {}
        assert made.watch._unfinished == {}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A tenant without requests has none; once made, it is watched."""
    with shelf(tmp_path) as made:
        made.requests.rmdir()
        assert made.look() == []
        made.requests.mkdir()
        (made.requests / "job-1.json").write_bytes(WHOLE)
        assert made.look() == ["job-1.json"]


def test_a_fault_is_logged_and_tried_again(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once every two seconds, not twenty times a second."""
    with shelf(tmp_path) as made:
        (made.requests / "job-1.json").write_bytes(WHOLE)
        made.watch._broker = Full()  # type: ignore[assignment]
        made.look(0.3)
        assert caplog.text.count("the uploads of acme cannot be taken") == 1
        made.watch._broker = made.broker
        until(lambda: made.look(0.05) == ["job-1.json"], 5)


class Full:
    """A broker that takes nothing."""

    def publish(self, event: Event, **_: object) -> None:
        raise Unavailable(internal="full")


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """What is announced is one state of the file, never a mixture."""
    with shelf(tmp_path) as made:
        path = made.requests / "job-1.json"
        path.write_bytes(WHOLE)
        made.watch = Scribbled(tmp_path / "acme", "acme", made.broker)
        assert made.look(0.4) == []
        made.watch = Watch(tmp_path / "acme", "acme", made.broker)
        assert made.look() == ["job-1.json"]


class Scribbled(Watch):
    """A watch under whose eyes the file changes with every reading."""

    def _read_open(self, file: BinaryIO, size: int) -> bytes | None:
        with (self._folder / "job-1.json").open("ab") as other:
            other.write(b" ")
        return super()._read_open(file, size)


@contextmanager
def shelves(root: Path) -> Iterator[tuple[Uploads, Queue]]:
    """Yield the watcher of tenants a and b, whose folders are made."""
    queue = Queue(root / "broker.db")
    broker = Broker(
        queue,
        brokers=[manifests.Broker(f"guise-{each}", "default") for each in "ab"],
        triggers=[trigger(passes=parse_all([]))],
        address=lambda _: "",
    )
    for each in "ab":
        (root / each / "requests").mkdir(parents=True)
    try:
        yield Uploads(root, ("a", "b"), broker), queue
    finally:
        queue.close()


def test_every_tenant_is_watched(tmp_path: Path) -> None:
    """Each bucket's events go to its own tenant's broker."""
    with shelves(tmp_path) as (uploads, queue):
        for each in "ab":
            (tmp_path / each / "requests" / "job.json").write_bytes(WHOLE)
        timer = Timer("uploads", LOOK_SECONDS, uploads.look)
        timer.start()
        until(lambda: queue.generations("a") and queue.generations("b"), 5)
        timer.stop()


@pytest.mark.parametrize("seconds", [-1, 0, 2**63 // 10**9 + 1, 2**34])
def test_attack_a_file_of_another_age(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    seconds: int,
) -> None:
    """A time that no event can name is logged once; every other file is announced."""
    with shelves(tmp_path) as (uploads, queue):
        bad = tmp_path / "a" / "requests" / "bad.json"
        for path in (bad, bad.with_name("job.json")):
            path.write_bytes(WHOLE)
        (tmp_path / "b" / "requests" / "job.json").write_bytes(WHOLE)
        os.utime(bad, (seconds, seconds))
        for _ in range(30):
            uploads.look()
            time.sleep(0.01)
        assert list(queue.generations("a")) == ["requests/job.json"]
        assert list(queue.generations("b")) == ["requests/job.json"]
    assert caplog.text.count("bad.json' of a cannot be announced: changed") == 1
    assert "write it anew, or by another name" in caplog.text
    assert "Traceback" not in caplog.text


class Broken:
    """A broker with a fault that nobody has foreseen."""

    def publish(self, event: Event, **_: object) -> None:
        raise ZeroDivisionError


def test_attack_a_fault_in_one_tenants_folder(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, though not at every look, and the next tenant is served."""
    with shelves(tmp_path) as (uploads, queue):
        uploads._watches["a"]._broker = Broken()  # type: ignore[assignment]
        for each in "ab":
            (tmp_path / each / "requests" / "job.json").write_bytes(WHOLE)
        for _ in range(30):
            uploads.look()
            time.sleep(0.01)
        assert queue.generations("b")
    assert caplog.text.count("the uploads of a cannot be taken") == 1


def test_attack_one_tenants_many_files(tmp_path: Path) -> None:
    """They are taken a few at a look, so another tenant's one file is not late."""
    with shelves(tmp_path) as (uploads, queue):
        many = 3 * TAKEN_MAX
        for number in range(many):
            path = tmp_path / "a" / "requests" / f"job-{number}.json"
            path.write_bytes(WHOLE.ljust(HASHED_BYTES_MAX))
        (tmp_path / "b" / "requests" / "job.json").write_bytes(WHOLE)
        time.sleep(0.1)  # a file just written is not looked into yet
        uploads.look()
        assert len(queue.generations("a")) == TAKEN_MAX
        assert len(queue.generations("b")) == 1
        uploads.look()
        uploads.look()
        assert len(queue.generations("a")) == many


def test_tenants_come_and_go(tmp_path: Path) -> None:
    """Who has gone is not looked at; who comes back is told of what came meanwhile."""
    with shelves(tmp_path) as (uploads, queue):
        uploads.serve(["a"])
        for each in "ab":
            (tmp_path / each / "requests" / "job.json").write_bytes(WHOLE)
        time.sleep(0.1)
        uploads.look()
        assert (len(queue.generations("a")), len(queue.generations("b"))) == (1, 0)
        uploads.serve(["a", "b"])
        uploads.look()
        assert len(queue.generations("b")) == 1
