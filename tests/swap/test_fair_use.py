"""Who may have what of a pooled function, over its real doors."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import knative
from functions.local import manifests
from functions.problems import UnknownTenant
from functions.roster import Policy, Quotas, Spec
from functions.settings import Limits
from functions.swap import ledger
from functions.swap.dispatch import requested
from tests.collector import collecting, eventually
from tests.swap.house import ACME, GOOD, SWAP, House, PaperEngine, multipart, picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from werkzeug.test import TestResponse

    from functions.tenant import Tenant

DETECT = {"operation": "detect", "target": "uploads/b.png"}


@dataclass
class Book:
    """A roster that a test writes in; who is not in it is nobody."""

    specs: dict[str, Spec] = field(default_factory=dict)

    def put(self, name: str, **spec: Any) -> None:
        self.specs[name] = Spec(id=name, policy=Policy(gate="tenant"), **spec)

    def spec(self, tenant: Tenant) -> Spec:
        try:
            return self.specs[tenant.id]
        except KeyError:
            raise UnknownTenant from None

    def all(self) -> Sequence[Spec]:
        return tuple(self.specs.values())


@pytest.fixture
def book() -> Book:
    made = Book()
    made.put("acme")
    return made


@pytest.fixture
def house(book: Book) -> House:
    return furnished(House(roster=book))


def furnished(made: House) -> House:
    """Return it with two pictures."""
    made.put("a.png", picture(1))
    made.put("b.png", picture(2))
    return made


def slug(answer: TestResponse) -> str:
    return str(answer.get_json()["type"]).rpartition(":")[2]


def test_a_tenant_over_its_rate_is_told_when_to_come_again(
    house: House, book: Book
) -> None:
    """429 with Retry-After in whole seconds, and nothing was accepted."""
    book.put("acme", quotas=Quotas(requests_per_second=0.1, burst=2))
    answers = [house.post(DETECT) for _ in range(3)]
    assert [each.status_code for each in answers] == [201, 201, 429]
    assert slug(answers[-1]) == "too-many-requests"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 10
    assert house.calls == 2


def test_the_body_of_a_request_over_the_rate_is_not_read(
    house: House, book: Book
) -> None:
    """It is refused by its head alone."""
    book.put("acme", quotas=Quotas(requests_per_second=0.1, burst=1))
    assert house.post(DETECT).status_code == 201

    class Unread:
        def read(self, *_: object) -> bytes:
            pytest.fail("the body was read")

        readline = readinto = read

    answer = house.door.post(
        "/v1/swaps",
        headers={"Authorization": "Bearer acme", "Content-Type": "application/json"},
        environ_overrides={"wsgi.input": Unread(), "CONTENT_LENGTH": "9"},
    )
    assert answer.status_code == 429


def test_who_may_not_ask_is_counted_all_the_same(house: House, book: Book) -> None:
    """A token of another scope is no way around the rate: 403 so often, then 429."""
    book.put("acme", quotas=Quotas(requests_per_second=0.1, burst=2))
    answers = [house.post(DETECT, "acme read").status_code for _ in range(4)]
    assert answers == [403, 403, 429, 429]


def test_who_looks_all_the_time_may_still_ask(house: House, book: Book) -> None:
    """Looking has a rate of its own, ten times as large; and so the other way."""
    book.put("acme", quotas=Quotas(requests_per_second=0.1, burst=1))
    looked = [house.get("/v1/swaps").status_code for _ in range(11)]
    assert looked == [200] * 10 + [429]
    assert house.post(DETECT).status_code == 201


def test_what_one_spends_another_has(house: House, book: Book) -> None:
    """Each tenant has a rate of its own, and one without a quota has none."""
    book.put("acme", quotas=Quotas(requests_per_second=0.1, burst=1))
    book.put("umbra")
    assert house.post(DETECT).status_code == 201
    assert house.post(DETECT).status_code == 429
    for _ in range(5):
        answer = house.get("/v1/swaps", tenant="umbra")
        assert answer.status_code == 200


def test_metrics_count_refusals_and_waits_by_class(book: Book) -> None:
    """How long jobs waited in each class, and who was sent away."""
    book.put("acme", tier="premium", quotas=Quotas(requests_per_second=0.1, burst=1))
    with collecting() as collector:
        house = furnished(House(roster=book, otlp_url=collector.url))
        house.post(DETECT)
        house.post(DETECT)
        eventually(lambda: collector.points("guise_too_many_requests"))
        [labels] = collector.points("guise_too_many_requests")
    assert dict(labels)["priority"] == "2"
    waits = house.worker.get("/metrics").text
    for place in ("device", "pictures"):
        name = "guise_queue_wait_seconds_count"
        assert f'{name}{{place="{place}",priority="2"}} 1.0' in waits
    assert "acme" not in waits


# --- places -------------------------------------------------------------------


def test_one_tenant_cannot_have_every_thread_of_the_door(book: Book) -> None:
    """It has half of them; the next request is 429, and another tenant's is served."""
    house = busy(book, Limits(door_requests_max=4))
    with waiting(house, 2):
        answer = house.post(DETECT)
        assert (answer.status_code, slug(answer)) == (429, "too-many-requests")
        assert answer.headers["Retry-After"] == "1"
        assert house.get("/v1/swaps", tenant="umbra").status_code == 200
    assert house.post(DETECT).status_code == 201


