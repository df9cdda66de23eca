"""Ticks that anybody can make up where the cluster's own tokens are off.

Nobody signs a tick, and who reaches billing may send one for any tenant, as who reaches
a tenant's broker may, too.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import pytest

from functions import events
from functions.billing import budgeting, closing, measuring
from functions.billing.app import create_app
from functions.billing.budgets import Budget, Watch
from functions.billing.invoice import Period
from functions.billing.ledger import Ledger
from functions.events import Event
from functions.keys import BILLING, FileKeys, events_key
from functions.problems import Unavailable
from functions.storage import Info, Page, Stores
from functions.storage.memory import MemoryStore
from functions.tenant import BUDGET, Key
from tests.billing.house import NOW, TokensByName, usage_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

TENANTS: Final = ("acme", *(f"t{number}" for number in range(measuring.AT_ONCE_MAX)))
YESTERDAY: Final = datetime(2026, 11, 20, 6, tzinfo=UTC)
MONTH: Final = Period(2026, 11)


class Shelf(MemoryStore):
    """A store of objects with given times, whose listing can be made to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.written = [YESTERDAY]
        self.listed = 0
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        assert (prefix, cursor, limit) == ("", "", 1000)
        self.listed += 1
        self.begun.set()
        assert self.go.wait(30)
        return Page(
            tuple(
                Info(Key(f"k{number}"), 2**30, 1, when.timestamp())
                for number, when in enumerate(self.written)
            ),
            "",
        )


@dataclass
class Square:
    """Billing without the cluster's tokens, and the tenants whose keys it has."""

    ledger: Ledger
    keys: FileKeys
    shelves: dict[str, Shelf] = field(default_factory=dict)
    now: datetime = NOW

    def open(self) -> FlaskClient:
        stores = Stores("memory://{tenant}", opener=self._shelf)
        return create_app(
            ledger=self.ledger,
            keys=self.keys,
            authenticator=TokensByName(),
            stores=stores,
            watch=Watch(
                budget_of=lambda who: budgeting.budget_of(self.ledger, who),
                spent=lambda _who, _month: Decimal(60),
                stores=stores,
                keys=self.keys,
                month=lambda: str(MONTH),
            ),
            now=lambda: self.now,
        ).test_client()

    def _shelf(self, url: str) -> Shelf:
        return self.shelves.setdefault(url.removeprefix("memory://"), Shelf())

    @property
    def acme(self) -> Shelf:
        return self._shelf("acme")


@pytest.fixture
def square(tmp_path: Path) -> Iterator[Square]:
    """Return what a stranger finds."""
    keys = FileKeys(tmp_path / "keys")
    for name in (BILLING, *map(events_key, TENANTS)):
        keys.create(name)
    ledger = Ledger.open(f"sqlite:///{tmp_path}/billing.db")
    yield Square(ledger, keys)
    ledger.close()


@pytest.fixture
def client(square: Square) -> FlaskClient:
    """Return billing's door."""
    return square.open()


def tick(
    client: FlaskClient,
    tenant: str = "acme",
    time: str = "2026-11-21T00:17:00Z",
    source: str = "/anybody",
) -> TestResponse:
    """Send what a PingSource sends, as whoever likes can."""
    event = Event(id="p", source=source, type=events.PING, time=time)
    headers, body = events.encode(event)
    return client.post(f"/v1/tenants/{tenant}/ticks", headers=headers, data=body)


def use(client: FlaskClient, square: Square, name: str = "u1") -> TestResponse:
    """Have acme's worker say what it used on 21 November."""
    event = Event(
        id=name,
        source=events.swap_source("acme"),
        type=events.USAGE_RECORDED,
        subject="acme",
        time="2026-11-21T11:00:00.000Z",
        tenant="acme",
        data=usage_data(),
    )
    signed = events.sign(event, square.keys.signer(events_key("acme")))
    headers, body = events.encode(signed)
    return client.post("/v1/tenants/acme/events", headers=headers, data=body)


def counted(client: FlaskClient, since: str = "1970-01-01T00:00:00Z") -> int:
    """Return how many events acme finds counted."""
    path = f"/v1/tenants/acme/usage?from={since}&to=2027-01-01T00:00:00Z"
    shown = client.get(path, headers={"Authorization": "Bearer acme"})
    return int(shown.get_json()["total"]["events"])


