"""The quota of stored bytes: the sweeper's signed word, and no call at the door."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.keys import MemoryKeys, events_key
from functions.problems import Unavailable
from functions.roster import EveryTenant, Quotas, Spec
from functions.storage.memory import MemoryStore
from functions.swap import holding, ledger
from functions.swap.sweeper import Sweeper
from functions.tenant import STORED, SWEPT, Key
from tests.swap.house import ACME, SWAP, House, picture

if TYPE_CHECKING:
    from functions.storage import Page
    from functions.swap.journal import Books
    from functions.tenant import Tenant

FULL = holding.GIB
TYPE = "urn:guise:problem:over-storage"


class Roomy(MemoryStore):
    """A store in which an object is as large as is said."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[Key, int] = {}
        self.lists = 0

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        self.lists += not prefix
        page = super().list(prefix, cursor=cursor, limit=limit)
        objects = (
            replace(info, size=self.sizes.get(info.key, info.size))
            for info in page.objects
        )
        return replace(page, objects=tuple(objects))


@dataclass
class Quota:
    """A roster in which everybody may store so many GiB."""

    gib: int | None = 1

    def spec(self, tenant: Tenant) -> Spec:
        return Spec(id=tenant.id, quotas=Quotas(storage_gib=self.gib))

    def all(self) -> tuple[Spec, ...]:
        return EveryTenant().all()


@dataclass
class Rented:
    """A house whose tenant has a quota, and what lies in its store."""

    house: House
    store: Roomy
    quota: Quota

    @property
    def books(self) -> Books:
        return replace(self.house.books, storage_gib=self.quota.gib)

    def fill(self, size: int) -> None:
        key = ACME.upload("uploads/large.jpg")
        self.store.put(key, b"large")
        self.store.sizes[key] = size

    def say(self, **changes: Any) -> None:
        """Leave another word than the sweeper's."""
        signer = changes.pop("signer", self.house.keys.signer(events_key("acme")))
        event = events.Event(
            **{
                "id": "w1",
                "source": events.swap_source("acme"),
                "type": holding.KIND,
                "time": events.now(),
                "tenant": "acme",
                "data": {"bytes": FULL, "objects": 1},
            }
            | changes
        )
        signed = events.as_dict(events.sign(event, signer))
        self.store.put(STORED, msgspec.json.encode({"event": signed}))


@pytest.fixture
def rented() -> Rented:
    store, quota = Roomy(), Quota()
    house = House(opener=lambda _: store, roster=quota)
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return Rented(house, store, quota)


def test_once_the_store_is_full_nothing_new_is_accepted(rented: Rented) -> None:
    """403 that says how full; on record; and over as soon as there is room."""
    assert rented.house.post(SWAP).status_code == 201
    rented.fill(FULL)
    assert rented.house.post(SWAP).status_code == 201  # nobody has counted yet
    Sweeper().run(rented.books)
    answer = rented.house.post(SWAP)
    assert answer.status_code == 403
    assert answer.get_json()["type"] == TYPE
    assert "1.0 of 1 GiB" in answer.get_json()["detail"]
    assert rented.house.sink.taken[-1].data["reason"] == TYPE
    rented.quota.gib = 2
    assert rented.house.post(SWAP).status_code == 201


def test_an_upload_into_a_full_store_ends_as_refused(rented: Rented) -> None:
    """The worker goes by the same word."""
    rented.fill(FULL)
    holding.look(rented.books)
    assert rented.house.upload("j1", SWAP).status_code == 204
    ending = ledger.record(ACME, "j1", rented.store)
    assert ending is not None
    assert ending.problem is not None
    assert (ending.outcome, ending.problem["type"]) == (ledger.REFUSED, TYPE)


def test_who_erases_something_is_let_in_again(rented: Rented) -> None:
    """A full store is counted once a minute, one with room once an hour."""
    rented.fill(FULL)
    old = events.rfc3339_of(int((time.time() - 61) * 1000))
    rented.say(time=old)
    assert holding.look(rented.books) is not None
    assert holding.look(rented.books) is None
    rented.say(time=old, data={"bytes": 5, "objects": 1})
    assert holding.look(rented.books) is None
    rented.fill(5)
    rented.say(time=old)
    held = holding.look(rented.books)
    assert held is not None
    assert held.bytes < FULL
    assert rented.house.post(SWAP).status_code == 201


def test_a_word_from_tomorrow_is_not_waited_for(rented: Rented) -> None:
    """A clock that was set back keeps nobody out, nor in."""
    rented.say(time=events.rfc3339_of(int((time.time() + 86_400) * 1000)))
    assert holding.look(rented.books) is not None


def test_without_a_quota_nothing_is_counted(rented: Rented) -> None:
    """Nor is any word of before heeded."""
    rented.say()
    rented.quota.gib = None
    Sweeper().run(rented.books)
    assert rented.store.lists == 0
    assert rented.house.post(SWAP).status_code == 201


@pytest.mark.parametrize(
    "word",
    [
        b"",
        b"{}",
        b'{"event": {}}',
        b'{"event": {"id": "a", "source": "b", "type": "c", "specversion": "1.0"}}',
        b" " * 70_000,
    ],
)
def test_attack_a_word_that_is_none_of_ours(rented: Rented, word: bytes) -> None:
    """It lets nothing in and ends no job, until the sweeper has counted anew."""
    rented.store.put(STORED, word)
    assert rented.house.post(SWAP).status_code == 503
    assert holding.look(rented.books) is not None
    assert rented.house.post(SWAP).status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"signer": MemoryKeys().signer("events/acme")},
        {"tenant": "beta"},
        {"type": "dev.guise.swap.erased.v1"},
        {"data": {"bytes": "none", "objects": 0}},
        {"data": {}},
    ],
)
def test_attack_a_forged_word_of_an_empty_store(
    rented: Rented, changes: dict[str, Any]
) -> None:
    """Whoever may write into the bucket, and has no key, lets nobody in."""
    rented.say(**({"data": {"bytes": 0, "objects": 0}} | changes))
    assert rented.house.post(SWAP).status_code == 503


class Away(Roomy):
    """A store that cannot be listed."""

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        if not prefix:
            raise Unavailable(internal="away")
        return super().list(prefix, cursor=cursor, limit=limit)


def test_a_store_that_cannot_be_counted_is_swept_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The fault is in the log, and the other work is done."""
    store = Away()
    house = House(opener=lambda _: store)
    Sweeper().run(replace(house.books, storage_gib=1))
    assert "counting what acme has stored" in caplog.text
    assert store.head(SWEPT).size  # what comes after counting
