"""Reading: usage with its price, invoices, and who may see them."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions import events
from functions.auth import BILLING_READ, TokenAuthenticator, issue_token, jwks_document
from functions.billing.app import create_app
from functions.billing.ledger import GROUPS_MAX, Ledger
from functions.billing.usage import usage_of
from tests.billing.house import BOTH, NOW, usage_data

if TYPE_CHECKING:
    from pathlib import Path

    from tests.billing.house import House

DATABASES = BOTH


def test_one_swap_has_a_price_that_is_not_zero(house: House) -> None:
    """Usage is priced exactly: rounding is the invoice's business."""
    house.post(house.event())
    total = house.total()
    # 0.136 s x 0.000222 + 0.412 s x 0.000024 + 1 x 0.0004
    assert total["amount"] == "0.00044008"
    assert [each["sku"] for each in total["charges"]] == [
        "cpu.exec",
        "gpu.exec",
        "gpu.load",
        "request",
    ]
    assert sum(Decimal(each["amount"]) for each in total["charges"]) == Decimal(
        total["amount"],
    )


def test_usage_says_what_was_measured(house: House) -> None:
    """Sums of what the worker reported, seconds with milliseconds."""
    house.post(house.event("a"))
    house.post(house.event("b", gpu_seconds="0", cpu_seconds="1.5", faces=3))
    shown = house.get("usage").get_json()
    assert (shown["tenant"], shown["currency"], shown["by"]) == ("acme", "USD", "")
    total = shown["total"]
    charges, amount = total.pop("charges"), total.pop("amount")
    assert total == {
        "events": 2,
        "billed_events": 2,
        "lease_ms": 272,
        "load_ms": 1400,
        "requests": 2,
        "faces": 5,
        "frames": 2,
        "input_bytes": 2000,
        "output_bytes": 1000,
        "gpu_seconds": "0.136",
        "cpu_seconds": "1.912",
        "byte_hours": "0",
        "gib_months": "0.000000",
    }
    assert charges
    assert amount == "0.00087608"


def test_our_own_errors_are_measured_and_not_billed(house: House) -> None:
    """What is not billable is in the sums and in no charge."""
    house.post(house.event("a", outcome="failed", billable=False))
    total = house.total()
    assert (total["events"], total["billed_events"]) == (1, 0)
    assert total["gpu_seconds"] == "0.136"
    assert (total["charges"], total["amount"]) == ([], "0")


def test_nothing_used_is_nothing_owed(house: House) -> None:
    """A tenant who never swapped gets zeros and an empty invoice."""
    total = house.total()
    assert (total["events"], total["amount"], total["gpu_seconds"]) == (0, "0", "0.000")
    invoice = house.get("invoices/2026-11").get_json()
    assert (invoice["lines"], invoice["total_minor"]) == ([], 0)


def test_usage_is_grouped(house: House) -> None:
    """By day, by operation, by device or by job; the groups add up to the total."""
    house.post(house.event("a"))
    house.post(
        house.event(
            "b",
            attributes={"time": "2026-11-20T23:59:59.999Z"},
            job="job-2",
            operation="anonymize",
            device={**usage_data()["device"], "name": "H100"},
        ),
    )
    expected = {
        "day": ["2026-11-20", "2026-11-21"],
        "operation": ["anonymize", "swap"],
        "device": ["H100", "L4"],
        "job": ["job-1", "job-2"],
    }
    for by, names in expected.items():
        shown = house.get(f"usage?by={by}").get_json()
        assert [each["group"] for each in shown["groups"]] == names
        parts = [Decimal(each["amount"]) for each in shown["groups"]]
        assert sum(parts) == Decimal(shown["total"]["amount"])


def test_usage_is_of_a_span(house: House) -> None:
    """`from` is in, `to` is not; without them, the current month."""
    for name, moment in (
        ("a", "2026-10-31T23:59:59.999Z"),
        ("b", "2026-11-01T00:00:00.000Z"),
        ("c", "2026-11-10T00:00:00.000Z"),
    ):
        house.post(house.event(name, attributes={"time": moment}))
    assert house.total()["events"] == 2
    spans = {
        "?from=2026-10-01T00:00:00Z": 3,
        "?to=2026-11-10T00:00:00Z": 1,
        "?from=2026-11-01T00:00:00.001Z&to=2026-11-10T00:00:00.001Z": 1,
        "?from=2026-11-01T01:00:00%2B01:00": 2,
    }
    for query, events_ in spans.items():
        assert house.total(query)["events"] == events_


def test_the_answer_says_which_span_it_is_of(house: House) -> None:
    """A reader need not know what the current month is."""
    shown = house.get("usage").get_json()
    assert shown["from"] == "2026-11-01T00:00:00.000Z"
    assert shown["to"] == "2026-12-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "path",
    [
        "usage?by=shoe-size",
        "usage?from=yesterday",
        "usage?from=2026-11-21T00:00:00",
        "usage?from=2026-12-01T00:00:00Z",
        "usage?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z",
        "invoices/november",
        "invoices/2026-13",
    ],
)
def test_what_makes_no_sense_is_invalid(house: House, path: str) -> None:
    """400 with a problem document."""
    answer = house.get(path)
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"


def test_too_many_groups_are_refused(house: House) -> None:
    """An answer has a limit; a cut list would not add up."""
    for each in range(GROUPS_MAX + 1):
        event = house.event(f"u{each}", job=f"job-{each}")
        house.ledger.post(usage_of(event, now=NOW))
    answer = house.get("usage?by=job")
    assert answer.status_code == 400
    assert "shorter time" in answer.get_json()["detail"]
    assert house.total()["events"] == GROUPS_MAX + 1


