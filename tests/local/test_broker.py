"""The broker: durable, at least once, and nobody waits for another's failure."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.local.delivery import dead_letter, judge
from functions.local.filters import parse_all
from functions.local.queue import Queue
from functions.local.shares import AT_ONCE_MAX
from functions.problems import InvalidRequest, NotFound, TooLarge, Unavailable
from functions.sink import Answer
from tests.local.rig import until
from tests.local.subscriber import (
    DONE,
    HOME,
    Reply,
    broker,
    drained,
    event,
    subscriber,
    trigger,
)

if TYPE_CHECKING:
    from pathlib import Path

    from functions.events import Event

EVENTS = "application/cloudevents+json"


def typed(kind: str) -> object:
    return parse_all([{"exact": {"type": kind}}])


def test_an_event_is_delivered_as_it_came(tmp_path: Path) -> None:
    """Every attribute, signature and unknown extension, and the data."""
    sent = event(
        subject="objects/a",
        sig="c2ln",
        sigkid="0123456789abcdef",
        extensions={"bucket": "acme", "traceparent": "00-ab"},
        data={"number": 1.5, "text": "ä", "deep": {"list": [1, None]}},
    )
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        made.publish(sent, namespace=HOME)
        drained(made)
    assert taker.seen == [sent]


def test_an_event_goes_to_every_trigger_it_passes(tmp_path: Path) -> None:
    """And to none that it does not."""
    triggers = [
        trigger("one"),
        trigger("two"),
        trigger("other-type", passes=typed("dev.guise.other.v1")),
        trigger("other-broker", broker="dead-letters"),
    ]
    with subscriber() as taker, broker(tmp_path, taker.url, *triggers) as made:
        made.publish(event(), namespace=HOME)
        drained(made)
    assert len(taker.seen) == 2


def test_filters_see_extensions(tmp_path: Path) -> None:
    """A Trigger may select by tenant, or by bucket."""
    filters = parse_all([{"exact": {"tenant": "acme", "bucket": "b"}}])
    chosen = trigger(passes=filters)
    with subscriber() as taker, broker(tmp_path, taker.url, chosen) as made:
        made.publish(event(1), namespace=HOME)
        made.publish(event(2, extensions={"bucket": "b"}), namespace=HOME)
        drained(made)
    assert [each.id for each in taker.seen] == ["id-2"]


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
def test_a_status_that_is_tried_again(tmp_path: Path, status: int) -> None:
    """Until it succeeds; then nothing is owed and nothing is dead."""
    answers = iter([(status, {}, b""), (status, {}, b""), DONE])
    with (
        subscriber(lambda _: next(answers)) as taker,
        broker(tmp_path, taker.url) as made,
    ):
        made.publish(event(), namespace=HOME)
        drained(made)
        assert made.queue.dead_count() == 0
    assert len(taker.seen) == 3


@pytest.mark.parametrize("status", [301, 304, 400, 401, 403, 405, 410, 413, 422, 425])
def test_a_status_that_is_final(tmp_path: Path, status: int) -> None:
    """A dead letter at once, with the reason as a broker gives it."""
    with (
        subscriber(lambda _: (status, {}, b"" if status == 304 else b"no")) as taker,
        broker(tmp_path, taker.url) as made,
    ):
        made.publish(event(), namespace=HOME)
        drained(made)
        [letter] = made.queue.dead_letters()
    assert len(taker.seen) == 1
    assert letter.reason == f"status {status}"
    assert letter.destination == f"{taker.url}/events"
    assert letter.event["knativeerrorcode"] == str(status)
    assert letter.event["knativeerrordest"] == f"{taker.url}/events"


def test_a_dead_letter_holds_the_error_body(tmp_path: Path) -> None:
    """In base64, cut to a kilobyte; the event itself is whole."""
    body = json.dumps({"type": "urn:guise:problem:invalid-request"}).encode()
    with (
        subscriber(lambda _: (400, {}, body + b" " * 9_000)) as taker,
        broker(tmp_path, taker.url) as made,
    ):
        made.publish(event(), namespace=HOME)
        drained(made)
        [letter] = made.queue.dead_letters()
    data = base64.b64decode(letter.event["knativeerrordata"])
    assert data.startswith(body)
    assert len(data) == 1024
    assert letter.event["data"] == {"job": "job-1"}
    assert letter.attempts == 1


def test_retries_are_counted_and_wait_longer_each_time(tmp_path: Path) -> None:
    """`retry` tries after the first, each pause twice the last; then a dead letter."""
    times: list[float] = []

    def refuse(_: Event) -> Reply:
        times.append(time.monotonic())
        return 503, {}, b""

    patient = trigger(retry=3, delay_seconds=0.05)
    with subscriber(refuse) as taker, broker(tmp_path, taker.url, patient) as made:
        made.publish(event(), namespace=HOME)
        drained(made)
        [letter] = made.queue.dead_letters()
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert letter.attempts == len(times) == 4
    assert [
        pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True)
    ]
    assert pauses[0] < pauses[1] < pauses[2]


def test_nobody_there(tmp_path: Path) -> None:
    """No answer is tried again, and dead in the end without a code."""
    with broker(tmp_path, "http://127.0.0.1:9") as made:
        made.publish(event(), namespace=HOME)
        drained(made)
        [letter] = made.queue.dead_letters()
    assert letter.attempts == 3
    assert letter.reason.startswith("no answer")
    assert "knativeerrorcode" not in letter.event
    assert letter.event["knativeerrordest"] == "http://127.0.0.1:9/events"


def test_a_subscriber_that_takes_too_long(tmp_path: Path) -> None:
    """It had its `timeout`: no answer."""
    release = threading.Event()

    def wait(_: Event) -> Reply:
        release.wait(10)
        return DONE

    impatient = trigger(timeout_seconds=0.1, retry=0)
    with subscriber(wait) as taker, broker(tmp_path, taker.url, impatient) as made:
        made.publish(event(), namespace=HOME)
        drained(made)
        [letter] = made.queue.dead_letters()
        release.set()
    assert "timed out" in letter.reason


def test_a_reply_becomes_an_event(tmp_path: Path) -> None:
    """A 2xx with a CloudEvent is done, and the reply goes where it passes."""
    reply = event(2, type="dev.guise.swap.completed.v1")

    def answer(each: Event) -> Reply:
        if each.type == reply.type:
            return DONE
        headers, body = events.encode(reply)
        return 200, headers, body

    with subscriber(answer) as taker, broker(tmp_path, taker.url) as made:
        made.publish(event(), namespace=HOME)
        drained(made)
        assert made.queue.dead_count() == 0
    assert [each.id for each in taker.seen] == ["id-1", "id-2"]


def test_a_reply_of_the_same_type_is_refused(tmp_path: Path) -> None:
    """It would go round for ever."""
    with (
        subscriber(lambda each: (200, *events.encode(each))) as taker,
        broker(tmp_path, taker.url) as made,
    ):
        made.publish(event(), namespace=HOME)
        drained(made)
        [letter] = made.queue.dead_letters()
    assert len(taker.seen) == 1
    assert "for ever" in letter.reason


def test_a_body_that_is_no_event_is_a_failure(tmp_path: Path) -> None:
    """Tried again, then dead without any error attribute, as on a cluster."""
    with (
        subscriber(lambda _: (200, {"Content-Type": "text/plain"}, b"ok")) as taker,
        broker(tmp_path, taker.url) as made,
    ):
        made.publish(event(), namespace=HOME)
        drained(made)
        [letter] = made.queue.dead_letters()
    assert len(taker.seen) == 3
    assert "no event" in letter.reason
    assert not [name for name in letter.event if name.startswith("knativeerror")]


def test_one_failing_event_holds_up_no_other(tmp_path: Path) -> None:
    """What fails waits in the file; the rest is delivered meanwhile."""

    def answer(each: Event) -> Reply:
        return (503, {}, b"") if each.id == "id-0" else DONE

    slow = trigger(delay_seconds=30)
    with subscriber(answer) as taker, broker(tmp_path, taker.url, slow) as made:
        for number in range(20):
            made.publish(event(number), namespace=HOME)
        until(lambda: len(taker.seen) == 20)
        until(lambda: made.depth()[slow.key] == 1)


def test_one_slow_trigger_holds_up_no_other(tmp_path: Path) -> None:
    """Each Trigger has its own few deliveries at a time, and no more."""
    release = threading.Event()

    def answer(each: Event) -> Reply:
        if each.type == "slow":
            release.wait(10)
        return DONE

    triggers = [
        trigger("slow", passes=typed("slow")),
        trigger("quick", passes=typed("quick")),
    ]
    with subscriber(answer) as taker, broker(tmp_path, taker.url, *triggers) as made:
        for number in range(2 * AT_ONCE_MAX):
            made.publish(event(number, type="slow"), namespace=HOME)
        made.publish(event(99, type="quick"), namespace=HOME)
        until(lambda: "id-99" in [each.id for each in taker.seen])
        until(lambda: made.depth()[f"{HOME}/quick"] == 0)
        assert made.under_way == AT_ONCE_MAX
        release.set()
        drained(made)
    assert taker.at_once_most <= AT_ONCE_MAX + 1
    assert len(taker.seen) == 2 * AT_ONCE_MAX + 1


def test_five_hundred_events_are_delivered_once_each(tmp_path: Path) -> None:
    """Where nothing fails, nothing is delivered twice."""
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        for number in range(500):
            made.publish(event(number), namespace=HOME)
        drained(made)
    assert sorted(each.id for each in taker.seen) == sorted(
        event(number).id for number in range(500)
    )


def test_an_event_for_nobody_is_taken_and_forgotten(tmp_path: Path) -> None:
    """No Trigger, no debt, no row."""
    nothing = trigger(passes=typed("dev.guise.nothing.v1"))
    with subscriber() as taker, broker(tmp_path, taker.url, nothing) as made:
        made.publish(event(), namespace=HOME)
        assert made.depth() == {nothing.key: 0}
    assert taker.seen == []


def test_a_broker_that_does_not_exist(tmp_path: Path) -> None:
    """Its name is refused before anything is written."""
    with broker(tmp_path, "http://127.0.0.1:9") as made:
        with pytest.raises(NotFound):
            made.publish(event(), namespace=HOME, name="other")
        with pytest.raises(NotFound):
            made.publish(event(), namespace="guise-other")
        assert not any(made.depth().values())


def test_what_was_owed_is_delivered_after_a_restart(tmp_path: Path) -> None:
    """Events taken while nobody could deliver them wait in the file."""
    with broker(tmp_path, "http://127.0.0.1:9", trigger(delay_seconds=0.3)) as made:
        for number in range(5):
            made.publish(event(number), namespace=HOME)
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        drained(made)
    assert len({each.id for each in taker.seen}) == 5


def test_what_fails_because_we_are_ending_is_no_try(tmp_path: Path) -> None:
    """A delivery cut off by our own end is owed as it was."""
    entered, release = threading.Event(), threading.Event()

    def cut(_: Event) -> Reply:
        entered.set()
        release.wait(10)
        return 503, {}, b""

    once = trigger(retry=0)
    with subscriber(cut) as taker, broker(tmp_path, taker.url, once) as made:
        made.publish(event(), namespace=HOME)
        entered.wait(10)
        made.pause()
        release.set()
        until(lambda: not made.under_way)
        [owed] = made.queue.due(once.key, 10)
        assert owed.attempts == 0
        assert made.queue.dead_count() == 0


def test_stopping_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A subscriber that never answers cannot hold the stack."""
    release = threading.Event()

    def hang(_: Event) -> Reply:
        release.wait(60)
        return DONE

    with subscriber(hang) as taker, broker(tmp_path, taker.url) as made:
        made.publish(event(), namespace=HOME)
        until(lambda: taker.seen)
        began = time.monotonic()
        made.stop(wait_seconds=0.2)
        assert time.monotonic() - began < 20
        release.set()
        until(lambda: not made.under_way)


