"""The bucket watcher: every new object becomes one event, once."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from functions.local import manifests
from functions.local.broker import Broker
from functions.local.polling import ANNOUNCED_MAX, BucketUploads, BucketWatch
from functions.local.queue import Queue
from functions.problems import Unavailable
from functions.storage import Stores
from functions.storage.base import StoreDenied
from functions.storage.memory import MemoryStore
from functions.tenant import Key, Tenant
from tests.local.subscriber import HOME, trigger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.events import Event
    from functions.storage import Page

ACME, GLOBEX = Tenant("acme"), Tenant("globex")
WHOLE = b'{"operation": "swap"}'


class Long(MemoryStore):
    """Generations as long as S3's, a page of two at a time, and days it is denied."""

    denied = False
    listed = 0
    first = 2**255

    def put(self, key: Key, data: bytes) -> int:
        self._generation = max(self._generation, self.first)
        return super().put(key, data)

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        self.listed += 1
        if self.denied:
            raise StoreDenied
        return super().list(prefix, cursor=cursor, limit=min(limit, 2))


class Post:
    """Two tenants' stores in one bucket, their watch, and what came of it."""

    def __init__(self, root: Path, stores: Stores) -> None:
        self.queue = Queue(root / "broker.db")
        self.broker = Broker(
            self.queue,
            brokers=[manifests.Broker(HOME, "default")],
            triggers=[trigger()],
            address=lambda _: "",
        )
        self.watch = BucketWatch(ACME, stores, self.broker)

    def events(self) -> list[Event]:
        return [owed.event() for owed in self.queue.due(f"{HOME}/all", 1000)]

    def names(self) -> list[str]:
        """Look, and return the names of all that was announced."""
        self.watch.look()
        return [str(event.data["name"]) for event in self.events()]


@pytest.fixture
def stores() -> Stores:
    return Stores("s3://shared/eu/{tenant}", opener=lambda _: Long())


@contextmanager
def post(root: Path, stores: Stores) -> Iterator[Post]:
    made = Post(root, stores)
    try:
        yield made
    finally:
        made.queue.close()


def test_a_new_object_is_announced_once(tmp_path: Path, stores: Stores) -> None:
    """By the name it has in the bucket, so that its tenant can be told."""
    with post(tmp_path, stores) as made:
        generation = stores.of(ACME).put(ACME.request("j"), WHOLE)
        for _ in range(3):
            assert made.names() == ["eu/acme/requests/j.json"]
        [event] = made.events()
    assert event.data["bucket"] == "shared"
    assert event.data["generation"] == str(generation)
    assert event.data["size"] == str(len(WHOLE))
    assert stores.locate("shared", "eu/acme/requests/j.json")[0] == ACME


def test_a_short_generation_is_noted_as_it_is(tmp_path: Path, stores: Stores) -> None:
    """Google's fit into the queue, and can be read there."""
    acme = stores.of(ACME)
    assert isinstance(acme, Long)
    acme.first = 41
    with post(tmp_path, stores) as made:
        acme.put(ACME.request("j"), WHOLE)
        made.names()
        noted = made.queue.generations("shared/eu/acme/")
    assert noted == {"requests/j.json": 42}


def test_only_requests_are_announced(tmp_path: Path, stores: Stores) -> None:
    """Neither inputs, nor results, nor another tenant's."""
    with post(tmp_path, stores) as made:
        for name in ("uploads/a.png", "results/j/job.json", "outbox/j"):
            stores.of(ACME).put(Key(name), b"")
        stores.of(GLOBEX).put(GLOBEX.request("j"), WHOLE)
        assert made.names() == []


def test_all_pages_are_looked_at(tmp_path: Path, stores: Stores) -> None:
    """However many there are."""
    with post(tmp_path, stores) as made:
        for number in range(7):
            stores.of(ACME).put(ACME.request(f"j{number}"), WHOLE)
        assert len(made.names()) == len(made.names()) == 7


def test_an_object_written_over_is_another_event(
    tmp_path: Path, stores: Stores
) -> None:
    """And so is one that was deleted and came back."""
    key = ACME.request("j")
    with post(tmp_path, stores) as made:
        stores.of(ACME).put(key, WHOLE)
        made.names()
        stores.of(ACME).put(key, WHOLE + b" ")
        assert len(made.names()) == 2
        stores.of(ACME).delete(key)
        made.names()
        stores.of(ACME).put(key, WHOLE)
        assert len(made.names()) == 3
        assert len({event.id for event in made.events()}) == 3


def test_over_restarts_an_object_is_announced_once(
    tmp_path: Path, stores: Stores
) -> None:
    """What was seen is noted with the event, in one transaction."""
    stores.of(ACME).put(ACME.request("j"), WHOLE)
    with post(tmp_path, stores) as made:
        made.names()
    with post(tmp_path, stores) as again:
        assert len(again.names()) == 1


