"""Checkpoints and erasure statements in a second store: create-only, and never late."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from functions.audit import copies as copying
from functions.audit.app import create_app
from functions.audit.copies import Copies, check_witness, checkpoint_key, copy
from functions.audit.log import Log
from functions.audit.merkle import VerificationError
from functions.audit.tables import erasures
from functions.auth import jwks_document
from functions.keys import FileKeys, MemoryKeys
from functions.metrics import Metrics
from functions.problems import Unavailable
from functions.settings import Settings, SettingsError
from functions.sink import HttpAuditor
from functions.storage.file import FileStore
from functions.storage.memory import MemoryStore
from functions.tenant import Key
from tests.audit.house import BOTH, House, TokensByName
from tests.audit.shown import Shown, leaves
from tests.audit.test_audit_process import listening, serving, started, url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from functions.storage.base import Store

DATABASES = BOTH
NOTE = Shown(leaves(5)).checkpoint()


class Away(MemoryStore):
    """A second store that does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.Event()
        self.asked = threading.Semaphore(0)

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Fail, or write."""
        self.asked.release()
        if not self.here.is_set():
            raise Unavailable(internal="away")
        return super().put_if_absent(key, data)


class Copied:
    """A log whose checkpoints are copied into `objects`."""

    def __init__(self, url: str, objects: Store, pause_seconds: float = 0.02) -> None:
        self.objects = objects
        self.metrics = Metrics()
        self.copies = Copies(
            "memory:",
            self.metrics,
            opener=lambda _: objects,
            pause_seconds=pause_seconds,
        )
        keys = MemoryKeys()
        log = Log.at(url, keys, committed=self.copies.take)
        self.copies.start(lambda: log.store)
        app = create_app(log=log, keys=keys, authenticator=TokensByName())
        self.house = House(log, keys, app.test_client(), url)

    def append(self, name: str, tenant: str = "acme") -> str:
        """Append an event and return its receipt's checkpoint."""
        return self.house.log.append(
            self.house.event(name, tenant=tenant)
        ).receipt.checkpoint

    def close(self) -> None:
        """End as a process does."""
        self.copies.close()
        self.house.log.close()

    def has(self, name: str) -> bool:
        """Return whether there is a copy by this name."""
        return name in self.names()

    def names(self, prefix: str = "") -> list[str]:
        """Return what lies in the second store."""
        return [each.key for each in self.objects.list(Key(prefix)).objects]


@pytest.fixture
def copied(url: str) -> Iterator[Copied]:
    """Return a log and its second store."""
    made = Copied(url, MemoryStore())
    yield made
    made.close()


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def erase(house: House, job: str, at_ms: int, tenant: str = "acme") -> None:
    """Write a statement, as an erasure does."""
    row = {"tenant": tenant, "job": job, "at_ms": at_ms, "statement": f"{job} is gone"}
    with house.log.store.erasing(tenant) as db:
        db.execute(sa.insert(erasures), row)


def test_a_checkpoint_is_copied_under_its_tenant_epoch_and_size(copied: Copied) -> None:
    """Names sort as sizes do, and the content is the signed note."""
    note = copied.append("e0")
    copied.append("e0", "other")
    wait_until(lambda: len(copied.names()) == 2)
    assert copied.names() == [
        "checkpoints/acme/1/00000000000000000001",
        "checkpoints/other/1/00000000000000000001",
    ]
    assert copied.objects.get(checkpoint_key(note)).data == note.encode()
    assert 'outcome="written"} 2.0' in copied.metrics.text()


def test_what_comes_within_the_pause_is_one_copy(url: str) -> None:
    """A busy log costs one copy a pause; its end is copied as the process ends."""
    made = Copied(url, MemoryStore(), pause_seconds=60)
    made.append("first")
    wait_until(made.names)
    for each in range(5):
        note = made.append(f"e{each}")
    assert len(made.names()) == 1
    made.close()
    assert made.names()[1:] == [checkpoint_key(note)]


def test_a_second_store_that_is_away_delays_no_ack_and_is_tried_again(
    url: str,
) -> None:
    """Receipts, readiness and the next copies do not depend on it."""
    objects = Away()
    made = Copied(url, objects)
    for each in range(3):
        note = made.append(f"e{each}")
        assert objects.asked.acquire(timeout=10)
    assert made.house.client.get("/health/ready").status_code == 204
    assert made.names() == []
    objects.here.set()
    wait_until(made.names)
    assert made.names()[-1] == checkpoint_key(note)
    assert 'outcome="failed"' in made.metrics.text()
    made.close()


