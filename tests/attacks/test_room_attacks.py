"""One tenant wants every thread of audit or of billing, by the real doors."""

from __future__ import annotations

import io
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import knative
from functions.audit import app as audit
from functions.billing import app as billing
from functions.billing import measuring
from functions.local import manifests
from functions.settings import Limits, Settings
from tests.attacks.town import ACME, Town
from tests.billing.house import clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from werkzeug.test import TestResponse

EACH_MAX = Limits().door_requests_max // 2
LOG = "/v1/tenants/{}/log"
UNREAD = {"CONTENT_LENGTH": "90", "CONTENT_TYPE": "application/json"}


class Slow(io.BytesIO):
    """A body of which nothing comes until it is let go; then it is `{}`, and blanks."""

    def __init__(self) -> None:
        super().__init__(b"{}".ljust(90))
        self.asked = threading.Event()
        self.go = threading.Event()

    def readinto(self, place: Any) -> int:
        self.asked.set()
        assert self.go.wait(30)
        return super().readinto(place)


class Unread(io.BytesIO):
    """A body that is not to be read."""

    def readinto(self, _: object) -> int:
        pytest.fail("the body was read")


def send(town: Town, path: str, body: io.BytesIO, tenant: str = "acme") -> TestResponse:
    """POST a body to the tenant's log with its ordinary token."""
    return town.ask(
        "audit",
        LOG.format(tenant) + path,
        town.token(tenant),
        method="POST",
        environ_overrides={"wsgi.input": body, **UNREAD},
    )


@contextmanager
def holding(town: Town, path: str, number: int) -> Iterator[None]:
    """Have acme send so many bodies that do not come, until the end of the body."""
    with ExitStack() as held:
        for _ in range(number):
            body = Slow()
            thread = threading.Thread(target=send, args=(town, path, body))
            thread.start()
            held.callback(thread.join, 30)
            held.callback(body.go.set)
            assert body.asked.wait(10)
        yield


@pytest.mark.parametrize("path", ["/searches", "/erasures"])
def test_attack_slow_bodies_at_audit(fresh: Town, path: str) -> None:
    """A tenant has half of the places; others are served, and events are recorded."""
    with holding(fresh, path, EACH_MAX):
        refused = send(fresh, path, Unread())
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert refused.get_json()["type"] == "urn:guise:problem:too-many-requests"
        assert send(fresh, path, io.BytesIO(b" " * 90), "globex").status_code == 400
        assert fresh.audit.post(fresh.audit.event()).status_code == 200
    assert send(fresh, path, io.BytesIO(b" " * 90)).status_code == 400


def test_attack_large_answers_that_are_read_slowly(fresh: Town) -> None:
    """What the kernel does not take at once holds its place until it is sent."""
    for number in range(300):
        fresh.audit.post(fresh.audit.event(f"e{number}"))
    tile = LOG.format("acme") + "/tile/entries/000"
    slow = [fresh.ask("audit", tile, fresh.token()) for _ in range(EACH_MAX)]
    assert {each.status_code for each in slow} == {200}
    assert fresh.ask("audit", tile, fresh.token()).status_code == 429
    for each in slow:
        each.close()
    assert fresh.ask("audit", tile, fresh.token()).status_code == 200


def test_attack_long_questions_to_billing(fresh: Town) -> None:
    """So at billing: while one's questions take their time, others are answered."""
    begun, go = threading.Barrier(2), threading.Event()

    def slowly() -> datetime:
        if threading.current_thread() is not threading.main_thread():
            begun.wait(10)
            assert go.wait(10)
        return clock()

    app = billing.create_app(
        Settings(limits=Limits(door_requests_max=2)),
        ledger=fresh.billing.ledger,
        keys=fresh.keys,
        authenticator=fresh.authenticator,
        now=slowly,
    )

    def ask(tenant: str) -> TestResponse:
        bearer = {"Authorization": f"Bearer {fresh.token(tenant)}"}
        path = f"/v1/tenants/{tenant}/usage"
        return app.test_client().get(path, headers=bearer)

    thread = threading.Thread(target=ask, args=("acme",))
    thread.start()
    begun.wait(10)
    try:
        assert ask("acme").status_code == 429
        assert ask("globex").status_code == 200
    finally:
        go.set()
        thread.join(30)
    assert ask("acme").status_code == 200


@pytest.mark.parametrize("which", ["audit", "billing"])
def test_events_have_threads_that_nobody_else_can_take(which: str) -> None:
    """The manifests give the two more threads than people may have all together."""
    found = manifests.read(knative.folder() / manifests.SYSTEM, {"prefix": ""})
    [service] = [each for each in found.services if each.name == which]
    threads = int(service.args[service.args.index("--threads") + 1])
    told = service.environ.get("GUISE_DOOR_REQUESTS_MAX")
    people = int(told or Limits().door_requests_max)
    listing = measuring.AT_ONCE_MAX if which == "billing" else 0
    assert threads - people - listing >= people


def test_a_pinned_log_keeps_no_place_free(fresh: Town) -> None:
    """There is nobody to keep one for."""
    app = audit.create_app(
        Settings(tenant=ACME, limits=Limits(door_requests_max=1)),
        log=fresh.audit.log,
        keys=fresh.keys,
        authenticator=fresh.authenticator,
    )
    bearer = {"Authorization": f"Bearer {fresh.token()}"}
    path = LOG.format("acme") + "/checkpoint"
    assert app.test_client().get(path, headers=bearer).status_code == 404
