"""Webhooks: who asked for it is told of an ending, signed, again and not for ever."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.problems import Gone, Unavailable
from functions.sink import Answer
from functions.swap import calling, ledger, outbox, records, retention, webhooks
from functions.swap.sweeper import Sweeper, call_back, sweep
from functions.swap.webhooks import PAUSES_SECONDS, Sender, Unreadable, signature
from functions.tenant import WEBHOOKS, WEBHOOKS_DUE, Key
from tests.swap.aging import DAY_SECONDS, aged, die_holding, done, ended
from tests.swap.house import ACME, SWAP, House, picture
from tests.swap.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # published
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
URL = "https://hooks.example.com/guise"
DAYS_31 = 31 * DAY_SECONDS


def endpoint(name: str = "mine", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": URL, "secrets": [SECRET], **more}


def wishing(*endpoints: dict[str, Any]) -> House:
    """Return a house whose tenant has a policy and two pictures."""
    house = House()
    for name in ("a.png", "b.png"):
        house.put(name, picture())
    wish(house, *endpoints or (endpoint(),))
    return house


def wish(house: House, *endpoints: dict[str, Any]) -> None:
    document = json.dumps({"endpoints": endpoints})
    house.store.put(WEBHOOKS, document.encode())


@dataclass
class Line:
    """A caller that answers what it is told, and keeps what it is given."""

    statuses: list[int] = field(default_factory=lambda: [204])
    meanwhile: Callable[[], object] = lambda: None
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, *, timeout: float
    ) -> Answer:
        assert timeout <= 5
        self.seen.append((url, dict(headers), body))
        self.meanwhile()
        more = len(self.statuses) > 1
        status = self.statuses.pop(0) if more else self.statuses[0]
        if not status:
            raise Unavailable(internal="the line is dead")
        return Answer(status, {}, b"")


def send(house: House, line: Line, *, later: float = 0) -> int:
    sender = Sender(ACME, house.store, line)
    sender.now += later
    return sender.run()


def due(house: House) -> list[str]:
    return [info.key for info in house.store.list(WEBHOOKS_DUE).objects]


def shown(house: House, job: str) -> list[dict[str, Any]]:
    return webhooks.shown(ACME, job, house.store)


def test_the_signature_is_that_of_the_specification() -> None:
    """The vector that its reference libraries are tested with."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    body = b'{"test": 2432232314}'
    said = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert said == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_ending_is_told_to_a_real_server() -> None:
    """Once, with the event's id and a signature, and no more than the event says."""
    with receiving() as server:
        house = wishing(endpoint(url=server.url))
        job = done(house)
        assert shown(house, job) == [{"state": "due"}]
        assert call_back(house.books, loopback=True) == 1
        assert call_back(house.books, loopback=True) == 0
        [(headers, body)] = server.seen
    event = ended(house, job).events[0]
    assert headers["webhook-id"] == event["id"]
    assert headers["content-type"] == "application/json"
    signed = f"{event['id']}.{headers['webhook-timestamp']}.{body.decode()}"
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    document = json.loads(body)
    assert document["type"] == events.SWAP_COMPLETED
    assert document["timestamp"] == event["time"]
    assert document["data"] == event["data"]
    assert b"uploads/" not in body
    assert due(house) == []
    [call] = shown(house, job)
    assert (call["endpoint"], call["state"]) == ("mine", "done")
    assert [each["status"] for each in call["tries"]] == [204]


def test_without_a_wish_nothing_is_written() -> None:
    """Nobody who wants no webhooks pays for them."""
    house = wishing()
    house.store.delete(WEBHOOKS)
    job = done(house)
    assert house.store.list(Key("webhooks/")).objects == ()
    assert shown(house, job) == []
    assert send(house, Line()) == 0


def test_telling_again_writes_down_no_second_call() -> None:
    """Whoever died between the entry and the outbox's mark is repeated."""
    house = wishing()
    job = done(house)
    outbox.mark(ACME, job, house.store)
    house.books.deliver(ended(house, job))
    line = Line()
    assert send(house, line, later=5) == 1
    assert send(house, line, later=5) == 0
    assert due(house) == []


def test_each_secret_signs_while_one_takes_the_others_place() -> None:
    """So that whoever receives may change theirs at any moment."""
    house = wishing(endpoint(secrets=[OTHER, SECRET]))
    done(house)
    line = Line()
    send(house, line)
    [(_, headers, body)] = line.seen
    moment = int(headers["webhook-timestamp"])
    keys = [base64.b64decode(each.removeprefix("whsec_")) for each in (OTHER, SECRET)]
    each = [signature(key, headers["webhook-id"], moment, body) for key in keys]
    assert headers["webhook-signature"].split(" ") == each