def test_a_tenant_forgets_nothing_of_anothers(tmp_path: Path, stores: Stores) -> None:
    """They share the bucket, and what was seen there is of a prefix each."""
    stores.of(ACME).put(ACME.request("j"), WHOLE)
    with post(tmp_path, stores) as made:
        made.names()
        BucketWatch(GLOBEX, stores, made.broker).look()
    with post(tmp_path, stores) as again:
        assert len(again.names()) == 1


def test_what_no_broker_takes_is_said_once(
    tmp_path: Path, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """To look again would not help."""
    stores.of(GLOBEX).put(GLOBEX.request("j"), WHOLE)
    with post(tmp_path, stores) as made:
        other = BucketWatch(GLOBEX, stores, made.broker)
        for _ in range(3):
            other.look()
    assert caplog.text.count("'requests/j.json' of globex cannot be announced") == 1


def test_what_the_queue_cannot_take_is_announced_later(
    tmp_path: Path, stores: Stores
) -> None:
    """Nothing is noted as seen that did not become an event."""
    stores.of(ACME).put(ACME.request("j"), WHOLE)
    with post(tmp_path, stores) as made:
        made.queue._events_max = 0
        made.watch.look()
        with pytest.raises(Unavailable):
            made.broker.publish(event_of(tmp_path, stores), namespace=HOME)
        made.queue._events_max = 1000
        made.watch._not_before = 0
        assert len(made.names()) == 1


def event_of(root: Path, stores: Stores) -> Event:
    (root / "other").mkdir()
    with post(root / "other", stores) as other:
        other.names()
        return other.events()[0]


def test_a_store_that_fails_is_left_alone_for_a_while(
    tmp_path: Path, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once and in a line, and the other tenants have their turn."""
    acme, globex = stores.of(ACME), stores.of(GLOBEX)
    assert isinstance(acme, Long)
    assert isinstance(globex, Long)
    acme.denied = True
    with post(tmp_path, stores) as made:
        uploads = BucketUploads(stores, [ACME, GLOBEX], made.broker)
        for _ in range(3):
            uploads.look()
    assert (acme.listed, globex.listed) == (1, 3)
    (record,) = caplog.records
    assert "the uploads of acme cannot be taken" in record.message
    assert record.exc_info is None


def test_tenants_come_and_go(tmp_path: Path, stores: Stores) -> None:
    """Who stays is not told anew of what was announced; who has gone is not listed."""
    acme, globex = stores.of(ACME), stores.of(GLOBEX)
    assert isinstance(acme, Long)
    assert isinstance(globex, Long)
    acme.put(ACME.request("j"), WHOLE)
    with post(tmp_path, stores) as made:
        uploads = BucketUploads(stores, [ACME], made.broker)
        uploads.look()
        uploads.serve([ACME, GLOBEX])
        uploads.look()
        uploads.serve([GLOBEX])
        uploads.look()
        assert len(made.events()) == 1
        uploads.close()
    assert (acme.listed, globex.listed) == (2, 2)


def test_attack_one_tenants_many_objects(tmp_path: Path) -> None:
    """They are announced a few at a look, and all of them in the end."""
    stores = Stores("s3://shared/eu/{tenant}", opener=lambda _: MemoryStore())
    many = 2 * ANNOUNCED_MAX
    for number in range(many):
        stores.of(ACME).put(ACME.request(f"job-{number}"), WHOLE)
    with post(tmp_path, stores) as made:
        for expected in (ANNOUNCED_MAX, many, many):
            made.watch.look()
            assert len(made.events()) == expected


def test_attack_a_store_that_never_answers(tmp_path: Path) -> None:
    """It is asked once, and the others are looked at every second meanwhile."""
    release = threading.Event()

    class Hanging(MemoryStore):
        asked = 0

        def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
            self.asked += 1
            release.wait(10)
            return super().list(prefix, cursor=cursor, limit=limit)

    hanging, other = Hanging(), Long()
    found = {"eu/acme": hanging, "eu/globex": other}
    stores = Stores("s3://shared/eu/{tenant}", opener=lambda url: found[url[12:]])
    with post(tmp_path, stores) as made:
        uploads = BucketUploads(stores, [ACME, GLOBEX], made.broker)
        uploads.look()
        uploads.look()
        assert (hanging.asked, other.listed) == (1, 2)
        release.set()
        uploads.close()


def test_a_tenant_whose_store_may_not_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It alone is not looked at: its key is missing, say."""

    def opener(url: str) -> MemoryStore:
        if "acme" in url:
            raise StoreDenied(internal="no key")
        return MemoryStore()

    stores = Stores("s3://shared/eu/{tenant}", opener=opener)
    stores.of(GLOBEX).put(GLOBEX.request("j"), WHOLE)
    with post(tmp_path, stores) as made:
        uploads = BucketUploads(stores, [ACME, GLOBEX], made.broker)
        uploads.look()
        uploads.close()
    assert "the uploads of acme cannot be taken" in caplog.text
    assert (
        "'requests/j.json' of globex cannot be announced" in caplog.text
    )  # no broker of theirs
