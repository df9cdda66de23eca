"""One tenant asks audit or billing on and on, by the real doors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.audit import app as audit
from functions.billing import app as billing
from functions.settings import Limits, Settings
from tests.billing.house import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from werkzeug.test import TestResponse

    from tests.attacks.town import Town

SLOW = Settings(limits=Limits(reads_per_second_max=1, reads_burst_max=3))
TRIES_MAX = 60
"""A machine that takes a second for each of so many is too slow for this test."""
SEARCH = {"method": "POST", "json": {"sha256": "00" * 32}}
QUESTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("audit", "log/searches", SEARCH),
    ("audit", "log/proof/0", {}),
    ("audit", "log/entries", {}),
    ("audit", "logs/0/tile/0/000.p/1", {}),
    ("billing", "usage", {}),
    ("billing", "invoices", {}),
    ("billing", "invoices/2026-11", {"headers": {"Accept": "application/pdf"}}),
]


def opened(town: Town, which: str) -> Flask:
    """Return a function of the town's with a rate that is soon used up."""
    keys, authenticator = town.keys, town.authenticator
    if which == "audit":
        log = town.audit.log
        return audit.create_app(SLOW, log=log, keys=keys, authenticator=authenticator)
    return billing.create_app(
        SLOW,
        ledger=town.billing.ledger,
        keys=keys,
        authenticator=authenticator,
        now=clock,
    )


def asking(
    app: Flask, town: Town, path: str, how: dict[str, Any]
) -> Callable[[str], TestResponse]:
    def ask(tenant: str) -> TestResponse:
        bearer = {"Authorization": f"Bearer {town.token(tenant)}"}
        headers = {**bearer, **how.get("headers", {})}
        where = f"/v1/tenants/{tenant}/{path}"
        return app.test_client().open(where, **{**how, "headers": headers})

    return ask


@pytest.mark.parametrize(("which", "path", "how"), QUESTIONS)
def test_attack_questions_without_end(
    fresh: Town, which: str, path: str, how: dict[str, Any]
) -> None:
    """429 with the time after which it is answered; another tenant is, at once."""
    fresh.audit.post(fresh.audit.event())
    ask = asking(opened(fresh, which), fresh, path, how)
    answers = [ask("acme") for _ in range(3)]
    assert 429 not in {each.status_code for each in answers}
    refused = next(
        each for _ in range(TRIES_MAX) if (each := ask("acme")).status_code == 429
    )
    assert refused.get_json()["type"] == "urn:guise:problem:too-many-requests"
    assert ask("globex").status_code != 429
    time.sleep(int(refused.headers["Retry-After"]))
    assert ask("acme").status_code == answers[0].status_code


def test_attack_questions_that_use_up_what_receipts_need(fresh: Town) -> None:
    """A tenant that is over its rate gets receipts as before, and is billed."""
    for which, path, house in (
        ("audit", "log/entries", fresh.audit),
        ("billing", "usage", fresh.billing),
    ):
        app = opened(fresh, which)
        ask = asking(app, fresh, path, {})
        assert any(ask("acme").status_code == 429 for _ in range(TRIES_MAX))
        for number in range(10):
            headers, body = events.encode(house.event(f"e{number}"))
            where = "/v1/tenants/acme/events"
            sent = app.test_client().post(where, headers=headers, data=body)
            assert sent.status_code == {"audit": 200, "billing": 204}[which]
