"""The event door: what is counted, once, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.billing.app import create_app
from functions.billing.ledger import Ledger
from functions.billing.usage import usage_of
from functions.database import open_database, transaction
from functions.problems import InvalidRequest
from functions.settings import Settings, SettingsError
from tests.billing.house import BOTH, NOW, TokensByName, clock, usage_data
from tests.postgres import APP, OWNER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.billing.house import House

DATABASES = BOTH


def test_usage_is_counted_and_answered_with_nothing(house: House) -> None:
    """A broker takes 204 for done; a body would come back to it as an event."""
    answer = house.post(house.event())
    assert (answer.status_code, answer.data) == (204, b"")
    assert house.total()["events"] == 1


def test_usage_delivered_often_is_counted_once(house: House) -> None:
    """A broker may deliver an event any number of times, in either mode."""
    event = house.event()
    for _ in range(3):
        assert house.post(event).status_code == 204
    answer = house.client.post(
        "/v1/tenants/acme/events",
        data=msgspec.json.encode(events.as_dict(event)),
        content_type="application/cloudevents+json",
    )
    assert answer.status_code == 204
    assert house.total()["events"] == 1


def test_eight_threads_with_duplicates_count_exactly_once(house: House) -> None:
    """Redeliveries may race."""
    usages = [usage_of(house.event(f"u{each % 20}"), now=NOW) for each in range(100)]
    with ThreadPoolExecutor(8) as pool:
        posted = list(pool.map(house.ledger.post, usages))
    assert sum(each is each.NEW for each in posted) == 20
    assert house.total()["events"] == 20


def test_usage_survives_a_restart(house: House, url: str) -> None:
    """What was counted before is known to the next process."""
    house.post(house.event())
    again = Ledger.open(url)
    app = create_app(
        ledger=again,
        keys=house.keys,
        authenticator=TokensByName(),
        now=clock,
    )
    headers, body = events.encode(house.event())
    path = "/v1/tenants/acme/events"
    assert app.test_client().post(path, headers=headers, data=body).status_code == 204
    again.close()
    assert house.total()["events"] == 1


def test_attack_a_replayed_id_with_other_content(house: House) -> None:
    """The first stands; the broker is told that it is done, and we count it."""
    house.post(house.event())
    answer = house.post(house.event(gpu_seconds="0.001"))
    assert (answer.status_code, answer.data) == (204, b"")
    assert house.total()["gpu_seconds"] == "0.136"
    text = house.client.get("/metrics").text
    assert 'guise_usage_events_total{posted="conflict"} 1.0' in text


def test_attack_a_forged_signature(house: House) -> None:
    """Nobody but the tenant's own worker makes the tenant pay."""
    event = house.event()
    stranger = house.keys.signer("events/stranger")
    forgeries = [
        replace(event, sig="", sigkid=""),
        replace(event, data=usage_data(requests=9)),
        replace(event, id="another"),
        replace(event, time="2026-10-01T00:00:00.000Z"),
        events.sign(event, stranger),
    ]
    for forged in forgeries:
        assert house.post(forged).status_code == 403
    assert house.total()["events"] == 0


def test_attack_another_tenants_bill(house: House) -> None:
    """Path, tenant, source and subject are one and the same tenant."""
    assert house.post(house.event(), tenant="other").status_code == 403
    assert house.post(house.event(tenant="other")).status_code == 403
    for changed in ({"subject": "other"}, {"source": "/tenants/other/swap"}):
        assert house.post(house.event(attributes=changed)).status_code == 403
    assert house.total()["events"] == 0


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": events.SWAP_COMPLETED},
        {"time": ""},
        {"time": "2026-11-21T12:05:00.001Z"},
        {"time": "2027-01-01T00:00:00Z"},
        {"time": "1969-12-31T23:59:59.999Z"},
        {"time": "0001-01-01T00:00:00Z"},
        {"id": "with a space"},
        {"id": "x" * 129},
    ],
)
def test_an_event_that_is_no_usage_is_malformed(
    house: House,
    attributes: dict[str, Any],
) -> None:
    """400: other types, no time, over five minutes from now, no proper id.

    A month of before 1970 could never be closed, nor any that comes after it.
    """
    answer = house.post(house.event(attributes=attributes))
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert house.total()["events"] == 0