def test_what_is_not_taken_is_told_again_for_three_days_and_no_longer() -> None:
    """With the specification's pauses; each try is on record."""
    house = wishing()
    job = done(house)
    line, passed = Line([500, 429, 302, 404, 0]), 1.0
    for pause in PAUSES_SECONDS:
        assert send(house, line, later=passed) == 1
        assert send(house, line, later=passed + pause - 3) == 0
        passed += pause + 2
    assert send(house, line, later=passed) == 1
    assert due(house) == []
    [call] = shown(house, job)
    assert call["state"] == "given up"
    assert [each.get("status", 0) for each in call["tries"]] == [
        *(500, 429, 302, 404),
        *[0] * 6,
    ]
    assert call["tries"][-1]["reason"] == "no answer"
    assert sum(PAUSES_SECONDS) == 5 + 35 * 60 + 75 * 3600
    # It is one message, however often it is sent.
    assert len({headers["webhook-id"] for _, headers, _ in line.seen}) == 1


def test_410_switches_an_endpoint_off_until_its_url_is_another() -> None:
    """Nothing is sent there any more, of this job or the next."""
    house = wishing()
    first = done(house)
    line = Line([410])
    assert send(house, line) == 1
    assert [each["state"] for each in shown(house, first)] == ["off"]
    second = done(house)
    assert send(house, line) == 0
    assert [each["state"] for each in shown(house, second)] == ["off"]
    assert due(house) == []
    wish(house, endpoint(url=f"{URL}/new"))
    done(house)
    assert send(house, line) == 1


def test_an_endpoint_hears_of_what_it_asked_for() -> None:
    """Each by its outcomes; refusals and failures are endings too."""
    house = wishing(
        endpoint("all"),
        endpoint("bad", url=f"{URL}/bad", events=["failed", "refused"]),
    )
    done(house)
    house.upload("refused", b"{")
    line = Line()
    send(house, line)
    told = [(url, json.loads(body)["type"]) for url, _, body in line.seen]
    assert sorted(told) == [
        (URL, events.SWAP_COMPLETED),
        (URL, events.SWAP_REFUSED),
        (f"{URL}/bad", events.SWAP_REFUSED),
    ]


def test_what_nobody_wants_is_done_with() -> None:
    """A policy without endpoints, or without this outcome."""
    house = wishing(endpoint(events=["failed"]))
    job = done(house)
    assert send(house, Line()) == 0
    assert (due(house), shown(house, job)) == ([], [])


def test_an_endpoint_that_is_taken_out_is_called_no_more() -> None:
    """Also about what was to be told before."""
    house = wishing()
    job = done(house)
    line = Line([500])
    send(house, line)
    wish(house)
    assert send(house, line, later=60) == 0
    assert [each["state"] for each in shown(house, job)] == ["off"]
    assert due(house) == []


