"""Budgets: when they change, who is told, and that nobody can turn them back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions import events
from functions.billing import budgets
from functions.billing.app import create_app
from functions.billing.budgets import Budget, State, Watch, decide
from functions.keys import BILLING, MemoryKeys
from functions.problems import Changed, Failed, InvalidRequest, Unavailable
from functions.storage import Stores
from functions.storage.memory import MemoryStore
from functions.tenant import BUDGET, Tenant
from tests.billing.house import TokensByName, clock

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from functions.events import Event
    from functions.problems import Problem
    from functions.storage import Object
    from functions.tenant import Key
    from tests.billing.house import House

ACME = Tenant("acme")
HUNDRED = Budget(
    tenant="acme", currency="USD", limit=Decimal(100), alerts=(50, 80, 100), hard=True
)


@dataclass
class Books:
    """What a tenant has and has spent, and the store it stands in."""

    budget: Budget | None = HUNDRED
    spent: Decimal = Decimal(0)
    month: str = "2026-11"
    now: float = 0.0
    asked: int = 0
    store: MemoryStore = field(default_factory=MemoryStore)
    keys: MemoryKeys = field(default_factory=MemoryKeys)

    def watch(self) -> Watch:
        return Watch(
            budget_of=lambda _: self.budget,
            spent=self._spent,
            stores=Stores("memory://{tenant}", opener=lambda _: self.store),
            keys=self.keys,
            month=lambda: self.month,
            clock=lambda: self.now,
        )

    def _spent(self, tenant: str, month: str) -> Decimal:
        assert (tenant, month) == ("acme", self.month)
        self.asked += 1
        return self.spent

    def state(self) -> State | None:
        return budgets.current(ACME, self.store, self.keys).state


@pytest.mark.parametrize(
    ("spent", "crossed", "exhausted"),
    [
        ("0", (), False),
        ("49.999999999999", (), False),
        ("50", (50,), False),
        ("99.99", (50, 80), False),
        ("100", (50, 80, 100), True),
        ("1000", (50, 80, 100), True),
    ],
)
def test_a_threshold_is_crossed_at_exactly_its_percentage(
    spent: str,
    crossed: tuple[int, ...],
    exhausted: bool,  # noqa: FBT001  # a column of the table
) -> None:
    """To the last of twelve decimals."""
    state = decide(HUNDRED, "2026-11", Decimal(spent))
    assert (state.crossed, state.exhausted) == (crossed, exhausted)
    assert (state.spent, state.limit) == (spent, "100")


@given(st.decimals(0, 10**6, places=9), st.decimals(0, 10**6, places=9))
def test_who_spends_more_has_crossed_no_less(a: Decimal, b: Decimal) -> None:
    """Whatever the amounts."""
    less, more = (decide(HUNDRED, "2026-11", each) for each in sorted((a, b)))
    assert set(less.crossed) <= set(more.crossed)
    assert less.exhausted <= more.exhausted


def test_a_budget_of_nothing_is_used_up_from_the_start() -> None:
    """Zero is a limit too."""
    nothing = Budget(tenant="acme", currency="USD", limit=Decimal(0), hard=True)
    assert decide(nothing, "2026-11", Decimal(0)).exhausted


@pytest.mark.parametrize(
    ("limit", "alerts", "currency"),
    [
        ("-1", "50", "USD"),
        ("1e3", "50", "USD"),
        ("NaN", "50", "USD"),
        ("1.00001", "50", "USD"),
        ("01", "50", "USD"),
        ("100", "0", "USD"),
        ("100", "80,50", "USD"),
        ("100", "50,50", "USD"),
        ("100", "half", "USD"),
        ("100", "1001", "USD"),
        ("100", "1,2,3,4,5,6,7,8,9,10,11", "USD"),
        ("100", "50", "usd"),
    ],
)
def test_a_budget_nobody_could_mean_is_refused(
    limit: str, alerts: str, currency: str
) -> None:
    """Before it is written anywhere."""
    with pytest.raises(InvalidRequest):
        Budget.parse(ACME, limit=limit, alerts=alerts, hard=True, currency=currency)


def test_a_budget_without_alerts_still_has_its_limit() -> None:
    """An empty list is a list."""
    made = Budget.parse(ACME, limit="100.00", alerts="", hard=True, currency="EUR")
    assert (made.limit, made.alerts, made.hard) == (Decimal("100.00"), (), True)


def test_a_budget_in_no_form_of_money_is_refused() -> None:
    """Nor is one made by hand any exception."""
    with pytest.raises(InvalidRequest):
        Budget(tenant="acme", currency="USD", limit=Decimal("1e-9"))


def test_what_crosses_a_threshold_is_written_and_told_once() -> None:
    """Signed by billing, in the tenant's store; and silence until the next change."""
    books = Books()
    watch = books.watch()
    first = watch.look(ACME, "e1")
    assert first is not None
    assert first.data["crossed"] == []
    books.spent = Decimal(49)
    assert watch.look(ACME, "e2") is None
    books.spent = Decimal(81)
    second = watch.look(ACME, "e3")
    assert second is not None
    assert second.data["crossed"] == [50, 80]
    assert second.id != first.id
    assert (second.type, second.subject) == (events.BUDGET_CHANGED, "acme")
    assert second.source == "/tenants/acme/billing"
    events.verify(second, books.keys.verifiers(BILLING))
    state = books.state()
    assert state is not None
    assert state.spent == "81"