def test_what_comes_while_a_copy_fails_is_the_newer_one(house: House) -> None:
    """What is tried again is the last word, not what failed."""
    older, newer = (Shown(leaves(size)).checkpoint() for size in (1, 2))

    class Failing(MemoryStore):
        """Fails once, and hears of something newer at that moment."""

        told = False

        def put_if_absent(self, key: Key, data: bytes) -> int:
            if not self.told:
                self.told = True
                copies.take({"acme": newer})
                raise Unavailable(internal="away")
            return super().put_if_absent(key, data)

    objects = Failing()
    copies = Copies("memory:", Metrics(), opener=lambda _: objects, pause_seconds=0.02)
    copies.start(lambda: house.log.store)
    copies.take({"acme": older})
    wait_until(lambda: objects.list(Key("")).objects)
    copies.close()
    assert [each.key for each in objects.list(Key("")).objects] == [
        checkpoint_key(newer)
    ]


def test_a_second_store_that_stays_away_does_not_hold_up_the_end(url: str) -> None:
    """It is asked once more, and that is all."""
    objects = Away()
    made = Copied(url, objects, pause_seconds=60)
    made.append("e0")
    assert objects.asked.acquire(timeout=10)
    made.close()
    assert objects.asked.acquire(timeout=10)
    assert not objects.asked.acquire(blocking=False)


def test_an_end_with_nothing_to_copy_asks_for_nothing(url: str) -> None:
    """A process that was only read from leaves the second store alone."""
    made = Copied(url, Away())
    made.close()
    unstarted = Copies("memory:", Metrics())
    unstarted.close()