def test_a_result_holds_its_place_until_it_is_sent(book: Book) -> None:
    """A slow reader is a thread, too."""
    house = busy(book, Limits(door_requests_max=2))
    house.engine.fault = lambda: None
    sent = house.door.post(
        "/v1/swaps",
        data=multipart(GOOD, source=picture(1), target=picture(1)),
        headers={"Authorization": "Bearer acme"},
    )
    job = sent.get_json()["job"]
    reading = house.get(f"/v1/swaps/{job}/result")
    assert reading.status_code == 200
    assert house.get("/v1/swaps").status_code == 429
    reading.close()
    assert house.get("/v1/swaps").status_code == 200


def test_a_failure_gives_the_place_back(book: Book) -> None:
    """Whatever becomes of a request."""
    house = busy(book, Limits(door_requests_max=2))
    for _ in range(3):
        assert house.get("/v1/swaps/no-such").status_code == 404
        assert house.door.post("/v1/swaps", headers=BEARER).status_code == 400


BEARER = {"Authorization": "Bearer acme"}


def test_a_tenant_has_no_more_jobs_under_way_than_its_quota(book: Book) -> None:
    """The event is answered with 503, never 429, and done when it comes again."""
    book.put("acme", quotas=Quotas(concurrency=1))
    house = busy(book)
    with waiting(house, 1):
        answer = house.upload("j2", DETECT)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert ledger.record(ACME, "j2", house.store) is None
        said = house.post(DETECT)
        assert (said.status_code, said.get_json()["outcome"]) == (202, "accepted")
    assert house.upload("j2", DETECT).status_code == 204
    assert house.send(requested(said.get_json()["job"], house.books)).status_code == 204


def test_one_tenant_cannot_have_all_the_places_of_the_queue(book: Book) -> None:
    """Half of them; and another tenant's job finds one."""
    book.put("umbra")
    house = busy(book, Limits(queue_jobs_max=2))
    with waiting(house, 1):
        assert house.upload("j2", DETECT).status_code == 503
        event = requested("none", books_of(house, "umbra"))
        assert house.send(event).status_code == 204  # it was let in: no such job


def test_a_pinned_worker_is_all_its_tenants(book: Book) -> None:
    """There is nobody to keep a place for."""
    house = busy(book, Limits(queue_jobs_max=2), tenant=ACME, url="memory:")
    with waiting(house, 1):
        event = requested("none", house.books)
        assert house.send(event).status_code == 204  # it was let in: no such job


def busy(book: Book, limits: Limits | None = None, **more: Any) -> House:
    """Return a house whose swaps wait until they are let go; see `waiting`."""
    house = House(roster=book, engine=PaperEngine(), limits=limits or Limits(), **more)
    if "umbra" not in book.specs:
        book.put("umbra")
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house


