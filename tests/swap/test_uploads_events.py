"""Uploads as each service tells of them: what the worker does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.problems import (
    Forbidden,
    InvalidRequest,
    Problem,
    Unavailable,
)
from functions.roster import EveryTenant
from functions.settings import Settings
from functions.storage import Stores
from functions.storage.base import StoreBusy, StoreFault
from functions.storage.memory import MemoryStore
from functions.swap import worker
from functions.tenant import RESULTS, Tenant
from tests.swap.house import SWAP, House, finalized, picture
from tests.swap.notices import JSON, NAME, binary, notification, push, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from werkzeug.test import TestResponse

    from functions.swap.pipeline import Loaded
    from functions.tenant import Key

ACME = Tenant("acme")


@pytest.fixture
def house() -> House:
    """Return a swap function with two pictures in acme's store."""
    found = House()
    found.put("a.png", picture(1))
    found.put("b.png", picture(1))
    return found


def asked(house: House, *jobs: str, **more: Any) -> None:
    """Put requests into the store, and tell nobody."""
    for job in jobs:
        house.store.put(ACME.request(job), json.dumps(SWAP | more).encode())


def told(house: House, body: bytes, headers: dict[str, str] = JSON) -> TestResponse:
    return house.worker.post("/events", headers=headers, data=body)


def facts(house: House, kind: str = events.SWAP_COMPLETED) -> int:
    """Return how many events of a kind were sent that say different things."""
    return len({event.id for event in house.sink.taken if event.type == kind})


def sent() -> Iterator[Callable[[House], TestResponse]]:
    """Yield each way in which an upload of `requests/j-1.json` is told."""
    yield lambda house: house.send(finalized(NAME))
    yield lambda house: told(house, notification(record()))
    yield lambda house: told(house, json.dumps(push()).encode())
    yield lambda house: told(
        house, notification(record()), binary("dev.knative.eventing.aws-sqs")
    )
    headers = binary(
        "dev.knative.eventing.aws-s3", source="aws.s3.bucket.acme", subject=NAME
    )
    yield lambda house: told(house, b"{", headers)


@pytest.mark.parametrize("tell", list(sent()))
def test_an_upload_starts_its_job_whoever_tells_of_it(
    house: House, tell: Callable[[House], TestResponse]
) -> None:
    """Once, however often it is told."""
    asked(house, "j-1")
    for _ in range(3):
        answer = tell(house)
        assert (answer.status_code, answer.data) == (204, b"")
    assert facts(house) == 1


def test_each_upload_of_a_notification_is_done(house: House) -> None:
    """Those that are no business of ours between them are passed over."""
    asked(house, "j-1", "j-2")
    body = notification(
        record("requests/j-1.json"),
        record("results/j-1/job.json"),
        record("requests/j-1.json", bucket="No Such Bucket"),
        record("requests/My+Job.json"),
        record("requests/j-2.json"),
    )
    assert told(house, body).status_code == 204
    assert facts(house) == 2
    assert facts(house, events.SWAP_REFUSED) == 1


def test_attack_notice_of_nothing_takes_no_id(house: House) -> None:
    """Whoever says that something was uploaded which is not there says nothing."""
    assert told(house, notification(record())).status_code == 204
    assert house.sink.taken == []
    assert not house.store.list(RESULTS).objects
    asked(house, "j-1")
    assert told(house, notification(record())).status_code == 204
    assert facts(house) == 1


@pytest.mark.parametrize("name", ["results/j/job.json", "uploads/a+b.png", "outbox/j"])
def test_an_object_that_is_no_request_starts_nothing(house: House, name: str) -> None:
    """A result written into the bucket wakes nothing into work."""
    assert told(house, notification(record(name))).status_code == 204
    assert house.sink.taken == []


def test_another_tenants_bucket_is_another_tenants(house: House) -> None:
    """A pinned worker does nothing for it, and has nothing of it come again."""
    pinned = House(tenant=Tenant("globex"))
    assert told(pinned, notification(record())).status_code == 204
    assert pinned.sink.taken == []


def test_an_upload_that_was_overwritten_runs_what_is_there(house: House) -> None:
    """Late, early or twice: one job, made of one request."""
    asked(house, "j-1", source="uploads/gone.png")
    asked(house, "j-1")
    for which in ("1", "2", "1"):
        assert told(house, notification(record(sequencer=which))).status_code == 204
    assert facts(house) == 1
    assert events.SWAP_FAILED not in house.sink.types()


def nothing() -> Loaded:
    """Load nothing: no job gets that far."""
    raise Unavailable


class Broken(MemoryStore):
    """A store that fails where some requests lie."""

    def __init__(self, failures: dict[str, Problem]) -> None:
        super().__init__()
        self.failures = failures
        self.asked: list[Key] = []

    def get(self, key: Key, *, bytes_max: int | None = None) -> Any:
        self.asked.append(key)
        if key in self.failures:
            raise self.failures[key]
        return super().get(key, bytes_max=bytes_max)


@pytest.mark.parametrize(
    ("failures", "status"),
    [
        ([StoreFault(), StoreBusy()], 503),
        ([StoreBusy(), StoreFault()], 503),
        ([StoreFault(), InvalidRequest()], 500),
        ([InvalidRequest(), InvalidRequest()], 204),
    ],
)
def test_the_answer_tells_of_what_may_still_be_done(
    house: House, failures: list[Problem], status: int
) -> None:
    """All were tried; what may pass by itself comes first, what is on record last."""
    names = ["requests/j-1.json", "requests/j-2.json"]
    store = Broken(dict(zip(names, failures, strict=True)))
    client = worker.create_app(
        Settings(),
        stores=Stores("memory://{tenant}", opener=lambda _: store),
        keys=house.keys,
        roster=EveryTenant(),
        auditor=house.auditor,
        sink=house.sink,
        load=nothing,
    ).test_client()
    body = notification(*(record(name) for name in names))
    answer = client.post("/events", headers=JSON, data=body)
    assert answer.status_code == status
    assert [key for key in store.asked if key in names] == names


def test_a_refusal_is_told_after_any_failure() -> None:
    """Were it told first, nothing would come again."""
    failures = [Forbidden(), RuntimeError(), StoreBusy(), StoreFault()]
    found = [type(each) for each in sorted(failures, key=worker._place)]
    assert found == [StoreBusy, RuntimeError, StoreFault, Forbidden]


def test_one_that_fails_keeps_no_other_back(house: House) -> None:
    """And the whole comes again, where what was done is done."""
    house.auditor.down = True
    asked(house, "j-1", "j-2")
    body = notification(record(), record("requests/j-2.json"))
    answer = told(house, body)
    assert answer.status_code == 503
    house.auditor.down = False
    for _ in range(2):
        assert told(house, body).status_code == 204
    assert facts(house) == 2