def test_a_trigger_that_is_gone(tmp_path: Path) -> None:
    """What it was owed is a dead letter at the next start, not a debt for ever."""
    queue = Queue(tmp_path / "broker.db")
    queue.put(event(), [f"{HOME}/gone", f"{HOME}/all"])
    queue.close()
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        drained(made)
        [letter] = made.queue.dead_letters()
    assert (letter.trigger, letter.destination) == (f"{HOME}/gone", "")
    assert letter.reason == "there is no such Trigger any more"
    assert len(taker.seen) == 1


def test_a_dead_letter_is_replayed(tmp_path: Path) -> None:
    """Its Trigger gets the event as it was first sent, and the letter is gone."""
    answers = iter([(400, {}, b"no"), DONE])
    with (
        subscriber(lambda _: next(answers)) as taker,
        broker(tmp_path, taker.url) as made,
    ):
        made.publish(event(), namespace=HOME)
        drained(made)
        [letter] = made.queue.dead_letters()
        made.replay(letter.number)
        until(lambda: len(taker.seen) == 2)
        drained(made)
        assert made.queue.dead_letters() == []
        with pytest.raises(NotFound):
            made.replay(letter.number)
    assert taker.seen == [event(), event()]


def test_an_event_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    """A row that a newer version cannot read is a dead letter, and blocks nobody."""
    queue = Queue(tmp_path / "broker.db")
    queue.put(event(1), [f"{HOME}/all"])
    queue.put(event(2), [f"{HOME}/all"])
    queue.close()
    with sqlite3.connect(tmp_path / "broker.db") as database:
        database.execute("UPDATE events SET body = '{\"id\":1}' WHERE number = 1")
    database.close()
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        drained(made)
        [letter] = made.queue.dead_letters()
    assert "not a readable event" in letter.reason
    assert letter.event == {"id": 1}
    assert [each.id for each in taker.seen] == ["id-2"]