class waiting(ExitStack):  # noqa: N801  # a context manager
    """So many swaps of acme's under way at the door, until the end of the body."""

    def __init__(self, house: House, number: int) -> None:
        super().__init__()
        self._house, self._number = house, number
        self._begun = threading.Event()
        self._go = threading.Event()

    def __enter__(self) -> Self:
        self._house.engine.fault = self._wait
        calls = self._house.calls + self._number
        for _ in range(self._number):
            thread = threading.Thread(target=self._house.post, args=(SWAP,))
            thread.start()
            self.callback(thread.join, 30)
        self.callback(self._go.set)
        assert self._begun.wait(30)
        while self._house.calls < calls:
            time.sleep(0.001)
        return self

    def _wait(self) -> None:
        self._begun.set()
        assert self._go.wait(30)


def books_of(house: House, tenant: str) -> Any:
    from functions.swap.journal import Books
    from functions.tenant import Tenant

    who = Tenant(tenant)
    return Books(
        who,
        house.stores.of(who),
        house.keys,
        house.auditor,
        house.sink,
        house.limits,
    )


def test_the_door_has_as_many_threads_as_it_shares_out() -> None:
    """The limit is the manifest's number, unless the manifest says it."""
    values = {"tenant": "acme", "prefix": ""}
    found = manifests.read(knative.folder() / manifests.TENANT, values).services
    [door] = [each for each in found if each.name == "door"]
    threads = int(door.args[door.args.index("--threads") + 1])
    told = door.environ.get("GUISE_DOOR_REQUESTS_MAX")
    assert threads == int(told or Limits().door_requests_max)


# --- the roster ---------------------------------------------------------------


def test_a_suspended_tenant_begins_nothing_at_the_door(
    house: House, book: Book
) -> None:
    """403 and on record; what it has it may still read, and erase."""
    job = house.post(DETECT).get_json()["job"]
    book.put("acme", state="suspended")
    answer = house.post(DETECT)
    assert (answer.status_code, slug(answer)) == (403, "tenant-suspended")
    assert house.sink.types()[-1].endswith("refused.v1")
    assert house.get(f"/v1/swaps/{job}").status_code == 200
    erased = house.door.delete(f"/v1/swaps/{job}", headers=BEARER)
    assert erased.status_code == 204


def test_an_upload_of_a_suspended_tenant_ends_as_refused(
    house: House, book: Book
) -> None:
    """On record: the job has an ending, and the log an event."""
    book.put("acme", state="suspended")
    assert house.upload("j1", SWAP).status_code == 204
    ending = ledger.record(ACME, "j1", house.store)
    assert ending is not None
    assert ending.problem is not None
    assert ending.outcome == ledger.REFUSED
    assert ending.problem["type"].endswith("tenant-suspended")
    assert house.engine.calls == []


def test_what_was_accepted_before_a_suspension_is_refused_after_it(
    house: House, book: Book
) -> None:
    """Nothing new starts: a job that waits has not started."""
    house.sink.down = True
    job = house.post(SWAP, Prefer="respond-async").get_json()["job"]
    house.sink.down = False
    book.put("acme", state="suspended")
    assert house.send(requested(job, house.books)).status_code == 204
    ending = ledger.record(ACME, job, house.store)
    assert ending is not None
    assert ending.outcome == ledger.REFUSED


def test_who_is_not_in_the_roster_is_nobody(house: House) -> None:
    """A token alone makes no tenant, nor does a bucket or a signature."""
    answer = house.get("/v1/swaps", tenant="umbra")
    assert (answer.status_code, slug(answer)) == (403, "unknown-tenant")
    body = msgspec.json.encode(SWAP)
    assert house.upload("j1", body, bucket="umbra").status_code == 204
    event = requested("j1", books_of(house, "umbra"))
    assert house.send(event).status_code == 403
    assert house.engine.calls == []


def test_an_operation_that_a_tenant_may_not_is_refused_on_both_ways_in(
    house: House, book: Book
) -> None:
    """At the door with 403; of an upload the job ends as refused."""
    book.specs["acme"] = Spec(id="acme", policy=Policy(operations=("anonymize",)))
    assert house.post(DETECT).status_code == 403
    house.upload("j1", DETECT)
    ending = ledger.record(ACME, "j1", house.store)
    assert ending is not None
    assert ending.outcome == ledger.REFUSED