def test_an_answer_that_was_lost_is_given_again() -> None:
    """A broker that asks again of the same usage gets the same event, verbatim."""
    books = Books()
    watch = books.watch()
    told = watch.after(ACME, "e1")
    assert told is not None
    assert watch.after(ACME, "e1", again=True) == told
    assert watch.after(ACME, "e0", again=True) is None


def test_a_new_month_begins_a_new_budget() -> None:
    """What was exhausted is not any more."""
    books = Books(spent=Decimal(100))
    watch = books.watch()
    watch.look(ACME)
    books.month, books.spent = "2026-12", Decimal("0.01")
    told = watch.look(ACME)
    assert told is not None
    assert (told.data["period"], told.data["exhausted"]) == ("2026-12", False)


def test_a_limit_that_is_raised_and_lowered_again_is_told_each_time() -> None:
    """The same state, come to by another way, is another event."""
    books = Books()
    watch = books.watch()
    ids = []
    for limit in (100, 200, 100):
        books.budget = Budget(tenant="acme", currency="USD", limit=Decimal(limit))
        told = watch.look(ACME)
        assert told is not None
        ids.append(told.id)
    assert len(set(ids)) == 3


def test_no_budget_costs_no_question() -> None:
    """Nor is anything written."""
    books = Books(budget=None)
    assert books.watch().look(ACME, "e1") is None
    assert books.asked == 0
    assert books.store.list(BUDGET).objects == ()


def test_a_budget_that_is_lifted_leaves_nothing() -> None:
    """And again is no fault."""
    books = Books()
    books.watch().look(ACME)
    budgets.lift(ACME, books.store)
    budgets.lift(ACME, books.store)
    assert books.state() is None


def test_in_a_rush_the_sum_is_asked_for_every_few_seconds() -> None:
    """A thousand events a second do not sum a month a thousand times."""
    books = Books()
    watch = books.watch()
    for number in range(100):
        watch.after(ACME, f"e{number}")
    assert books.asked == 1
    books.now += budgets.LOOK_SECONDS
    watch.after(ACME, "later")
    assert books.asked == 2


def _forge(books: Books) -> bytes:
    told = books.watch().look(ACME)
    assert told is not None
    document = events.as_dict(told)
    document["data"] = {**document["data"], "limit": "1000000"}
    return msgspec.json.encode({"event": document})