def test_attack_a_copy_that_says_something_else(
    url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It stays as it is, and is told at the top of our voice."""
    objects, key = MemoryStore(), Key(f"checkpoints/acme/1/{1:020d}")
    objects.put(key, b"another history")
    made = Copied(url, objects)
    made.append("e0")
    with caplog.at_level(logging.CRITICAL):
        wait_until(lambda: 'outcome="fork"} 1.0' in made.metrics.text())
    [record] = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert key in record.getMessage()
    assert objects.get(key).data == b"another history"
    made.close()


def test_a_copy_that_is_there_is_no_fork() -> None:
    """Two processes may both copy, and one may copy again after a crash."""
    objects, key = MemoryStore(), checkpoint_key(NOTE)
    assert [copy(objects, key, NOTE) for _ in range(2)] == ["written", "there"]
    assert copy(objects, key, NOTE + " ") == "fork"


def test_statements_are_copied_with_the_tenants_next_checkpoint(copied: Copied) -> None:
    """Those of the last day that nobody copied, and each new one once."""
    now = int(time.time() * 1000)
    erase(copied.house, "long-ago", now - 2 * copying.ERASED_AGAIN_MS)
    erase(copied.house, "before", now - 1000)
    erase(copied.house, "of-other", now - 1000, tenant="other")
    copied.append("e0")
    wait_until(lambda: copied.names("erasures/"))
    assert copied.names("erasures/") == ["erasures/acme/before"]
    found = list(copying.statements(copied.objects, "acme"))
    assert found == [("before", "before is gone")]
    for job in ("later", "latest"):
        copied.append(job)
        erase(copied.house, job, int(time.time() * 1000))
        wait_until(partial(copied.has, f"erasures/acme/{job}"))
    assert 'outcome="there"' not in copied.metrics.text()


def test_a_statement_written_after_its_entry_is_not_missed(url: str) -> None:
    """A tenant is looked at once more, a pause after its checkpoint was copied."""
    made = Copied(url, MemoryStore(), pause_seconds=0.5)
    made.append("e0")
    wait_until(made.names)
    erase(made.house, "job", int(time.time() * 1000))
    wait_until(lambda: "erasures/acme/job" in made.names())
    made.close()


def test_the_newest_copy_is_found_without_reading_them_all() -> None:
    """Whatever sizes there are, and whatever a stranger put beside them."""
    objects = MemoryStore()
    assert copying.newest(objects, "acme", 1) == -1
    assert list(copying.sizes(objects, "acme", 1)) == []
    wanted = [1, 2, 7, 256, 1000, 5_000_000_000]
    for size in wanted:
        objects.put(Key(f"checkpoints/acme/1/{size:020d}"), b"")
    for name in ("checkpoints/acme/1/zzz", f"checkpoints/acme/10/{9:020d}"):
        objects.put(Key(name), b"")
    assert copying.newest(objects, "acme", 1) == 5_000_000_000
    for size, before in zip(wanted[1:], wanted, strict=False):
        assert copying.newest(objects, "acme", 1, below=size) == before
    assert copying.newest(objects, "acme", 1, below=1) == -1
    assert list(copying.sizes(objects, "acme", 1)) == wanted
    assert list(copying.sizes(objects, "acme", 1, after=7)) == wanted[3:]
    assert copying.newest(objects, "acme", 10) == 9


def test_long_lists_are_read_to_their_end(tmp_path: Path) -> None:
    """A page is not the whole."""
    objects = MemoryStore()
    for size in range(1, 2_301):
        objects.put(Key(f"checkpoints/acme/1/{size:020d}"), b"")
        objects.put(Key(f"erasures/acme/job-{size}"), b"x")
    assert list(copying.sizes(objects, "acme", 1)) == list(range(1, 2_301))
    assert len(list(copying.statements(objects, "acme"))) == 2_300


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_epochs_are_listed_one_name_each(kind: str, tmp_path: Path) -> None:
    """Neither the number of copies nor a stranger's file matters."""
    objects: Store = MemoryStore() if kind == "memory" else FileStore(tmp_path / "w")
    assert copying.epochs(objects, "acme") == []
    for epoch in (1, 2, 9, 10, 11, 100):
        for size in (1, 5):
            objects.put(Key(f"checkpoints/acme/{epoch}/{size:020d}"), b"")
    for name in ("checkpoints/acme/0/x", "checkpoints/acme/x/y", "checkpoints/b/3/x"):
        objects.put(Key(name), b"")
    assert copying.epochs(objects, "acme") == [1, 2, 9, 10, 11, 100]


def test_a_note_of_no_log_has_no_place() -> None:
    """Nothing is written under a name that somebody made up."""
    with pytest.raises(VerificationError):
        checkpoint_key(NOTE.replace("acme", "../acme"))


@pytest.mark.parametrize("wrong", ["nonsense", "ftp://x/y", "s3://a@b"])
def test_a_second_store_that_is_none_is_found_at_the_start(wrong: str) -> None:
    """A typing mistake must not look like a store that is away."""
    with pytest.raises(SettingsError, match="GUISE_WITNESS"):
        check_witness(wrong)


def test_the_setting_makes_the_function_copy(tmp_path: Path) -> None:
    """GUISE_WITNESS is all it takes."""
    url = f"sqlite:///{tmp_path}/audit.db"
    keys = MemoryKeys()
    settings = Settings.from_env(
        {"GUISE_DATABASE": url, "GUISE_WITNESS": f"file://{tmp_path}/witness"}
    )
    app = create_app(settings, keys=keys, authenticator=TokensByName())
    house = House(None, keys, app.test_client(), url)  # type: ignore[arg-type]  # its own
    assert house.post(house.event()).status_code == 200
    folder = tmp_path / "witness" / "checkpoints" / "acme" / "1"
    wait_until(lambda: folder.is_dir() and list(folder.iterdir()))
    wait_until(lambda: "written" in house.client.get("/metrics").text)


def deployed(folder: Path) -> FileKeys:
    """Return the keys of a deployment: audit's own, a tenant's, the issuer's."""
    made = FileKeys(folder / "keys")
    made.create("audit")
    made.create("events/acme")
    document = jwks_document(made.create("tokens"))
    (folder / "jwks.json").write_text(json.dumps(document))
    return made


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_ending_process_leaves_its_last_checkpoint_or_the_next_one_does(
    how: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGTERM copies once more; after kill -9 the next batch's copy covers it."""
    keys = deployed(tmp_path)
    monkeypatch.setenv("GUISE_WITNESS", f"file://{tmp_path}/witness")
    folder = tmp_path / "witness" / "checkpoints" / "acme" / "1"
    with listening() as listener:
        auditor = HttpAuditor(url_of(listener))
        with serving(listener, tmp_path) as process:
            auditor.receipt(started(keys, "first"), timeout=30)
            wait_until(lambda: folder.is_dir() and list(folder.iterdir()))
            # Within the pause after the first copy.
            auditor.receipt(started(keys, "second"), timeout=30)
            os.killpg(process.pid, how)
            process.wait(timeout=30)
        if how == signal.SIGTERM:
            assert (folder / f"{2:020d}").is_file()
            return
        with serving(listener, tmp_path):
            auditor.receipt(started(keys, "third"), timeout=30)
            wait_until((folder / f"{3:020d}").is_file)
