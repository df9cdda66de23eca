"""JSON and CloudEvents that are more, or less, than they seem, at every door."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.keys import events_key
from functions.problems import InvalidRequest
from tests.attacks.town import ACME, GLOBEX, Town
from tests.swap.house import SWAP

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.test import TestResponse

SECONDS_MAX = 3.0
DEEP = 10_000

# Each is the text of one value.
BOMBS: dict[str, str] = {
    "brackets": "[" * 60_000,
    "lists-in-lists": "[" * DEEP + "]" * DEEP,
    "objects-in-objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "number-of-60000-digits": "9" * 60_000,
    "number-beyond-doubles": "1e999999999",
    "not-a-number": "NaN",
    "infinity": "-Infinity",
    "octal": "0777",
    "hexadecimal": "0xFF",
    "plus": "+1",
    "lone-surrogate": '"\\ud800"',
    "bare-control-character": '"a\nb"',
    "single-quotes": "'a'",
    "comment": "1 /* a */",
    "trailing-comma": "[1,]",
    "two-values": "1 2",
    "unquoted": "{a: 1}",
    "python": "True",
    "cut-short": '{"a": [1, ',
    "nothing": "",
}


def calls(town: Town) -> dict[str, Callable[[str], TestResponse]]:
    """Return every door that reads JSON: given a value, a request that holds it."""
    token, binary = town.token(), _binary
    tenants = "/v1/tenants/acme"

    def ask(which: str, path: str, body: str) -> TestResponse:
        media = "application/json"
        return town.ask(which, path, token, "POST", data=body, content_type=media)

    def swap(value: str) -> TestResponse:
        return ask("swap", "/v1/swaps", json.dumps(SWAP)[:-1] + f', "faces": {value}}}')

    def part(value: str) -> TestResponse:
        text = f'{{"operation": "detect", "faces": {value}}}'
        form = {"request": text}
        return town.ask("swap", "/v1/swaps", token, "POST", data=form)

    return {
        "a-request": swap,
        "a-whole-request": lambda value: ask("swap", "/v1/swaps", value),
        "a-part-of-a-form": part,
        "a-search": lambda value: ask(
            "audit", f"{tenants}/log/searches", f'{{"sha256": {value}}}'
        ),
        "an-erasure": lambda value: ask(
            "audit", f"{tenants}/log/erasures", f'{{"job": {value}}}'
        ),
        "an-event-of-audit": lambda value: town.audit.client.post(
            f"{tenants}/events", **binary(events.SWAP_STARTED, f'{{"job": {value}}}')
        ),
        "an-event-of-billing": lambda value: town.billing.client.post(
            f"{tenants}/events", **binary(events.USAGE_RECORDED, f'{{"job": {value}}}')
        ),
        "a-batch": lambda value: town.billing.client.post(
            f"{tenants}/events", data=f"[{value}]", content_type=events.BATCH
        ),
        "a-tick": lambda value: town.billing.client.post(
            f"{tenants}/ticks", **binary(events.PING, f'{{"a": {value}}}')
        ),
        "an-event-of-the-worker": lambda value: town.swap.worker.post(
            "/events", **binary(events.SWAP_REQUESTED, f'{{"job": {value}}}')
        ),
        "a-notice": lambda value: town.swap.worker.post(
            "/events", data=f'{{"Records": {value}}}', content_type="application/json"
        ),
        "a-structured-event": lambda value: town.audit.client.post(
            f"{tenants}/events",
            data=f'{{"id": {value}, "source": "/s"}}',
            content_type="application/cloudevents+json",
        ),
    }


def _binary(kind: str, body: str) -> dict[str, Any]:
    headers = {"ce-id": "e", "ce-source": events.swap_source("acme"), "ce-type": kind}
    headers |= {"ce-specversion": "1.0", "ce-tenant": "acme"}
    return {"headers": headers, "data": body, "content_type": "application/json"}


DOORS = (
    "a-request",
    "a-whole-request",
    "a-part-of-a-form",
    "a-search",
    "an-erasure",
    "an-event-of-audit",
    "an-event-of-billing",
    "a-batch",
    "a-tick",
    "an-event-of-the-worker",
    "a-notice",
    "a-structured-event",
)


@pytest.mark.parametrize("attack", BOMBS)
@pytest.mark.parametrize("where", DOORS)
def test_attack_json_bomb(town: Town, where: str, attack: str) -> None:
    """What is no plain JSON, or no value that belongs there, is 400 and soon."""
    began = time.monotonic()
    answer = calls(town)[where](BOMBS[attack])
    empty_batch = where == "a-batch" and attack == "nothing"  # `[]`: of no event
    assert answer.status_code == (204 if empty_batch else 400), answer.text
    assert time.monotonic() - began < SECONDS_MAX
    if not empty_batch:
        assert answer.mimetype == "application/problem+json"
        assert len(answer.data) < 1000  # it sends none of it back


def test_every_door_that_reads_json_is_attacked(town: Town) -> None:
    """The rows above are those there are."""
    assert tuple(calls(town)) == DOORS


TWICE = {
    "data": '"data": {"job": "a", "job": "b"}',
    "attribute": '"tenant": "globex"',
    "escaped": '"ten\\u0061nt": "globex"',
}


@pytest.mark.parametrize("attack", TWICE)
@pytest.mark.parametrize("which", ["audit", "billing"])
def test_attack_name_twice_in_an_event(town: Town, which: str, attack: str) -> None:
    """Who filters may read the first, and who acts the last: nobody reads either."""
    house: Any = getattr(town, which)
    document = json.dumps(events.as_dict(house.event()))
    before = town.audit.entries()
    answer = house.client.post(
        "/v1/tenants/acme/events",
        data=document[:-1] + f", {TWICE[attack]}}}",
        content_type="application/cloudevents+json",
    )
    assert answer.status_code == 400
    assert town.audit.entries() == before


@pytest.mark.parametrize("depth", [50, 400, 2000])
def test_attack_deep_data_under_a_good_signature(fresh: Town, depth: int) -> None:
    """Recorded, and then everybody can read and verify it; or refused, as malformed."""
    data: dict[str, Any] = {"job": "j-1", "attempt": 1}
    inner: Any = 1
    for _ in range(depth):
        inner = [inner]
    try:
        event = fresh.audit.event("deep", data={**data, "deep": inner})
    except InvalidRequest:
        return  # its own sender cannot sign it
    answer = fresh.audit.post(event)
    assert answer.status_code in {200, 400}
    page = fresh.ask("audit", "/v1/tenants/acme/log/entries", fresh.token())
    assert page.status_code == 200
    assert len(page.get_json()["entries"]) == (answer.status_code == 200)


ATTRIBUTES: dict[str, dict[str, Any]] = {
    "no-id": {"id": None},
    "empty-id": {"id": ""},
    "id-a-number": {"id": 7},
    "id-with-a-line": {"id": "a\nb"},
    "id-with-nul": {"id": "a\0b"},
    "id-of-60000-characters": {"id": "a" * 60_000},
    "no-source": {"source": None},
    "source-a-list": {"source": ["/tenants/acme/swap"]},
    "no-type": {"type": None},
    "type-of-another-kind": {"type": "dev.guise.models.accepted.v1"},
    "type-in-upper-case": {"type": "DEV.GUISE.SWAP.STARTED.V1"},
    "version-0.3": {"specversion": "0.3"},
    "version-1.1": {"specversion": "1.1"},
    "version-a-number": {"specversion": 1.0},
    "time-of-no-zone": {"time": "2026-11-21T12:00:00"},
    "time-of-no-calendar": {"time": "2026-02-30T12:00:00Z"},
    "time-after-time": {"time": "99999-01-01T00:00:00Z"},
    "time-a-number": {"time": 1795262400},
    "time-a-leap-second": {"time": "2026-12-31T23:59:60Z"},
    "subject-a-list": {"subject": ["acme"]},
    "tenant-a-list": {"tenant": ["acme"]},
    "tenant-an-object": {"tenant": {"id": "acme"}},
    "extension-in-upper-case": {"Tenant": "globex"},
    "extension-with-a-line": {"te-nant": "globex"},
    "extension-of-another-alphabet": {"ten\u0430nt": "globex"},
    "extension-an-object": {"more": {"a": 1}},
    "media-xml": {"datacontenttype": "application/xml"},
    "media-with-a-line": {"datacontenttype": "application/json\r\nX: y"},
    "schema-no-text": {"dataschema": ["file:///etc/passwd"]},
    "data-a-list": {"data": [1]},
    "data-text": {"data": '{"job": "j"}'},
    "data-twice": {"data_base64": "e30="},
    "data-no-base64": {"data": None, "data_base64": "!"},
    "data-that-unpacks-to-no-json": {"data": None, "data_base64": "AAAA"},
    "signature-a-list": {"sig": ["x"]},
    "signature-of-60000-characters": {"sig": "A" * 60_000},
    "key-id-a-path": {"sigkid": "../../globex"},
}


@pytest.mark.parametrize("attack", ATTRIBUTES)
@pytest.mark.parametrize("which", ["audit", "billing", "worker"])
def test_attack_event_attribute(town: Town, which: str, attack: str) -> None:
    """An event whose attributes are not CloudEvents' is malformed, or nobody's."""
    house: Any = town.billing if which == "billing" else town.audit
    document = {**events.as_dict(house.event("a")), **ATTRIBUTES[attack]}
    document = {name: value for name, value in document.items() if value is not None}
    worker = which == "worker"
    client = town.swap.worker if worker else house.client
    answer = client.post(
        "/events" if worker else "/v1/tenants/acme/events",
        data=json.dumps(document),
        content_type="application/cloudevents+json",
    )
    assert answer.status_code in ({204, 400, 403} if worker else {400, 403})
    assert not [each for each in town.audit.entries() if b'"job":"job-a"' in each]
    assert town.billed()["events"] == 0
    assert town.swap.engine.calls == []


HEADERS: dict[str, list[tuple[str, str]]] = {
    "id-twice": [("ce-id", "other")],
    "tenant-twice": [("ce-tenant", "globex")],
    "tenant-in-another-case": [("CE-Tenant", "globex")],
    "tenant-with-an-underscore": [("ce_tenant", "globex")],
    "source-twice": [("ce-source", events.swap_source("globex"))],
    "signature-twice": [("ce-sig", "AAAA")],
    "overlong-utf-8": [("ce-note", "%c0%ae")],
    "half-an-escape": [("ce-note", "%ff")],
    "data-as-a-header": [("ce-data", '{"job": "other"}')],
    "schema-elsewhere": [("ce-dataschema", "file:///etc/passwd")],
    "structured-as-well": [("Content-Type", "application/cloudevents+json")],
    "batch-as-well": [("Content-Type", events.BATCH)],
}


@pytest.mark.parametrize("attack", HEADERS)
def test_attack_event_header(town: Town, attack: str) -> None:
    """A header that says twice, or otherwise, what another says leaves no entry."""
    headers, body = events.encode(town.audit.event(f"h-{attack}"))
    told = [*headers.items(), *HEADERS[attack]]
    answer = town.audit.client.post("/v1/tenants/acme/events", headers=told, data=body)
    found = [json.loads(each) for each in town.audit.entries()]
    if answer.status_code == 200:  # it was not heard
        assert found[-1]["data"] == {"job": f"job-h-{attack}", "attempt": 1}
        assert found[-1]["tenant"] == "acme"
    else:
        assert answer.status_code in {400, 403}
        assert not [each for each in found if each["id"] == f"h-{attack}"]
    assert town.audit.entries("globex") == []


def test_attack_batch_of_strangers(fresh: Town) -> None:
    """One event of another tenant in a batch, and nothing of the batch is counted."""
    good = [fresh.billing.event(f"u-{number}") for number in range(20)]
    other = fresh.billing.event("x", tenant="globex")
    body = json.dumps([events.as_dict(each) for each in (*good, other)])
    answer = fresh.billing.client.post(
        "/v1/tenants/acme/events", data=body, content_type=events.BATCH
    )
    assert answer.status_code in {400, 403}
    assert fresh.billed()["events"] == 0


def test_attack_batch_of_one_event(fresh: Town) -> None:
    """A thousand times the same event in a batch is one row, and one bill."""
    event = events.as_dict(fresh.billing.event("u"))
    body = json.dumps([event] * events.BATCH_EVENTS_MAX)
    body = body.replace(" ", "")
    send = fresh.billing.client.post
    for count in (1, 10, 300):
        text = json.dumps([event] * count)
        answer = send("/v1/tenants/acme/events", data=text, content_type=events.BATCH)
        assert answer.status_code == 204
    large = send("/v1/tenants/acme/events", data=body * 2, content_type=events.BATCH)
    assert large.status_code == 400
    assert fresh.billed()["events"] == 1


def test_attack_replay_in_another_form(fresh: Town) -> None:
    """Binary, structured, with another casing of headers: it is the same event."""
    event = fresh.audit.event()
    fresh.audit.post(event)
    headers, body = events.encode_structured(event)
    send = fresh.audit.client.post
    assert send("/v1/tenants/acme/events", headers=headers, data=body).status_code < 300
    headers, body = events.encode(event)
    loud = {name.upper(): text for name, text in headers.items()}
    assert send("/v1/tenants/acme/events", headers=loud, data=body).status_code < 300
    assert len(fresh.audit.entries()) == 1


def test_attack_replay_across_tenants(fresh: Town) -> None:
    """Acme's event, every name in it exchanged, carries nobody's signature."""
    event = fresh.billing.event("u")
    text = json.dumps(events.as_dict(event)).replace("acme", "globex")
    answer = fresh.billing.client.post(
        "/v1/tenants/globex/events",
        data=text,
        content_type="application/cloudevents+json",
    )
    assert answer.status_code == 403
    own = fresh.keys.verifiers(events_key(GLOBEX.id))
    assert event.sigkid not in own
    assert fresh.billed()["events"] == 0
    assert fresh.keys.verifiers(events_key(ACME.id))
