"""Timers: again and again, whatever happens."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.billing import storing
from functions.local import manifests
from functions.local.manifests import Ping
from functions.local.timers import Pings, Timer
from tests.local.rig import until
from tests.local.subscriber import HOME, broker, subscriber, trigger

if TYPE_CHECKING:
    from pathlib import Path


def test_work_is_done_again_and_again() -> None:
    """Until the timer is stopped, and then no more."""
    calls: list[float] = []
    timer = Timer("test", 0.01, lambda: calls.append(time.monotonic()))
    timer.start()
    until(lambda: len(calls) >= 3)
    timer.stop()
    count = len(calls)
    time.sleep(0.05)
    assert len(calls) == count


def test_the_first_call_is_due_after_one_interval() -> None:
    """A timer that is stopped at once has done nothing."""
    calls: list[int] = []
    timer = Timer("test", 10, lambda: calls.append(1))
    timer.start()
    timer.stop()
    assert calls == []


def test_work_that_fails_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    """The fault is logged, and the next call is made."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise RuntimeError("this time")

    timer = Timer("sweep", 0.01, fail)
    timer.start()
    until(lambda: len(calls) >= 2)
    timer.stop()
    assert "the timer sweep failed" in caplog.text


def test_work_that_hangs_does_not_hold_the_end() -> None:
    """Stopping waits a moment for it, and no longer."""
    entered, release = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait(60)

    timer = Timer("test", 0.01, hang)
    timer.start()
    entered.wait(60)
    began = time.monotonic()
    timer.stop(wait_seconds=0.1)
    assert time.monotonic() - began < 20
    release.set()


def test_a_timer_that_never_began_can_be_stopped() -> None:
    """As when a stack fails while it starts."""
    Timer("test", 10, lambda: None).stop()


PING = Ping(HOME, "storage", "default", 17)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_ping_goes_out_once_a_day_over_every_restart(tmp_path: Path) -> None:
    """Not before it is due; as soon as it is; and no more on that day."""
    moments = [
        ("2026-11-21T00:16:59Z", 0),
        ("2026-11-21T00:17:00Z", 1),
        ("2026-11-21T23:59:00Z", 1),
        ("2026-11-22T00:00:00Z", 1),
        ("2026-11-22T09:00:00Z", 2),
    ]
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        for moment, sent in moments:
            file = tmp_path / "pinged.json"
            Pings([PING], made, file, lambda m=moment: at(m)).look()  # type: ignore[misc]  # m is text
            until(lambda n=sent: len(taker.seen) == n)  # type: ignore[misc]  # n is a number
    first, second = taker.seen
    assert (first.type, first.source) == (events.PING, PING.source)
    assert first.time == "2026-11-21T00:17:00.000Z"
    assert first.id != second.id


def test_a_ping_that_is_made_up_for_is_of_a_day_that_billing_measures(
    tmp_path: Path,
) -> None:
    """Whatever day was the last on which the machine ran: of the day before this."""
    file = tmp_path / "pinged.json"
    file.write_text(f'{{"{PING.source}": "2026-11-02"}}')
    now = at("2026-11-21T23:59:59Z")
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        Pings([PING], made, file, lambda: now).look()
        until(lambda: len(taker.seen) == 1)
    assert storing.day_before(taker.seen[0], now).isoformat() == "2026-11-20"


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_ping_nobody_remembers_goes_out_again(tmp_path: Path, text: str) -> None:
    """Under the same id, so that it counts once."""
    file = tmp_path / "pinged.json"
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        pings = Pings([PING], made, file, lambda: at("2026-11-21T12:00:00Z"))
        pings.look()
        until(lambda: len(taker.seen) == 1)
        file.write_text(text)
        pings.look()
        until(lambda: len(taker.seen) == 2)
    assert taker.seen[0].id == taker.seen[1].id


def test_a_ping_that_cannot_be_sent_keeps_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next tenant's goes out, and this one's when its broker is there."""
    strange = Ping("guise-strange", "storage", "default", 17)
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        file = tmp_path / "pinged.json"
        pings = Pings([strange], made, file, lambda: at("2026-11-21T12:00:00Z"))
        pings.serve([strange, PING])
        pings.look()
        until(lambda: len(taker.seen) == 1)
        assert strange.source in caplog.text
        made.serve([manifests.Broker("guise-strange", "default")], [trigger()])
        pings.look()
    assert strange.source in file.read_text()