def test_an_invoice_of_an_open_period_is_a_draft(house: House) -> None:
    """It rounds each line once and adds up what it shows."""
    for each in range(100):
        event = house.event(f"u{each}", gpu_seconds="60", lease_ms=60_000)
        house.ledger.post(usage_of(event, now=NOW))
    invoice = house.get("invoices/2026-11").get_json()
    lines = {line["sku"]: line for line in invoice["lines"]}
    assert (invoice["status"], invoice["period"]) == ("draft", "2026-11")
    assert (invoice["currency"], invoice["events"]["count"]) == ("USD", 100)
    # 6,000 s x 0.000222 = 1.332; 100 x 0.0004 = 0.04; 41.2 s x 0.000024 < 1 cent
    assert lines["gpu.exec"]["amount"] == "1.33"
    assert lines["request"]["amount_minor"] == 4
    assert lines["cpu.exec"]["amount"] == "0.00"
    assert (lines["gpu.load"]["quantity"], lines["gpu.load"]["amount"]) == (
        "70",
        "0.00",
    )
    assert (invoice["total"], invoice["total_minor"]) == ("1.37", 137)


def test_usage_is_billed_in_its_own_month(house: House) -> None:
    """The last millisecond of a month is not in the next."""
    times = {"a": "2026-10-31T23:59:59.999Z", "b": "2026-11-01T00:00:00Z"}
    for name, moment in times.items():
        house.post(house.event(name, attributes={"time": moment}))
    for period in ("2026-10", "2026-11"):
        assert house.get(f"invoices/{period}").get_json()["events"]["count"] == 1


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.integers(0, 10**9),
            st.booleans(),
            st.sampled_from(["2026-10-31T23:59:59.999Z", "2026-11-02T00:00:00Z"]),
        ),
        min_size=1,
        max_size=25,
        unique_by=lambda each: each[0],
    ),
    st.randoms(use_true_random=False),
)
def test_any_order_and_any_duplicates_give_the_same_bytes(
    house: House,
    tmp_path_factory: pytest.TempPathFactory,
    found: list[tuple[int, int, bool, str]],
    dice: Any,
) -> None:
    """The same events give a byte-identical invoice, on another day, elsewhere."""
    delivered = [
        house.event(
            f"u{name}",
            attributes={"time": moment},
            gpu_seconds=f"{ms // 1000}.{ms % 1000:03d}",
            lease_ms=ms,
            billable=billable,
        )
        for name, ms, billable, moment in found
    ]
    shuffled = delivered * 2
    dice.shuffle(shuffled)
    answers = [
        invoices(house, tmp_path_factory.mktemp("ledger"), order)
        for order in (delivered, shuffled)
    ]
    assert answers[0] == answers[1]


def invoices(house: House, folder: Path, order: list[events.Event]) -> list[bytes]:
    ledger = Ledger.open(f"sqlite:///{folder}/billing.db")
    app = create_app(
        ledger=ledger,
        keys=house.keys,
        authenticator=TokensForAcme(),
        now=lambda: NOW,
    )
    for event in order:
        ledger.post(usage_of(event, now=NOW))
    client = app.test_client()
    paths = ("2026-10", "2026-11")
    found = [client.get(f"/v1/tenants/acme/invoices/{each}").data for each in paths]
    ledger.close()
    return found


class TokensForAcme:
    """Everybody is acme's accountant."""

    def caller(self, authorization: str) -> Any:
        """Return the accountant."""
        from tests.billing.house import TokensByName

        return TokensByName().caller("Bearer acme")


@pytest.mark.parametrize("path", ["usage", "usage?by=day", "invoices/2026-11"])
def test_attack_another_tenants_bills(house: House, path: str) -> None:
    """Another tenant's token learns nothing, not even whether there is a bill."""
    house.post(house.event())
    answers = [
        house.get(path, token="other"),  # noqa: S106  # a name, not a secret
        house.get(path, tenant="nowhere"),
    ]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.get_json()["type"] == "urn:guise:problem:not-found"
    assert answers[0].data == answers[1].data


@pytest.mark.parametrize("path", ["usage", "invoices/2026-11"])
def test_attack_a_reader_without_the_scope(house: House, path: str) -> None:
    """A token for something else reads no bills; none at all is 401."""
    answer = house.get(path, token="nobody", tenant="nobody")  # noqa: S106  # a name
    assert answer.status_code == 403
    assert house.client.get(f"/v1/tenants/acme/{path}").status_code == 401


def test_one_tenants_usage_is_not_in_anothers(house: House) -> None:
    """The same id in two tenants is two events and two bills."""
    house.post(house.event("a"))
    house.post(house.event("a", tenant="other"), tenant="other")
    house.post(house.event("b", tenant="other"), tenant="other")
    assert house.total()["events"] == 1
    theirs = house.get("usage", tenant="other", token="other")  # noqa: S106  # as above
    assert theirs.get_json()["total"]["events"] == 2


def test_a_real_token_reads_the_bills(house: House, tmp_path: Path) -> None:
    """The door takes JWTs of the configured issuer."""
    issuer = house.keys.signer("tokens")
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(events.canonical(jwks_document(issuer)))
    claims = {
        "iss": "guise",
        "aud": "guise",
        "sub": "accountant",
        "tenant": "acme",
        "scope": BILLING_READ,
        "exp": int(time.time()) + 60,
    }
    authenticator = TokenAuthenticator(jwks, issuer="guise", audience="guise")
    app = create_app(ledger=house.ledger, keys=house.keys, authenticator=authenticator)
    header = {"Authorization": f"Bearer {issue_token(issuer, claims)}"}
    path = "/v1/tenants/acme/usage"
    assert app.test_client().get(path, headers=header).status_code == 200