def _elsewhere(books: Books) -> bytes:
    other = Tenant("umbrella")
    event = budgets.changed(
        other,
        decide(HUNDRED, books.month, Decimal(0)),
        budgets.Kept(),
        books.keys,
    )
    return msgspec.json.encode({"event": events.as_dict(event)})


@pytest.mark.parametrize(
    "forge",
    [_forge, _elsewhere, lambda _: b"{", lambda _: b"{}", lambda _: b" " * 70_000],
)
def test_what_is_not_billing_s_word_is_written_over(forge: object) -> None:
    """A tenant that wrote what it may not finds the truth there a moment later."""
    books = Books()
    books.store.put(BUDGET, forge(books))  # type: ignore[operator]  # a function
    assert books.state() is None
    assert books.watch().look(ACME) is not None
    state = books.state()
    assert state is not None
    assert state.limit == "100"


class Contested(MemoryStore):
    """A store in which somebody else writes first, some times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        if self.times:
            self.times -= 1
            self.put(key, b"theirs")
            raise Changed
        return super().put_if_match(key, data, generation)


def test_who_loses_the_race_looks_again() -> None:
    """And sums again, so that no older sum ends up on top."""
    books = Books(store=Contested(2))
    assert books.watch().look(ACME) is not None
    assert books.asked == 3


def test_who_loses_for_ever_says_so() -> None:
    """503: the usage is counted, and the broker asks again."""
    with pytest.raises(Unavailable):
        Books(store=Contested(99)).watch().look(ACME)


def test_many_at_once_never_turn_the_state_back() -> None:
    """Eight processes, spending that rises: what stands last is the highest."""
    books = Books()
    lock, total = threading.Lock(), 0

    def spent(_tenant: str, _month: str) -> Decimal:
        return Decimal(total)

    def work() -> None:
        nonlocal total
        watch = Watch(
            budget_of=lambda _: HUNDRED,
            spent=spent,
            stores=Stores("memory://{tenant}", opener=lambda _: books.store),
            keys=books.keys,
            month=lambda: books.month,
        )
        for _ in range(15):
            with lock:
                total += 1
            watch.look(ACME)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = books.state()
    assert state is not None
    assert state.exhausted
    assert state.crossed == (50, 80, 100)


def told(house: House, watch: Watch) -> FlaskClient:
    """Return the door of the house's billing, with budgets."""
    app = create_app(
        ledger=house.ledger,
        keys=house.keys,
        authenticator=TokensByName(),
        watch=watch,
        now=clock,
    )
    return app.test_client()


def post(client: FlaskClient, event: Event) -> TestResponse:
    headers, body = events.encode(event)
    return client.post("/v1/tenants/acme/events", headers=headers, data=body)


def test_who_delivers_usage_is_answered_with_the_budget_s_change(house: House) -> None:
    """The broker takes the reply in; the same usage again gets it again, verbatim."""
    books = Books(keys=house.keys, spent=Decimal(60))
    client = told(house, books.watch())
    answers = [post(client, house.event()) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    first, again = (events.decode(dict(a.headers), a.data) for a in answers)
    assert first == again
    events.verify(first, house.keys.verifiers(BILLING))
    assert first.data["crossed"] == [50]
    assert post(client, house.event("u2")).status_code == 204
    assert house.total()["events"] == 2


class Shut(MemoryStore):
    """A store that is away, or shut for good."""

    def __init__(self, fault: Problem) -> None:
        super().__init__()
        self.fault = fault

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        raise self.fault


@pytest.mark.parametrize(("fault", "status"), [(Unavailable(), 503), (Failed(), 204)])
def test_usage_is_counted_whatever_becomes_of_the_budget(
    house: House, fault: Problem, status: int
) -> None:
    """A store that is away is asked again; one that never answers stops nobody."""
    client = told(house, Books(keys=house.keys, store=Shut(fault)).watch())
    assert post(client, house.event()).status_code == status
    assert house.total()["events"] == 1
