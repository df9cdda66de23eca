"""Usage events are OpenMeter's as they are: nothing has to be turned into anything."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from functions import events
from functions.billing import storing
from functions.billing.storing import Stored
from functions.keys import MemoryKeys
from functions.tenant import Tenant
from tests.billing.openmeter import BATCH, EVENT, MEDIA_TYPE, PATH
from tests.swap.house import SWAP, House, picture

DOCS = Path(__file__).parents[2] / "docs"
VALUES = ("gpu_seconds", "cpu_seconds", "requests", "load_ms")


def swapped(kind: str = "cuda") -> events.Event:
    """Return the usage event that a whole swap function made of a swap."""
    house = House(device_kind=kind)
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    house.upload("j1", SWAP)
    (usage,) = [e for e in house.sink.taken if e.type == events.USAGE_RECORDED]
    return usage


def stored() -> events.Event:
    """Return the usage event of a tenant's day of storage."""
    day = Stored(objects=3, bytes=111, byte_hours=2581)
    return storing.told(Tenant("acme"), date(2026, 11, 20), day, MemoryKeys())


def document(event: events.Event) -> dict[str, Any]:
    """Return an event as a Trigger with `format: json` posts it."""
    read: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(events.as_dict(event))
    )
    return read


def check(found: object, schema: dict[str, Any]) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(found)


@pytest.mark.parametrize("event", [swapped(), swapped("cpu"), stored()])
def test_openmeter_takes_a_usage_event_unchanged(event: events.Event) -> None:
    """As it is stored and sent; its subject is the customer."""
    sent = document(event)
    check(sent, EVENT)
    check([sent, sent], BATCH)
    assert sent["subject"] == event.tenant
    assert sent["data"] == event.data
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", sent["time"])


def test_what_openmeter_sums_is_a_number_or_text_of_one() -> None:
    """Its meters read a value by a path into data, as a number or as text."""
    data = document(swapped())["data"]
    for name in VALUES:
        assert Decimal(data[name]) >= 0
    assert Decimal(document(stored())["data"]["byte_hours"]) == 2581


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"subject": None},
        {"specversion": 1},
        {"datacontenttype": "text/plain"},
        {"data": [1]},
        {"extra": "x"},
    ],
)
def test_the_schema_refuses_what_openmeter_does(change: dict[str, Any]) -> None:
    """The test above can fail."""
    with pytest.raises(jsonschema.ValidationError):
        check(document(swapped()) | change, EVENT)
    with pytest.raises(jsonschema.ValidationError):
        check({k: v for k, v in document(swapped()).items() if k != "subject"}, EVENT)


def triggers() -> list[dict[str, Any]]:
    """Return the Triggers that the page on billing shows."""
    page = (DOCS / "billing.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    found = [each for block in blocks for each in yaml.safe_load_all(block)]
    return [each for each in found if each.get("kind") == "Trigger"]


def test_the_docs_show_triggers_that_carry_usage_there() -> None:
    """One for OpenMeter, one for a webhook: of usage alone, as JSON, tried again."""
    shown = {each["metadata"]["name"]: each["spec"] for each in triggers()}
    assert set(shown) == {"usage-to-openmeter", "bills-to-webhook"}
    for spec in shown.values():
        assert spec["delivery"]["format"] == "json"
        assert spec["delivery"]["retry"] > 0
    assert shown["usage-to-openmeter"]["filters"] == [
        {"exact": {"type": events.USAGE_RECORDED}}
    ]
    assert shown["usage-to-openmeter"]["subscriber"]["uri"].endswith(PATH)
    (told,) = shown["bills-to-webhook"]["filters"]
    assert {each["exact"]["type"] for each in told["any"]} == {
        events.INVOICE_ISSUED,
        events.BUDGET_CHANGED,
    }
    page = (DOCS / "billing.md").read_text("utf-8")
    assert MEDIA_TYPE in page
