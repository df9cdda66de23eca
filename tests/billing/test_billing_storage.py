"""Stored bytes: byte-hours of the day that is over, counted once."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from functions import events
from functions.billing import order, storing
from functions.billing.app import create_app
from functions.billing.books import Books
from functions.billing.ledger import Ledger
from functions.billing.measuring import Measuring
from functions.billing.usage import usage_of
from functions.events import Event
from functions.keys import BILLING, MemoryKeys, events_key
from functions.problems import InvalidRequest, Unavailable
from functions.storage import Info, Page, Stores
from functions.storage.memory import MemoryStore
from functions.tenant import Key, Tenant
from tests.billing.house import NOW, TokensByName, clock
from tests.test_auth_cluster import SET, settings, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

ACME = Tenant("acme")
DAY = date(2026, 11, 20)
BEGINS = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = 3_600


class Written(MemoryStore):
    """A store whose objects were written when somebody says."""

    def __init__(self, objects: list[tuple[int, float]]) -> None:
        super().__init__()
        self.objects = objects
        """The size of each, and the hours after the day began that it was written."""
        self.pages = 0

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        assert prefix == storing.EVERYTHING
        self.pages += 1
        start = int(cursor or 0)
        some = self.objects[start : start + limit]
        infos = tuple(
            Info(Key(f"k{start + n}"), size, 1, BEGINS.timestamp() + hours * HOUR)
            for n, (size, hours) in enumerate(some)
        )
        end = start + limit
        return Page(infos, str(end) if end < len(self.objects) else "")


def test_each_object_counts_for_as_long_of_the_day_as_it_lay_there() -> None:
    """From its last write or the day's beginning; not before it was, nor after."""
    store = Written([(100, -48), (10, 6), (1, 23), (7, 24), (5, 30)])
    measured = storing.measure(store, DAY)
    assert measured == storing.Stored(3, 111, 100 * 24 + 10 * 18 + 1)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(-99, 99)), max_size=8))
def test_no_day_has_more_than_twenty_four_hours(
    objects: list[tuple[int, int]],
) -> None:
    """Whatever was written when: byte-hours are at most bytes x 24."""
    written = [(size, thirds / 3) for size, thirds in objects]
    measured = storing.measure(Written(written), DAY)
    assert 0 <= measured.byte_hours <= measured.bytes * 24


def test_a_store_of_nothing_has_nothing() -> None:
    """And is on record as such."""
    assert storing.measure(MemoryStore(), DAY) == storing.Stored()