def test_what_could_not_be_read_again_is_not_taken(tmp_path: Path) -> None:
    """A strict door on the way in spares us a locked one on the way out."""
    with broker(tmp_path, "http://127.0.0.1:9") as made:
        with pytest.raises(InvalidRequest):
            made.publish(event(subject="a\nb"), namespace=HOME)
        assert not any(made.depth().values())


def test_the_largest_event_comes_through(tmp_path: Path) -> None:
    """An event at the limit in binary mode is over it as it is stored."""
    data = {"text": "x" * (events.EVENT_BYTES_MAX - len('{"text":""}'))}
    headers, body = events.encode(event(data=data))
    assert len(body) == events.EVENT_BYTES_MAX
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        made.publish(events.decode(headers, body), namespace=HOME)
        drained(made)
    assert taker.seen[0].data == data


def test_an_event_that_would_be_too_large_to_deliver(tmp_path: Path) -> None:
    """It is refused to its sender, who still has it, not to us later."""
    data = {"text": "x" * events.EVENT_BYTES_MAX}
    with broker(tmp_path, "http://127.0.0.1:9") as made:
        with pytest.raises(TooLarge):
            made.publish(event(data=data), namespace=HOME)
        assert not any(made.depth().values())


def test_a_full_queue_takes_no_more(tmp_path: Path) -> None:
    """The sender is told to come again, and keeps the event."""
    queue = Queue(tmp_path / "broker.db", events_max=2)
    queue.put(event(1), ["t"])
    queue.put(event(2), ["t"])
    with pytest.raises(Unavailable):
        queue.put(event(3), ["t"])
    assert queue.depth() == {"t": 2}
    queue.close()


