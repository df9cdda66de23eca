"""The event door: what is recorded, what is answered, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.audit.app import create_app
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.leaf import CONFLICT, RECEIPTED, RECORDED
from functions.audit.merkle import leaf_hash
from functions.audit.tiles import Checkpoint
from functions.problems import InvalidRequest
from functions.settings import Settings, SettingsError
from functions.sink import Receipt
from tests.audit.house import BOTH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.audit.house import House


DATABASES = BOTH


def receipt_of(body: bytes) -> Receipt:
    return msgspec.json.decode(body, type=Receipt)


def test_started_is_answered_with_a_receipt_that_verifies(house: House) -> None:
    """The answer names the place, the leaf, and a checkpoint that covers it."""
    answer = house.post(house.event())
    receipt = receipt_of(answer.data)
    leaves = house.entries()
    assert answer.status_code == 200
    assert receipt.index == 0
    assert receipt.leaf_hash == leaf_hash(leaves[0]).hex()
    checkpoint = verify_entries(
        leaves,
        receipt.checkpoint,
        log_verifiers("acme", house.keys),
    )
    assert checkpoint == Checkpoint("guise.audit/acme", 1, leaf_hash(leaves[0]))


def test_a_leaf_is_the_canonical_event_and_nothing_else(house: House) -> None:
    """Whoever holds the event can compute its leaf; extensions are not in it."""
    event = house.event(extensions={"traceparent": "00-x"})
    house.post(event)
    (leaf,) = house.entries()
    names = ("data", "id", "sig", "sigkid", "source", "subject", "tenant", "time")
    expected = {name: getattr(event, name) for name in (*names, "type")}
    assert leaf == events.canonical(expected)


def test_a_leaf_still_proves_who_sent_it(house: House) -> None:
    """The event in a leaf verifies with the tenant's key, without us."""
    house.post(house.event())
    document = msgspec.json.decode(house.entries()[0])
    event = events.Event(**document)
    events.verify(event, house.keys.verifiers("events/acme"))


@pytest.mark.parametrize("kind", sorted(RECORDED - RECEIPTED))
def test_an_ending_is_recorded_and_answered_with_nothing(
    house: House,
    kind: str,
) -> None:
    """A broker takes 204 for done; a body would come back to it as an event."""
    answer = house.post(house.event(type=kind))
    assert (answer.status_code, answer.data) == (204, b"")
    assert len(house.entries()) == 1


@pytest.mark.parametrize("kind", sorted(events.WAKE_UPS))
def test_a_wake_up_writes_nothing(house: House, kind: str) -> None:
    """It needs no signature: it can do no more than wake us."""
    answer = house.post(events.Event(id="1", source="//storage/b", type=kind))
    assert (answer.status_code, answer.data) == (204, b"")
    assert house.entries() == []


def test_a_repeated_event_gets_its_first_receipt_again(house: House) -> None:
    """A retry after the log has grown is told the same, byte for byte."""
    first = house.post(house.event("a"))
    house.post(house.event("b"))
    again = house.post(house.event("a"))
    assert (again.status_code, again.data) == (200, first.data)
    assert len(house.entries()) == 2


def test_a_repeated_ending_is_done_already(house: House) -> None:
    """A broker that delivers twice is told twice that it is done."""
    event = house.event(type=events.SWAP_COMPLETED)
    assert [house.post(event).status_code for _ in range(2)] == [204, 204]
    assert len(house.entries()) == 1


def test_an_event_signed_anew_after_a_rotation_is_the_same_event(
    house: House,
) -> None:
    """What is stated counts, not which of the tenant's keys signed it."""
    event = house.event()
    first = house.post(event)
    rotated = house.keys.signer("events/rotated")
    known = {**house.keys.verifiers("events/acme")}
    known |= house.keys.verifiers("events/rotated")

    class BothKeys:
        """The provider after the rotation."""

        def signer(self, name: str) -> Any:
            """Return the audit key."""
            return house.keys.signer(name)

        def verifiers(self, name: str) -> Any:
            """Return the tenant's old and new key."""
            return known

        def secret(self, name: str) -> bytes:
            """Return what it was before."""
            return house.keys.secret(name)

    client = create_app(
        log=house.log,
        keys=BothKeys(),
        authenticator=NoReaders(),
    ).test_client()
    headers, body = events.encode(events.sign(event, rotated))
    answer = client.post("/v1/tenants/acme/events", headers=headers, data=body)
    assert (answer.status_code, answer.data) == (200, first.data)


class NoReaders:
    """Nobody reads."""

    def caller(self, authorization: str) -> Any:
        """Refuse."""
        raise AssertionError


def test_structured_and_binary_mode_are_the_same_event(house: House) -> None:
    """A broker may turn one mode into the other between two deliveries."""
    event = house.event()
    first = house.post(event)
    again = house.client.post(
        "/v1/tenants/acme/events",
        data=msgspec.json.encode(events.as_dict(event)),
        content_type="application/cloudevents+json",
    )
    assert (again.status_code, again.data) == (200, first.data)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "dev.guise.swap.dreamt.v1"},
        {"type": events.USAGE_RECORDED},
        {"type": CONFLICT},
        {"time": ""},
        {"name": "no spaces in ids"},
        {"name": "x" * 129},
        {"data": {"job": 7}},
        {"data": {"job": "../up"}},
        {"data": {"job": "j", "n": 2**60}},
        {"data": {"x": "x" * 65_400}},
    ],
)
def test_what_cannot_be_an_entry_is_malformed(
    house: House,
    changes: dict[str, Any],
) -> None:
    """400: a broker puts it to the dead letters and does not try again."""
    try:
        event = house.event(**changes)
    except InvalidRequest:  # it has no canonical form, so nobody can sign it
        event = replace(house.event(), data=changes["data"])
    answer = house.post(event)
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert house.entries() == []


def test_an_event_over_the_limit_is_malformed(house: House) -> None:
    """Too large is as final as not well formed."""
    answer = house.client.post("/v1/tenants/acme/events", data=b"x" * 70_000)
    assert answer.status_code == 400


def test_only_post_and_only_there(house: House) -> None:
    """There is no other way to write."""
    assert house.client.get("/v1/tenants/acme/events").status_code == 405
    assert house.client.post("/").status_code == 404


def test_health_does_not_wait_for_the_database(house: House) -> None:
    """Ready means that the HTTP server is up; requests wait for the rest."""
    for path in ("live", "ready"):
        assert house.client.get(f"/health/{path}").status_code == 204


def test_a_deployment_without_settings_names_every_one() -> None:
    """One restart mends them all."""
    with pytest.raises(SettingsError) as error:
        create_app(Settings())
    for name in ("GUISE_DATABASE", "GUISE_KEYS", "GUISE_JWKS", "GUISE_ISSUER"):
        assert name in str(error.value)


def test_a_deployment_with_an_unknown_database_ends_at_once(tmp_path: Path) -> None:
    """A wrong URL is found before the first request, not by it."""
    settings = Settings(
        database="mysql://x",
        keys=tmp_path,
        jwks=tmp_path,
        issuer="guise",
    )
    with pytest.raises(SettingsError, match="GUISE_DATABASE"):
        create_app(settings)
