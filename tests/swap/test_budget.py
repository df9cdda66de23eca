"""Budgets at admission: billing's signed word in the tenant's store, and no call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from functions import events
from functions.events import Event
from functions.keys import BILLING, MemoryKeys, events_key
from functions.swap import ledger
from functions.tenant import BUDGET
from tests.swap.house import ACME, SWAP, House

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.keys import Signer

TYPE = "urn:guise:problem:over-budget"


def said(signer: Signer, tenant: str = "acme", **changes: Any) -> dict[str, Any]:
    """Return what billing says of a budget, as it stands in the store."""
    state: dict[str, Any] = {
        "period": events.now()[:7],
        "currency": "USD",
        "limit": "100.00",
        "spent": "101.5",
        "hard": True,
        "alerts": [50, 100],
        "crossed": [50, 100],
        "exhausted": True,
    }
    event = Event(
        id="b1",
        source=events.billing_source(tenant),
        type=events.BUDGET_CHANGED,
        subject=tenant,
        time=events.now(),
        tenant=tenant,
        data=state | changes,
    )
    return events.as_dict(events.sign(event, signer))


def budget(
    house: House, document: dict[str, Any] | None = None, **changes: Any
) -> None:
    """Put what billing says of a budget into the tenant's store."""
    document = document or said(house.keys.signer(BILLING), **changes)
    house.store.put(BUDGET, msgspec.json.encode({"event": document, "cause": "x"}))


def test_a_hard_budget_that_is_used_up_lets_nothing_in(house: House) -> None:
    """402 with the reason; the refusal is on record, no job begins, nobody is woken."""
    budget(house)
    answer = house.post(SWAP)
    assert answer.status_code == 402
    document = answer.get_json()
    assert document["type"] == TYPE
    assert "100.00 USD" in document["detail"]
    assert "101.5" not in document["detail"]
    assert house.calls == 0
    [refused] = house.sink.taken
    assert (refused.type, refused.data["reason"]) == (events.SWAP_REFUSED, TYPE)


def test_an_upload_over_a_hard_budget_ends_as_refused(house: House) -> None:
    """The worker goes by the same word, and the job's record says why."""
    budget(house)
    assert house.upload("j1", SWAP).status_code == 204
    ending = ledger.record(ACME, "j1", house.store)
    assert ending is not None
    assert ending.outcome == ledger.REFUSED
    assert ending.problem is not None
    assert (ending.problem["type"], ending.problem["status"]) == (TYPE, 402)
    assert events.SWAP_REFUSED in house.sink.types()


def test_a_job_that_waited_while_the_budget_was_used_up_is_refused(
    house: House,
) -> None:
    """What stands when it begins is what counts, as with a consent."""
    house.worker_down = True
    assert house.post(SWAP, Idempotency_Key="k").status_code == 202
    budget(house)
    house.worker_down = False
    assert house.post(SWAP, Idempotency_Key="k").status_code == 402
    assert house.engine.calls == []


@pytest.mark.parametrize(
    "changes",
    [
        {"hard": False},
        {"exhausted": False, "crossed": [50]},
        {"period": "2020-01"},
        {"period": "2999-12"},
    ],
)
def test_a_budget_that_does_not_bind_lets_jobs_in(
    house: House, changes: dict[str, Any]
) -> None:
    """Soft, not yet reached, or of another month."""
    budget(house, **changes)
    assert house.post(SWAP).status_code == 201


def test_without_a_budget_jobs_go_in(house: House) -> None:
    """No object is no budget."""
    assert house.post(SWAP).status_code == 201


def test_a_budget_may_say_more_than_we_know(house: House) -> None:
    """A newer billing is understood."""
    budget(house, hard=False, forecast="200")
    assert house.post(SWAP).status_code == 201


FORGED: Final[dict[str, Callable[[MemoryKeys], dict[str, Any]]]] = {
    "a tenant's own key": lambda keys: said(keys.signer(events_key("acme"))),
    "a key of nobody here": lambda _: said(MemoryKeys().signer(BILLING)),
    "another tenant's": lambda keys: said(keys.signer(BILLING), tenant="umbrella"),
    "no signature": lambda keys: {**said(keys.signer(BILLING)), "sig": ""},
    "another event": lambda keys: {
        **said(keys.signer(BILLING)),
        "type": events.USAGE_RECORDED,
    },
    "more than was signed": lambda keys: {
        **said(keys.signer(BILLING)),
        "data": {**said(keys.signer(BILLING))["data"], "exhausted": False},
    },
    "not a state": lambda keys: said(keys.signer(BILLING), hard="yes"),
    "no event": lambda _: {"x": 1},
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_budget_lets_nothing_run_and_ends_nothing(
    house: House, how: str
) -> None:
    """503, whatever it says: the operator mends it, and then the job runs."""
    budget(house, FORGED[how](house.keys))
    answer = house.post(SWAP, Idempotency_Key="k")
    assert answer.status_code == 503
    assert b"budget" not in answer.data
    assert house.sink.taken == []
    house.store.delete(BUDGET)
    assert house.post(SWAP, Idempotency_Key="k").status_code == 201


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"event": 1}', b" " * 70_000]
)
def test_a_budget_that_cannot_be_read_lets_nothing_run(
    house: House, data: bytes
) -> None:
    """An upload is tried again, and is none of the dead letters' yet."""
    house.store.put(BUDGET, data)
    assert house.upload("j1", SWAP).status_code == 503
    assert ledger.record(ACME, "j1", house.store) is None
