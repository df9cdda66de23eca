"""One broker for many tenants, who come and go while it runs."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from functions.local import manifests
from functions.local.broker import Broker
from functions.local.queue import Queue
from functions.local.shares import SERVICE_AT_ONCE_MAX
from functions.problems import InvalidRequest, NotFound, Unavailable
from tests.local.rig import until
from tests.local.subscriber import DONE, drained, event, subscriber, trigger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.events import Event
    from functions.local.manifests import Trigger
    from tests.local.subscriber import Reply


def brokers(*tenants: str) -> list[manifests.Broker]:
    return [manifests.Broker(f"guise-{each}", "default") for each in tenants]


def triggers(*tenants: str) -> list[Trigger]:
    return [replace(trigger(), namespace=f"guise-{each}") for each in tenants]


@contextmanager
def serving(folder: Path, url: str, *tenants: str, held: str = "") -> Iterator[Broker]:
    queue = Queue(folder / "broker.db")
    made = Broker(
        queue,
        brokers=brokers(*tenants),
        triggers=triggers(*tenants),
        address=lambda _: url,
        held=[held] if held else [],
    )
    made.start()
    try:
        yield made
    finally:
        made.stop()
        queue.close()


def slowly(_: Event) -> Reply:
    time.sleep(0.01)
    return DONE


def test_a_greedy_tenant_keeps_no_other_waiting(tmp_path: Path) -> None:
    """5,000 events of one tenant: another's goes out as if there were none."""
    queue = Queue(tmp_path / "broker.db")
    queue._database.execute("PRAGMA synchronous = OFF")  # a disk's patience, not ours
    for number in range(5_000):
        queue.put(event(number, tenant="greedy"), ["guise-greedy/all"])
    queue.close()
    with (
        subscriber(slowly) as taker,
        serving(tmp_path, taker.url, "greedy", "modest") as made,
    ):
        until(lambda: len(taker.seen) > SERVICE_AT_ONCE_MAX)
        made.publish(event(1, tenant="modest"), namespace="guise-modest")
        before = len(taker.seen)
        until(lambda: "modest" in {each.tenant for each in taker.seen})
        [place] = [n for n, e in enumerate(taker.seen) if e.tenant == "modest"]
        made.pause()
    assert place - before < 8 * SERVICE_AT_ONCE_MAX  # of 5,000, on a busy machine
    assert taker.at_once_most <= SERVICE_AT_ONCE_MAX


class InTurn:
    """Answers nobody until it is told to, and then who came first."""

    def __init__(self) -> None:
        self.came: list[threading.Event] = []
        self.over = False

    def __call__(self, _: Event) -> Reply:
        mine = threading.Event()
        self.came.append(mine)
        if not self.over:
            mine.wait(60)
        return DONE

    def answer(self, number: int, among: int) -> None:
        """Answer whoever came as that number, once so many have come."""
        until(lambda: len(self.came) >= among)
        self.came[number].set()

    def end(self) -> None:
        """Answer everybody, whoever comes yet among them."""
        self.over = True
        for each in self.came:
            each.set()


def test_many_greedy_tenants_have_equal_turns(tmp_path: Path) -> None:
    """More tenants than places: whose place gets free, the others come before it."""
    names = [f"t{number}" for number in range(20)]
    queue = Queue(tmp_path / "broker.db")
    for each in names:
        for number in range(10):
            queue.put(event(number, tenant=each), [f"guise-{each}/all"])
    queue.close()
    turns = InTurn()
    with subscriber(turns) as taker, serving(tmp_path, taker.url, *names) as made:
        # However slow the machine is: one gets free once all the others are taken.
        for number in range(100 - SERVICE_AT_ONCE_MAX):
            turns.answer(number, number + SERVICE_AT_ONCE_MAX)
        until(lambda: len(taker.seen) == 100)
        turns.end()
        drained(made)
    first = [each.tenant for each in taker.seen[:100]]
    assert {each: first.count(each) for each in names} == dict.fromkeys(names, 5)


