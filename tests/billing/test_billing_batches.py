"""Batches of usage: all of a batch is counted, or none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.events import BATCH, BATCH_EVENTS_MAX, Event
from tests.billing.house import BOTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from werkzeug.test import TestResponse

    from tests.billing.house import House

DATABASES = BOTH


def post(house: House, batch: Iterable[Event], tenant: str = "acme") -> TestResponse:
    """Post events in one request to a tenant's door."""
    return send(house, [events.as_dict(event) for event in batch], tenant)


def send(house: House, document: Any, tenant: str = "acme") -> TestResponse:
    """Post any JSON as a batch."""
    path = f"/v1/tenants/{tenant}/events"
    body = msgspec.json.encode(document)
    return house.client.post(path, data=body, content_type=f"{BATCH}; charset=utf-8")


def test_a_batch_is_counted_event_by_event(house: House) -> None:
    """A hundred events are a hundred uses, whatever of them came before."""
    house.post(house.event("u7"))
    batch = [house.event(f"u{each}") for each in range(100)]
    assert post(house, batch).status_code == 204
    assert post(house, [*batch, house.event("u100"), batch[0]]).status_code == 204
    assert house.total()["events"] == 101


def test_an_empty_batch_is_done(house: House) -> None:
    """There is nothing to count."""
    assert post(house, []).status_code == 204


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (400, {"lease_ms": -1}),
        (400, {"attributes": {"time": "2026-11-21T12:06:00Z"}}),
        (400, {"attributes": {"type": events.SWAP_STARTED}}),
        (403, {"attributes": {"subject": "other"}}),
        (403, {"tenant": "other"}),
    ],
)
def test_a_batch_with_one_bad_event_counts_nothing(
    house: House, status: int, changes: dict[str, Any]
) -> None:
    """The refusal names it, so that the rest can be sent again without it."""
    batch = [house.event("u1"), house.event("u2"), house.event("u3", **changes)]
    answer = post(house, batch)
    assert answer.status_code == status
    if status == 400:
        assert answer.get_json()["detail"].startswith("event 2 of the batch: ")
    assert house.total()["events"] == 0


def test_attack_one_forged_event_among_good_ones(house: House) -> None:
    """A signature is of one event: nobody's stands for his neighbours'."""
    forged = events.as_dict(house.event("u2")) | {"data": {"gpu_seconds": "0"}}
    answer = send(house, [events.as_dict(house.event("u1")), forged])
    assert answer.status_code == 403
    assert house.total()["events"] == 0


@pytest.mark.parametrize("document", [{}, "x", None, [1], [None], [{}]])
def test_what_is_no_batch_is_malformed(house: House, document: object) -> None:
    """A broker drops it; it does not come again."""
    assert send(house, document).status_code == 400


def test_a_batch_has_a_limit(house: House) -> None:
    """In events and in bytes; and a single event keeps its own."""
    assert send(house, [{}] * (BATCH_EVENTS_MAX + 1)).status_code == 400
    assert send(house, ["x" * events.BATCH_BYTES_MAX]).status_code == 400
    one = events.as_dict(house.event()) | {"extra": "x" * 65_535}
    path = "/v1/tenants/acme/events"
    media = "application/cloudevents+json"
    answer = house.client.post(path, data=msgspec.json.encode(one), content_type=media)
    assert answer.status_code == 400
    assert house.total()["events"] == 0