@pytest.mark.parametrize(
    "time",
    [
        "1971-01-02T00:17:00Z",
        "2026-10-02T00:17:00Z",
        "2026-11-19T23:59:59.999Z",
        "2026-11-22T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_attack_tick_of_another_day(
    client: FlaskClient, square: Square, time: str
) -> None:
    """Billing's own clock says which day it is: else nothing is listed, or counted."""
    answer = tick(client, time=time)
    assert answer.status_code == 400
    assert square.acme.listed == 0
    assert closing.tenants(square.ledger) == []


def test_attack_tick_of_a_month_that_is_closed(square: Square) -> None:
    """Whatever the clock of who closed it said: its invoice has it as it is."""
    square.now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    client = square.open()
    closing.close(square.ledger, "acme", Period(2026, 10), NOW)
    assert tick(client, time="2026-11-01T00:17:00Z").status_code == 400
    assert square.acme.listed == 0


def test_attack_tick_of_a_day_before_the_tenant_was(
    client: FlaskClient, square: Square
) -> None:
    """No month without usage begins to owe a minimum, or has to be closed first."""
    square.now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    square.acme.written = [square.now - timedelta(hours=1)]
    early = tick(client, time="2026-11-01T00:17:00Z")
    again = tick(client, time="2026-11-01T00:17:00Z")
    assert (early.status_code, again.status_code) == (204, 204)
    assert square.acme.listed == 1
    square.now = NOW
    assert use(client, square).status_code == 204
    after = MONTH.stop_ms // 1000 + 9 * 86_400
    closing.close(square.ledger, "acme", MONTH, datetime.fromtimestamp(after, UTC))
    assert counted(client) == 1


def test_attack_tick_that_asks_what_a_tenant_has(
    client: FlaskClient, square: Square
) -> None:
    """It is counted, for acme to see; who asked hears no figure, and sees no event."""
    answer = tick(client)
    assert (answer.status_code, answer.data) == (204, b"")
    assert not [name for name, _ in answer.headers if name.lower().startswith("ce-")]
    assert counted(client) == square.acme.listed == 1


def test_attack_ticks_of_a_day_that_is_counted(
    client: FlaskClient, square: Square
) -> None:
    """Nothing is listed, and nothing counted, a second time, whoever it comes from."""
    first = tick(client)
    square.acme.written.append(YESTERDAY)
    for source in ("/a", "/b", "/c"):
        again = tick(client, source=source, time="2026-11-21T11:59:00Z")
        assert (again.status_code, again.data) == (first.status_code, first.data)
    assert counted(client) == square.acme.listed == 1


def test_attack_tick_of_no_tenant(client: FlaskClient, square: Square) -> None:
    """No account is opened for a name that billing has no key of; nor is it told."""
    answer, known = tick(client, "nowhere"), tick(client)
    assert (answer.status_code, answer.data) == (known.status_code, known.data)
    assert "nowhere" not in square.shelves
    assert closing.tenants(square.ledger) == ["acme"]


def test_attack_tick_that_moves_a_budget(client: FlaskClient, square: Square) -> None:
    """The brake is set at once; how it stands is told with acme's own next usage."""
    budget = Budget(tenant="acme", currency="USD", limit=Decimal(50), hard=True)
    budgeting.set_budget(square.ledger, "acme", budget)
    answer = tick(client)
    assert (answer.status_code, answer.data) == (204, b"")
    assert b'"exhausted":true' in square.acme.get(BUDGET).data
    told = use(client, square)
    assert told.headers["ce-type"] == events.BUDGET_CHANGED
    assert use(client, square).data == told.data
    assert use(client, square, "u2").status_code == 204


def test_a_day_is_counted_whatever_becomes_of_its_budget(
    client: FlaskClient, square: Square, caplog: pytest.LogCaptureFixture
) -> None:
    """A tick that a broker brings again would find it counted."""

    class Broken(Shelf):
        def get(self, key: Key, **_: object) -> None:  # type: ignore[override]  # no answer
            raise Unavailable(internal=f"no {key}")

    square.shelves["acme"] = Broken()
    budget = Budget(tenant="acme", currency="USD", limit=Decimal(50))
    budgeting.set_budget(square.ledger, "acme", budget)
    assert tick(client).status_code == 204
    assert counted(client) == 1
    assert "the budget of acme" in caplog.text


@contextmanager
def measured(client: FlaskClient, square: Square, *tenants: str) -> Iterator[None]:
    """Have a tick of each tenant list a store that does not answer, meanwhile."""
    with ExitStack() as held:
        for tenant in tenants:
            shelf = square.shelves[tenant] = Shelf()
            shelf.go.clear()
            own = client.application.test_client()
            thread = threading.Thread(target=tick, args=(own, tenant))
            thread.start()
            held.callback(thread.join, 30)
            held.callback(shelf.go.set)
            assert shelf.begun.wait(10)
        yield


def test_attack_ticks_while_a_store_is_listed(
    client: FlaskClient, square: Square
) -> None:
    """503, and the broker comes again: no tenant is listed twice at a time."""
    with measured(client, square, "acme"):
        refused = tick(client)
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert tick(client, "t1").status_code == 204
    assert square.acme.listed == 1
    assert tick(client).status_code == 204
    assert counted(client) == 1


def test_attack_ticks_of_every_tenant_at_once(
    client: FlaskClient, square: Square
) -> None:
    """Few stores are listed at a time, and usage is counted meanwhile."""
    with measured(client, square, *TENANTS[1:]):
        assert tick(client).status_code == 503
        assert square.acme.listed == 0
        assert use(client, square).status_code == 204
    assert tick(client).status_code == 204
    assert counted(client) == 2
