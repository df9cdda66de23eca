"""A store whose objects can be made older than they are, and jobs that lie in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from functions.settings import Limits
from functions.storage.memory import MemoryStore
from functions.swap import ledger
from functions.swap.dispatch import requested
from functions.tenant import OUTBOX
from tests.swap.house import ACME, SWAP, House, picture

if TYPE_CHECKING:
    from functions.storage import Info, Page
    from functions.swap.ledger import Record
    from functions.tenant import Key

DAY_SECONDS = 86_400


class AgingStore(MemoryStore):
    """A `MemoryStore` in which time can pass for what lies in it.

    `ahead_seconds` is how far its own clock is ahead of ours.
    """

    def __init__(self, ahead_seconds: float = 0) -> None:
        super().__init__()
        self.ahead_seconds = ahead_seconds
        self._aged: dict[tuple[Key, int], float] = {}

    def age(self, prefix: Key, seconds: float) -> None:
        """Make all under `prefix` older than it is."""
        for info in super().list(prefix, limit=1_000_000).objects:
            name = (info.key, info.generation)
            self._aged[name] = self._aged.get(name, 0) + seconds

    def head(self, key: Key) -> Info:
        """Return what is known of the object, as old as it has been made."""
        return self._seen(super().head(key))

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        page = super().list(prefix, cursor=cursor, limit=limit)
        return replace(page, objects=tuple(map(self._seen, page.objects)))

    def _seen(self, info: Info) -> Info:
        aged = self._aged.get((info.key, info.generation), 0)
        return replace(info, updated=info.updated + self.ahead_seconds - aged)


def aged(**limits: int) -> tuple[House, AgingStore]:
    """Return a house, and its store, whose objects can be made older."""
    store = AgingStore()
    house = House(Limits(**limits), opener=lambda _: store)
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house, store


def begun(house: House) -> str:
    """Return a job that is accepted and that nobody has started."""
    answer = house.post(SWAP, Prefer="respond-async")
    house.sink.taken.clear()
    return str(answer.json["job"])  # type: ignore[index]


def done(house: House) -> str:
    return str(house.post(SWAP).json["job"])  # type: ignore[index]


def ended(house: House, job: str) -> Record:
    record = ledger.record(ACME, job, house.store)
    assert record is not None
    return record


def marks(house: House) -> list[str]:
    return [info.key for info in house.store.list(OUTBOX).objects]


def die_holding(house: House, job: str) -> None:
    ledger.claim(
        ACME,
        job,
        store=house.store,
        limits=house.limits,
        start=lambda n: requested(job, house.books, str(n)),
    )