def test_dead_letters_have_a_bound(tmp_path: Path) -> None:
    """The oldest go when there are too many."""
    queue = Queue(tmp_path / "broker.db", dead_letters_max=3)
    for number in range(5):
        queue.put(event(number), ["t"])
        [owed] = queue.due("t", 10)
        queue.bury(owed, reason="test")
    letters = queue.dead_letters()
    assert [letter.event["id"] for letter in letters] == ["id-4", "id-3", "id-2"]
    queue.close()


def test_a_fault_of_the_disk_loses_nothing(tmp_path: Path) -> None:
    """An event that could not be committed was not taken."""
    queue = Queue(tmp_path / "broker.db")
    with sqlite3.connect(tmp_path / "broker.db") as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON events "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        database.commit()
        with pytest.raises(Unavailable):
            queue.put(event(), ["t"])
        database.execute("DROP TRIGGER full")
        database.commit()
    database.close()
    queue.put(event(), ["t"])
    assert queue.depth() == {"t": 1}
    queue.close()


def test_a_delivery_that_cannot_be_settled_stays_owed(tmp_path: Path) -> None:
    """It was answered but not written down: it is delivered once more."""
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        with sqlite3.connect(tmp_path / "broker.db") as database:
            database.execute(
                "CREATE TRIGGER full BEFORE DELETE ON deliveries "
                "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
            database.commit()
            made.publish(event(), namespace=HOME)
            until(lambda: taker.seen)
            time.sleep(0.1)
            database.execute("DROP TRIGGER full")
            database.commit()
        database.close()
        drained(made)
    assert len(taker.seen) == 2


def test_a_queue_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    """The dispatcher outlives a fault of the file."""
    with subscriber() as taker, broker(tmp_path, taker.url) as made:
        with sqlite3.connect(tmp_path / "broker.db") as database:
            database.execute("ALTER TABLE deliveries RENAME TO away")
            database.commit()
            made._work.set()
            time.sleep(0.1)
            database.execute("ALTER TABLE away RENAME TO deliveries")
            database.commit()
        database.close()
        made.publish(event(), namespace=HOME)
        drained(made)
    assert len(taker.seen) == 1


COMMIT = """
import sys
from pathlib import Path
from functions.local.queue import Queue
from tests.local.subscriber import event
queue = Queue(Path(sys.argv[1]))
for number in range(100_000):
    queue.put(event(number), ["t"])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("after", [1, 20, 55])
def test_kill_9_loses_no_event_that_was_taken(tmp_path: Path, after: int) -> None:
    """Whatever was acknowledged before the kill is owed after it."""
    path = tmp_path / "broker.db"
    with subprocess.Popen(
        [sys.executable, "-c", COMMIT, str(path)],
        stdout=subprocess.PIPE,
        env={n: v for n, v in os.environ.items() if not n.startswith("COVERAGE")},
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    queue = Queue(path)
    owed = {each.event().id for each in queue.due("t", 100_000)}
    queue.close()
    assert {f"id-{int(line)}" for line in told if line.endswith(b"\n")} <= owed


def test_whose_broker_takes_an_event_sent_to_none(tmp_path: Path) -> None:
    """Its tenant's; one without a tenant goes to the only one there is."""
    with broker(tmp_path, "http://127.0.0.1:9") as made:
        assert made.home_of(event()) == HOME
        assert made.home_of(event(tenant="")) == HOME
        with pytest.raises(InvalidRequest):
            made.home_of(event(tenant="stranger"))


def test_the_table_of_answers_is_pure() -> None:
    """What an answer means depends on the answer and the event alone."""
    sent = event()
    gone = judge("connection refused", sent)
    assert (gone.verdict, gone.error) == ("again", None)
    assert judge(Answer(599, {}, b""), sent).verdict == "again"
    assert judge(Answer(299, {}, b""), sent).verdict == "done"
    refused = judge(Answer(403, {}, b"no"), sent)
    letter = dead_letter(sent, refused, "http://there")
    assert letter.extensions["knativeerrordest"] == "http://there"
    assert sent.extensions == {}