@pytest.mark.parametrize(
    "time",
    ["2026-11-21T12:05:00.000Z", "2026-11-21T13:04:59+01:00", "2026-11-01T00:00:00Z"],
)
def test_clocks_may_differ_by_five_minutes(house: House, time: str) -> None:
    """Up to there an event counts, and an event may be late by any time."""
    assert house.post(house.event(attributes={"time": time})).status_code == 204
    assert house.total()["events"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu_seconds": "-0.001"},
        {"gpu_seconds": "NaN"},
        {"gpu_seconds": "Infinity"},
        {"gpu_seconds": "1e3"},
        {"gpu_seconds": "0.0001"},
        {"gpu_seconds": " 0.1"},
        {"gpu_seconds": "0.1\n"},
        {"gpu_seconds": "00.1"},
        {"gpu_seconds": ".1"},
        {"gpu_seconds": "\u0661"},
        {"gpu_seconds": 0.1},
        {"gpu_seconds": "0.137"},
        {"cpu_seconds": "-1"},
        {"cpu_seconds": "1" * 13},
        {"cpu_seconds": None},
        {"lease_ms": -1},
        {"lease_ms": 136.5},
        {"lease_ms": "136"},
        {"lease_ms": True},
        {"load_ms": 2**40 + 1},
        {"cpu_seconds": "1000000000"},
        {"requests": -1},
        {"input_bytes": -1},
        {"operation": ""},
        {"operation": "SWAP"},
        {"outcome": "lost"},
        {"billable": 1},
        {"billable": "true"},
        {"model_digest": "x\x00y"},
        {"model_digest": "x" * 257},
        {"job": "../up"},
        {"job": ""},
        {"device": {"kind": "cpu"}},
        {"device": {**usage_data()["device"], "share": "0"}},
        {"device": {**usage_data()["device"], "share": "1.5"}},
        {"device": {**usage_data()["device"], "share": "-1"}},
        {"device": {**usage_data()["device"], "share": "8/7"}},
        {"device": {**usage_data()["device"], "share": "1/0"}},
        {"leased_at": 1},
        {"device": {**usage_data()["device"], "name": "L4\n"}},
        {"discount": "0.5"},
    ],
)
def test_usage_that_makes_no_sense_is_malformed(
    house: House,
    changes: dict[str, Any],
) -> None:
    """400: wrong types, negative, not a number, finer than milliseconds, unknown."""
    try:
        event = house.event(**changes)
    except InvalidRequest:  # it has no canonical form, so nobody can sign it
        event = replace(house.event(), data=usage_data(**changes))
    answer = house.post(event)
    assert answer.status_code == 400
    assert house.total()["events"] == 0


@pytest.mark.parametrize("name", sorted(usage_data()))
def test_no_field_of_usage_may_be_missing(house: House, name: str) -> None:
    """A forgotten quantity is not a quantity of nothing."""
    data = {key: value for key, value in usage_data().items() if key != name}
    answer = house.post(house.event(attributes={"data": data}))
    assert answer.status_code == 400
    assert name in answer.get_json()["detail"]


@pytest.mark.parametrize("share", ["1", "1.0", "0.5", "0.142857", "0.01", "1/7", "7/7"])
def test_a_share_is_above_nothing_and_at_most_all(house: House, share: str) -> None:
    """Fractions of a device, as MIG and MPS give them."""
    device = {**usage_data()["device"], "share": share}
    event = house.event(device=device, gpu_seconds="0.001")
    assert house.post(event).status_code == 204


@pytest.mark.parametrize(("seconds", "status"), [("0.019", 204), ("0.020", 400)])
def test_no_more_is_billed_than_the_share_of_the_lease(
    house: House, seconds: str, status: int
) -> None:
    """136 ms of a seventh of a GPU are 19 ms of it, and 19.6 where it was 136.9."""
    device = {**usage_data()["device"], "share": "1/7"}
    event = house.event(device=device, gpu_seconds=seconds)
    assert house.post(event).status_code == status


def test_usage_may_say_when_the_device_was_granted(house: House) -> None:
    """Workers before this one did not."""
    event = house.event(leased_at="2026-11-21T10:59:59.000Z")
    assert house.post(event).status_code == 204


def test_the_door_answers_503_while_the_database_fails(
    house: House,
    url: str,
) -> None:
    """A broker tries again, and the cause stays in our log."""
    owned = open_database(url.replace(f"//{APP}@", f"//{OWNER}@"))
    with transaction(owned) as db:
        db.exec_driver_sql("ALTER TABLE usage RENAME TO elsewhere")
    owned.dispose()
    answer = house.post(house.event())
    assert answer.status_code == 503
    assert b"elsewhere" not in answer.data


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
