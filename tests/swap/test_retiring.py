"""A failed job that runs again in the moment of retention: its images, or a no."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from functions.problems import Gone, Problem, Unavailable
from functions.settings import Limits
from functions.swap import ledger, records, retention, retiring
from functions.swap.dispatch import requested
from functions.tenant import OUTBOX, RETIRING, UPLOADS, Key
from tests.swap.aging import DAY_SECONDS, AgingStore
from tests.swap.house import ACME, GOOD, SWAP, House, multipart, picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.storage import Page

KINDS = pytest.mark.parametrize("kind", ["came along", "uploaded"])


class Hooked(AgingStore):
    """A store in which something else happens just before a call."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks: dict[tuple[str, str], Callable[[], None]] = {}

    def on(self, name: str, prefix: str, hook: Callable[[], None]) -> None:
        """Do `hook` before the next call of `name` on a key that begins so."""
        self.hooks[name, prefix] = hook

    def _before(self, called: str, key: str) -> None:
        for name, prefix in tuple(self.hooks):
            if name == called and key.startswith(prefix):
                self.hooks.pop((name, prefix))()

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""
        self._before("delete", key)
        super().delete(key)

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`."""
        self._before("delete", key)
        super().delete_if_match(key, generation)

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        self._before("list", prefix)
        return super().list(prefix, cursor=cursor, limit=limit)


def explode() -> None:
    raise RuntimeError


def failed(kind: str) -> tuple[House, Hooked, str]:
    """Return a house with a job that failed so long ago that it is due."""
    store = Hooked()
    house = House(Limits(), opener=lambda _: store)
    house.engine.fault = explode
    if kind == "uploaded":
        for name in ("a.png", "b.png"):
            house.put(name, picture())
        answer = house.post(SWAP, Prefer="respond-async")
    else:
        answer = house.door.post(
            "/v1/swaps",
            data=multipart(GOOD, source=picture(), target=picture()),
            headers={"Authorization": "Bearer acme", "Prefer": "respond-async"},
        )
    job = str(answer.json["job"])  # type: ignore[index]
    for _ in range(3):
        house.send(requested(job, house.books))
    house.engine.fault = lambda: None
    store.age(Key(""), 31 * DAY_SECONDS)
    return house, store, job


def inputs(store: AgingStore) -> list[str]:
    return [info.key for info in store.list(UPLOADS).objects]


@KINDS
@pytest.mark.parametrize(
    ("call", "prefix"),
    [
        ("list", OUTBOX),
        ("list", "jobs/"),
        ("list", UPLOADS),
        ("delete", UPLOADS),
        ("delete", "jobs/"),
        ("delete", RETIRING),
    ],
)
def test_a_retry_during_retention_has_its_images_or_is_refused(
    kind: str, call: str, prefix: str
) -> None:
    """Whenever it comes: never accepted with the images then taken from under it."""
    house, store, job = failed(kind)
    said: list[str | Problem] = []

    def retry() -> None:
        try:
            said.append(records.retry(job, house.books).job)
        except Problem as problem:
            said.append(problem)

    thread = threading.Thread(target=retry)

    def begin() -> None:
        thread.start()
        thread.join(0.3)  # as far as it gets

    store.on(call, prefix, begin)
    retention.apply(house.books)
    thread.join()
    [answer] = said
    if isinstance(answer, Problem):
        assert isinstance(answer, Gone)
        ending = ledger.record(ACME, f"{job}-r1", store)
        assert ending is None or ending.outcome == ledger.REFUSED
    elif answer == job:  # too late: what it delivered is that the job is no more
        found = ledger.record(ACME, job, store)
        assert found is not None
        assert found.expired
    else:
        assert len(inputs(store)) == 2
        assert house.send(requested(answer, house.books)).status_code == 204
        ending = ledger.record(ACME, answer, store)
        assert ending is not None
        assert ending.outcome == ledger.COMPLETED


def test_a_look_that_was_killed_keeps_nobody_waiting_for_long() -> None:
    """What it announced is taken for over, and a later look takes it away."""
    house, store, job = failed("uploaded")
    store.put(Key(f"{RETIRING}somebody"), b"-")
    with pytest.raises(Unavailable):
        retiring.wait(store, seconds_max=0.1)
    store.age(RETIRING, 2 * 3600)
    retiring.wait(store, seconds_max=0.1)
    assert records.retry(job, house.books).job == f"{job}-r1"
    retention.apply(house.books)
    assert not store.list(RETIRING).objects


def test_an_announcement_that_stays_is_no_reason_to_fail() -> None:
    """The look is done; in an hour it counts for nothing."""
    house, store, _ = failed("uploaded")

    def away() -> None:
        raise Unavailable

    store.on("delete", RETIRING, away)
    assert retention.apply(house.books).uploads == 2
    assert store.list(RETIRING).objects