def test_many_objects_are_held_a_page_at_a_time() -> None:
    """200,000 objects, 200 pages, under two megabytes."""
    store = Written([(1, -1)] * 200_000)
    tracemalloc.start()
    measured = storing.measure(store, DAY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (measured.objects, store.pages) == (200_000, 200)
    assert peak < 2_000_000


def test_a_listing_that_takes_too_long_is_given_up() -> None:
    """503, before the request would be cut off: the broker comes again."""
    now = iter(range(0, 10**12, 10**11))
    with pytest.raises(Unavailable):
        storing.measure(
            Written([(1, -1)] * 5_000), DAY, seconds_max=150, clock=lambda: next(now)
        )


def ping(time: str = "2026-11-21T00:17:00Z", **changes: Any) -> Event:
    """Return what a PingSource sends."""
    plain: dict[str, Any] = {
        "id": "p1",
        "source": "/apis/v1/namespaces/guise-acme/pingsources/storage",
        "type": events.PING,
        "time": time,
    }
    return Event(**(plain | changes))


@pytest.mark.parametrize(
    ("time", "now", "day"),
    [
        ("2026-11-21T00:17:00Z", "2026-11-21T12:00:00Z", "2026-11-20"),
        ("2026-11-21T23:59:59.999Z", "2026-11-21T23:59:59.999Z", "2026-11-20"),
        ("2026-11-21T01:17:00+02:00", "2026-11-21T12:00:00Z", "2026-11-19"),
        ("2026-11-20T00:00:00Z", "2026-11-21T23:59:59.999Z", "2026-11-19"),
        ("2026-11-21T00:17:00Z", "2026-11-22T01:00:00+02:00", "2026-11-20"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-10-31"),
        ("2026-02-28T23:17:00Z", "2026-03-01T09:00:00Z", "2026-02-27"),
    ],
)
def test_a_tick_asks_for_the_day_before_its_own(time: str, now: str, day: str) -> None:
    """In UTC, if it comes on its day or on the next."""
    clock = datetime.fromisoformat(now)
    assert storing.day_before(ping(time), clock).isoformat() == day


@pytest.mark.parametrize(
    "tick",
    [
        ping(""),
        ping("2026-11-22T00:17:00Z"),
        ping("2026-11-19T23:59:59.999Z"),
        ping("1971-01-02T00:17:00Z"),
        ping(type=events.USAGE_RECORDED),
    ],
)
def test_a_tick_that_asks_for_no_day_is_malformed(tick: Event) -> None:
    """Without a time, of tomorrow or long ago by billing's clock, or of no clock."""
    with pytest.raises(InvalidRequest):
        storing.day_before(tick, NOW)


def test_no_month_is_closed_while_its_last_day_is_measured() -> None:
    """However late the tick comes that is still taken."""
    assert storing.LATE_DAYS_MAX < order.GRACE_DAYS


@dataclass(frozen=True, slots=True)
class Shop:
    """One billing function, and the store of 1 GiB that it measures.

    The cluster's own tokens are on, so it answers who brings a tick.
    """

    client: FlaskClient
    keys: MemoryKeys
    store: Written
    ledger: Ledger

    def tick(self, event: Event | None = None) -> TestResponse:
        return self._send("ticks", event or ping())

    def post(self, event: Event) -> TestResponse:
        return self._send("events", event)

    def _send(self, where: str, event: Event) -> TestResponse:
        headers, body = events.encode(event)
        headers["Authorization"] = f"Bearer {token('guise-billing')}"
        return self.client.post(f"/v1/tenants/acme/{where}", headers=headers, data=body)

    def measured(self) -> Event:
        """Return the event that a tick is answered with."""
        answer = self.tick()
        assert answer.status_code == 200
        return events.decode(dict(answer.headers), answer.data)

    def read(self, path: str) -> dict[str, Any]:
        """Return what the tenant reads."""
        headers = {"Authorization": "Bearer acme"}
        shown = self.client.get(f"/v1/tenants/acme/{path}", headers=headers)
        found: dict[str, Any] = shown.get_json()
        return found

    def total(self) -> dict[str, Any]:
        """Return what is counted, and what it comes to."""
        total: dict[str, Any] = self.read("usage")["total"]
        return total

    def events(self) -> int:
        """Return how many events are counted."""
        return int(self.total()["events"])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return a billing function with an empty ledger."""
    ledger = Ledger.open(f"sqlite:///{tmp_path}/billing.db")
    keys, store = MemoryKeys(), Written([(2**30, -1)])
    (tmp_path / "jwks.json").write_text(SET)
    app = create_app(
        settings(tmp_path / "jwks.json", "guise-billing"),
        ledger=ledger,
        keys=keys,
        authenticator=TokensByName(),
        stores=Stores("memory://{tenant}", opener=lambda _: store),
        now=clock,
    )
    yield Shop(app.test_client(), keys, store, ledger)
    ledger.close()


def test_a_tick_is_answered_with_usage_for_the_broker_to_carry(shop: Shop) -> None:
    """Signed by billing, of the tenant, in the last moment of its day."""
    usage = shop.measured()
    events.verify(usage, shop.keys.verifiers(BILLING))
    assert (usage.type, usage.subject) == (events.USAGE_RECORDED, "acme")
    assert usage.time == "2026-11-20T23:59:59.999Z"
    assert usage.data == {
        "operation": "storage",
        "day": "2026-11-20",
        "byte_hours": str(24 * 2**30),
        "billable": True,
    }


def test_stored_bytes_are_counted_once_however_often_they_are_measured(
    shop: Shop,
) -> None:
    """Twice, or later when more lies there: the first count of a day stands."""
    first = shop.measured()
    shop.store.objects.append((2**20, 1))
    again = shop.measured()
    assert again.id == first.id
    assert again.data != first.data
    assert [shop.post(each).status_code for each in (first, first, again)] == [204] * 3
    assert shop.events() == 1


def test_what_is_counted_is_not_measured_again(shop: Shop) -> None:
    """204 from then on: nothing is listed, and nobody is told."""
    assert shop.post(shop.measured()).status_code == 204
    again = shop.tick(ping("2026-11-21T09:00:00Z", id="p2"))
    assert (again.status_code, again.data, shop.store.pages) == (204, b"", 1)


def test_a_late_tick_counts_the_day_that_it_is_for(shop: Shop) -> None:
    """As well as that of the tick that comes on time."""
    shop.post(shop.measured())
    late = shop.tick(ping("2026-11-20T00:17:00Z"))
    usage = events.decode(dict(late.headers), late.data)
    assert usage.data["day"] == "2026-11-19"
    assert shop.post(usage).status_code == 204
    assert shop.events() == 2


def test_a_store_in_which_nothing_lies_any_more_is_on_record(shop: Shop) -> None:
    """Once the tenant has used something on an earlier day."""
    before = storing.told(ACME, DAY - timedelta(1), storing.Stored(1, 1, 24), shop.keys)
    shop.post(before)
    shop.store.objects.clear()
    usage = shop.measured()
    assert usage.data["byte_hours"] == "0"


def test_many_empty_stores_are_kept_in_mind(shop: Shop) -> None:
    """Whose listing came to nothing is not listed again, as long as few are."""
    books = Books(lambda: shop.ledger, clock)
    stores = Stores("memory://{tenant}", opener=lambda _: shop.store)
    shop.store.objects.clear()
    measuring = Measuring(books, shop.keys, stores, empty_max=2)
    for tenant, pages in (("a", 1), ("a", 1), ("b", 2), ("a", 2), ("c", 3), ("a", 4)):
        assert measuring.usage(ping(), Tenant(tenant)) is None
        assert shop.store.pages == pages


def test_a_gibibyte_that_lay_there_for_a_day_is_billed_as_that(shop: Shop) -> None:
    """24 of the 730 hours of a month, cut off at the sixth decimal."""
    shop.post(shop.measured())
    [charge] = shop.total()["charges"]
    assert (charge["sku"], charge["unit"]) == ("storage", "gib-month")
    assert charge["quantity"] == shop.total()["gib_months"] == "0.032876"


def test_what_older_billing_said_is_counted_too(shop: Shop) -> None:
    """It said what the day had ended with, too; a broker may still have it."""
    told = shop.measured()
    older = replace(told, data={**told.data, "objects": 1, "bytes": 2**30})
    assert shop.post(events.sign(older, shop.keys.signer(BILLING))).status_code == 204
    assert shop.events() == 1


def test_a_tenant_can_write_its_event_down_again(shop: Shop) -> None:
    """From what it reads of its usage alone; the bill's root has the same digest."""
    shop.post(shop.measured())
    shown = shop.read("usage?by=day")
    [group] = shown["groups"]
    names = [shown["tenant"], "storage", group["group"]]
    plain = json.dumps(names, separators=(",", ":")).encode()
    written: dict[str, Any] = {
        "id": hashlib.sha256(plain).hexdigest()[:40],
        "source": "/tenants/acme/billing",
        "type": "dev.guise.usage.recorded.v1",
        "subject": "acme",
        "tenant": "acme",
        "time": f"{group['group']}T23:59:59.999Z",
        "data": {
            "operation": "storage",
            "day": group["group"],
            "byte_hours": group["byte_hours"],
            "billable": True,
        },
    }
    digest = hashlib.sha256(rfc8785.dumps(written)).digest()
    leaf = hashlib.sha256(b"\0" + digest).hexdigest()  # RFC 6962: the root of one
    found = shop.read("invoices/2026-11")["events"]
    assert found == {"count": 1, "root": leaf}


def test_another_day_and_another_tenant_are_other_usage(shop: Shop) -> None:
    """The id follows from the two, and from nothing else."""
    stored = storing.Stored()
    names = {
        storing.told(Tenant(tenant), DAY + timedelta(days), stored, shop.keys).id
        for tenant in ("acme", "umbrella")
        for days in (0, 1)
    }
    assert len(names) == 4


def test_a_tenant_cannot_say_itself_what_it_stores(shop: Shop) -> None:
    """403: of stored bytes only billing's own word counts."""
    own = replace(shop.measured(), sig="", sigkid="")
    forged = events.sign(own, shop.keys.signer(events_key("acme")))
    assert shop.post(forged).status_code == 403
    assert shop.events() == 0


def test_billing_s_key_signs_no_swaps(shop: Shop) -> None:
    """403: usage of a worker is signed by its tenant."""
    usage = replace(shop.measured(), source=events.swap_source("acme"))
    forged = events.sign(usage, shop.keys.signer(BILLING))
    assert shop.post(forged).status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"byte_hours": 1},
        {"byte_hours": "-1"},
        {"byte_hours": "1.5"},
        {"byte_hours": "9" * 19},
        {"day": "yesterday"},
        {"operation": "swap"},
        {"objects": -1},
        {"more": 1},
    ],
)
def test_stored_bytes_that_make_no_sense_are_malformed(
    shop: Shop, changes: dict[str, Any]
) -> None:
    """400, to the dead letters."""
    told = shop.measured()
    event = replace(told, data={**told.data, **changes})
    signed = events.sign(event, shop.keys.signer(BILLING))
    assert shop.post(signed).status_code == 400


def test_stored_bytes_are_read_as_whole_byte_hours(shop: Shop) -> None:
    """More than JSON's numbers hold, and no device."""
    told = shop.measured()
    most = replace(told, data={**told.data, "byte_hours": "9" * 18})
    usage = usage_of(most, now=NOW)
    assert usage.byte_hours == 10**18 - 1
    assert (usage.data.job, usage.data.device.kind) == ("", "none")
    assert (usage.gpu_ms, usage.cpu_ms, usage.data.requests) == (0, 0, 0)


def test_a_tick_that_is_none_is_malformed(shop: Shop) -> None:
    """400, and nothing is listed."""
    assert shop.tick(ping("")).status_code == 400
    assert shop.store.pages == 0


def test_without_stores_there_is_nothing_to_measure(tmp_path: Path) -> None:
    """204: the broker has done what it could."""
    ledger = Ledger.open(f"sqlite:///{tmp_path}/billing.db")
    app = create_app(ledger=ledger, keys=MemoryKeys(), authenticator=TokensByName())
    headers, body = events.encode(ping())
    path = "/v1/tenants/acme/ticks"
    answer = app.test_client().post(path, headers=headers, data=body)
    assert answer.status_code == 204
    ledger.close()
