"""What an operator sees of each tenant's jobs: pushed, and on no page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.keys import FileKeys
from functions.swap import sweeper
from tests.collector import Collector, collecting, eventually
from tests.swap.house import SWAP, House, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAGES = {
    *("receipt", "fetch", "decode", "load", "wait", "work", "encode", "store"),
    "commit",
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def house(collector: Collector) -> House:
    made = House(otlp_url=collector.url)
    made.put("a.png", picture(1))
    made.put("b.png", picture(2))
    return made


def total(collector: Collector, name: str, **labels: str) -> float:
    """Return the last value of a counter's series that has these labels."""
    return sum(
        float(points[-1].get("asDouble", points[-1].get("count", 0)))
        for found, points in collector.points(name).items()
        if labels.items() <= dict(found).items()
    )


def test_a_job_is_counted_for_its_tenant(house: House, collector: Collector) -> None:
    """Its ending, its faces, its time on the device, and its wait."""
    assert house.post(SWAP).status_code == 201
    eventually(lambda: total(collector, "guise_jobs", tenant="acme"))
    told = {"tenant": "acme", "operation": "swap"}
    assert total(collector, "guise_jobs", outcome="completed", reason="", **told) == 1
    assert total(collector, "guise_faces", **told) == 1
    assert "guise_device_seconds" in {each["name"] for each in collector.metrics()}
    assert total(collector, "guise_queue_wait_seconds", tenant="acme") == 2
    for page in (house.door, house.worker):
        assert "acme" not in page.get("/metrics").text


def test_each_stage_is_timed(house: House, collector: Collector) -> None:
    """One behind the other, so that together they are the attempt."""
    house.post(SWAP)
    eventually(lambda: collector.points("guise_stage_seconds"))
    found = [dict(labels) for labels in collector.points("guise_stage_seconds")]
    assert {each["stage"] for each in found} == STAGES
    assert {each["tenant"] for each in found} == {"acme"}


def test_the_models_load_is_a_cold_start(house: House, collector: Collector) -> None:
    """Of the worker, beside that of its process."""
    house.post(SWAP)
    eventually(
        lambda: total(collector, "guise_cold_start_seconds", stage="models") == 1
    )


def test_one_trace_leads_from_the_door_through_the_worker(
    house: House, collector: Collector
) -> None:
    """With a span for each stage, and nothing of the tenant in any."""
    job = house.post(SWAP).get_json()["job"]
    eventually(lambda: len(collector.spans()) > len(STAGES) + 1)
    by_name = {each["name"]: each for each in collector.spans()}
    door = by_name["POST /v1/swaps"]
    worker = by_name["POST /v1/tenants/<tenant>/jobs/<job>"]
    assert worker["parentSpanId"] == door["spanId"]
    assert by_name["work"]["parentSpanId"] == worker["spanId"]
    assert {each["traceId"] for each in collector.spans()} == {door["traceId"]}
    told = str(collector.spans())
    assert not [word for word in ("acme", job, "uploads", "ann") if word in told]


def test_a_refusal_is_counted_with_its_reason(
    house: House, collector: Collector
) -> None:
    """At the door by the problem's type, for who asked."""
    assert house.post({"operation": "juggle"}).status_code == 400
    eventually(lambda: collector.points("guise_problems"))
    [labels] = collector.points("guise_problems")
    assert dict(labels) == {
        "route": "/v1/swaps",
        "tenant": "acme",
        "type": "invalid-request",
    }


def test_a_job_that_is_asked_for_twice_is_counted_once(
    house: House, collector: Collector
) -> None:
    """The broker may bring it as often as it likes."""
    house.upload("j-1", SWAP)
    house.upload("j-1", SWAP)
    eventually(lambda: total(collector, "guise_http_requests", route="/events") == 2)
    assert total(collector, "guise_jobs", tenant="acme") == 1


def test_a_sweep_pushes_what_it_counted(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at once, and nobody could ask it."""
    FileKeys(tmp_path / "keys").create("events/acme")
    for name, text in {
        "GUISE_PROFILE": "development",
        "GUISE_TENANT": "acme",
        "GUISE_STORE": f"file://{tmp_path}/store",
        "GUISE_KEYS": f"{tmp_path}/keys",
        "K_SINK": collector.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }.items():
        monkeypatch.setenv(name, text)
    sweeper.main()
    assert "guise_webhook_calls" in {each["name"] for each in collector.metrics()}
    assert "sweep" in {each["name"] for each in collector.spans()}