@pytest.mark.parametrize(
    "policy",
    [
        b"",
        b"[]",
        b'{"endpoint":[]}',
        *(
            json.dumps({"endpoints": each}).encode()
            for each in (
                [endpoint(name="A b")],
                [endpoint(), endpoint()],
                [endpoint(secrets=[])],
                [endpoint(secrets=["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])],
                [endpoint(secrets=["whsec_c2hvcnQ="])],
                [endpoint(secrets=["whsec_*"])],
                [endpoint(secrets=[SECRET] * 4)],
                [endpoint(events=["erased"])],
                [endpoint(url=1)],
                [endpoint(f"e{n}") for n in range(6)],
            )
        ),
        b" " * 70_000 + b"{}",
    ],
    ids=lambda policy: repr(policy[:50]),
)
def test_under_a_wish_that_cannot_be_read_calls_wait(policy: bytes) -> None:
    """It is logged, the sweep goes on, and once it is mended they are made."""
    house = wishing()
    job = done(house)
    house.store.put(WEBHOOKS, policy)
    with pytest.raises(Unreadable):
        send(house, Line())
    outbox.mark(ACME, job, house.store)
    swept, _ = Sweeper().run(house.books)
    assert swept.told == 1
    wish(house, endpoint())
    assert send(house, Line(), later=5) == 1


def test_of_two_sweepers_one_calls() -> None:
    """The try is written down before it is made, on condition that nobody else has."""
    house = wishing()
    job = done(house)
    other = Line()
    line = Line(meanwhile=lambda: send(house, other))
    assert send(house, line) == 1
    assert other.seen == []
    assert [each["state"] for each in shown(house, job)] == ["done"]


def test_a_sweeper_that_is_overtaken_writes_nothing_over() -> None:
    """It was stopped amid a call for longer than the pause: the other's word stands."""
    house = wishing()
    job = done(house)
    other = Line()
    line = Line([500], meanwhile=lambda: send(house, other, later=10))
    send(house, line)
    assert len(other.seen) == 1
    [call] = shown(house, job)
    assert (call["state"], call["begun"]) == ("done", 2)


def test_a_sweeper_killed_amid_a_call_has_used_up_a_try() -> None:
    """Whether it came through is not known: the next comes after the pause."""

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    house = wishing()
    job = done(house)
    with pytest.raises(Killed):
        send(house, Line(meanwhile=die))
    assert send(house, Line()) == 0
    assert send(house, Line(), later=10) == 1
    [call] = shown(house, job)
    assert (call["state"], call["begun"], len(call["tries"])) == ("done", 2, 1)


def test_an_endpoint_that_does_not_answer_is_asked_once_a_sweep() -> None:
    """Its time-outs are not to take the others' time."""
    house = wishing(endpoint("dead"), endpoint("alive", url=f"{URL}/alive"))
    for _ in range(3):
        done(house)

    class Half(Line):
        def __call__(self, url: str, *args: Any, **more: Any) -> Answer:
            self.statuses = [204 if url.endswith("alive") else 0]
            return super().__call__(url, *args, **more)

    line = Half()
    assert send(house, line) == 4
    assert [url for url, _, _ in line.seen].count(URL) == 1
    assert len(due(house)) == 3
    assert send(house, Line(), later=10) == 3
    assert due(house) == []


def test_no_call_begins_that_could_not_end_in_time() -> None:
    """Of several endpoints of one job, too; the others are called by the next sweep."""
    house = wishing(*(endpoint(f"n{number}") for number in range(5)))
    done(house)
    line = Line(statuses=[0])
    sender = Sender(ACME, house.store, line)

    def five_seconds_pass() -> None:
        sender.until -= webhooks.CALL_SECONDS

    line.meanwhile = five_seconds_pass
    sender.until = time.monotonic() + 2.5 * webhooks.CALL_SECONDS
    assert sender.run() == 2
    assert len(due(house)) == 1
    assert send(house, Line(), later=4) == 3


def test_an_address_of_ours_is_called_by_nobody() -> None:
    """SSRF: the try is on record with its reason, and counts."""
    house = wishing(endpoint(url="https://169.254.169.254/latest/meta-data"))
    job = done(house)
    sender = Sender(ACME, house.store, partial(calling.call, loopback=False))
    assert sender.run() == 1
    [call] = shown(house, job)
    assert "not an address of the Internet" in call["tries"][0]["reason"]


def test_one_sweep_makes_so_many_calls() -> None:
    """The rest is the next one's, the longest due first."""
    house = wishing()
    record = ended(house, done(house))
    for n in range(webhooks.CALLS_MAX + 5):
        fresh = ledger.Record(
            f"j{n:03}", "swap", ledger.COMPLETED, 1, "", events=record.events
        )
        webhooks.enqueue(fresh, tenant=ACME, store=house.store)
    line = Line()
    assert send(house, line, later=5) == webhooks.CALLS_MAX
    assert send(house, line, later=5) == 6


def test_what_is_not_ours_and_what_is_broken_keeps_nobody_waiting() -> None:
    """A stranger's mark is left alone; what cannot be read is told of no more."""
    house = wishing()
    job = done(house)
    strangers = [f"{WEBHOOKS_DUE}000000000000-A b", f"{WEBHOOKS_DUE}soon-j1"]
    for each in strangers:
        house.store.put(Key(each), b"")
    house.store.put(ACME.webhook("broken"), b"{")
    house.store.put(ACME.webhook_due("broken", 1), b"")
    house.store.put(ACME.webhook_due("nowhere", 1), b"")
    assert send(house, Line()) == 1
    assert [each["state"] for each in shown(house, job)] == ["done"]
    assert due(house) == strangers


def test_an_expired_or_erased_job_takes_its_calls_along() -> None:
    """What was told of it is no longer anybody's to read, or to send."""
    house, store = aged()
    wish(house, endpoint())
    old, erased = done(house), done(house)
    line = Line([500])
    assert send(house, line) == 2
    records.erase(erased, house.books)
    store.age(Key(""), DAYS_31)
    retention.apply(house.books)
    assert ended(house, old).expired
    with pytest.raises(Gone):
        records.show(erased, house.books)
    assert send(house, line, later=60) == 0
    assert [each for each in (old, erased) if shown(house, each)] == []
    assert due(house) == []


def test_a_job_that_the_sweeper_ends_is_told_too() -> None:
    """Its holders all died: that is an ending like any other."""
    house, store = aged(attempts_max=1)
    wish(house, endpoint())
    answer = house.post(SWAP, Prefer="respond-async")
    job = str(answer.json["job"])  # type: ignore[index]
    die_holding(house, job)
    claim = json.loads(store.get(ACME.claim(job)).data) | {"until": 1.0}
    store.put(ACME.claim(job), json.dumps(claim).encode())
    store.age(Key("outbox/"), 60)
    assert sweep(house.books).ended == 1
    line = Line()
    send(house, line)
    [(_, _, body)] = line.seen
    assert json.loads(body)["type"] == events.SWAP_FAILED
    assert ended(house, job).outcome == ledger.FAILED