def test_a_greedy_tenant_does_not_fill_the_queue(tmp_path: Path) -> None:
    """It may take two thirds of what there is; the rest is for the others."""
    queue = Queue(tmp_path / "broker.db", events_max=9)
    both = ["guise-greedy/one", "guise-greedy/two"]
    for number in range(6):
        queue.put(event(number), both)
    with pytest.raises(Unavailable):
        queue.put(event(7), both)
    assert queue.depth() == {"guise-greedy/one": 6, "guise-greedy/two": 6}
    queue.put(event(10), ["guise-modest/all"])
    queue.close()
    again = Queue(tmp_path / "broker.db", events_max=9)  # counted anew
    with pytest.raises(Unavailable):
        again.put(event(11), ["guise-greedy/one"])
    [owed] = again.due("guise-modest/all", 10)
    again.delivered(owed)
    again.put(event(12), ["guise-modest/all"])
    again.close()


def test_a_tenant_is_served_from_when_it_comes(tmp_path: Path) -> None:
    """Before, its broker is not known; after, what is published is delivered."""
    with subscriber() as taker, serving(tmp_path, taker.url, "acme") as made:
        with pytest.raises(NotFound):
            made.publish(event(tenant="beta"), namespace="guise-beta")
        with pytest.raises(InvalidRequest):
            made.home_of(event(tenant="beta"))
        made.serve(brokers("acme", "beta"), triggers("acme", "beta"))
        assert made.home_of(event(tenant="beta")) == "guise-beta"
        made.publish(event(tenant="beta"), namespace="guise-beta")
        drained(made)
    assert [each.tenant for each in taker.seen] == ["beta"]


def test_what_is_owed_to_a_tenant_that_went(tmp_path: Path) -> None:
    """It is a dead letter, without a restart; what is under way is finished."""
    entered, release = threading.Event(), threading.Event()

    def wait(_: Event) -> Reply:
        entered.set()
        release.wait(10)
        return DONE

    with subscriber(wait) as taker, serving(tmp_path, taker.url, "acme") as made:
        for number in range(SERVICE_AT_ONCE_MAX):
            made.publish(event(number), namespace="guise-acme")
        entered.wait(10)
        until(lambda: made.under_way == 8)
        made.serve(brokers("beta"), triggers("beta"))
        until(lambda: made.queue.dead_count() == SERVICE_AT_ONCE_MAX - 8)
        release.set()
        drained(made)
        assert made.queue.dead_count() == SERVICE_AT_ONCE_MAX - 8
        [letter, *_] = made.queue.dead_letters()
    assert letter.reason == "there is no such Trigger any more"
    assert len(taker.seen) == 8


def test_what_is_held_waits(tmp_path: Path) -> None:
    """Events are taken and neither delivered nor given up, until it is let go."""
    with subscriber() as taker, serving(tmp_path, taker.url, "acme", "beta") as made:
        made.serve(brokers("acme", "beta"), triggers("acme", "beta"), ["guise-acme"])
        made.publish(event(1), namespace="guise-acme")
        made.publish(event(2, tenant="beta"), namespace="guise-beta")
        until(lambda: taker.seen)
        time.sleep(0.1)
        assert [each.tenant for each in taker.seen] == ["beta"]
        assert made.depth()["guise-acme/all"] == 1
        made.serve(brokers("acme", "beta"), triggers("acme", "beta"))
        drained(made)
        assert made.queue.dead_count() == 0
    assert [each.id for each in taker.seen] == ["id-2", "id-1"]


def test_what_is_held_from_the_start_is_not_given_up(tmp_path: Path) -> None:
    """Its Triggers are not known then, and may be later."""
    queue = Queue(tmp_path / "broker.db")
    queue.put(event(), ["guise-beta/all"])
    queue.close()
    with (
        subscriber() as taker,
        serving(tmp_path, taker.url, "acme", held="guise-beta") as made,
    ):
        time.sleep(0.1)
        assert made.queue.dead_count() == 0
        made.serve(brokers("acme", "beta"), triggers("acme", "beta"))
        drained(made)
    assert len(taker.seen) == 1
