"""Telemetry leaves at a request's end: pushed, bounded, and nobody waits for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from functions import __version__, traces
from functions.metrics import BOUNDS_SECONDS, Metrics
from functions.otlp import Exporter
from functions.settings import Settings
from functions.web import new_app, speaks_for
from tests.collector import Collector, collecting, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from functions.tenant import Tenant

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def app_at(url: str, *, tenant: Tenant | None = None, public: bool = False) -> Flask:
    settings = Settings(otlp_url=url, tenant=tenant)
    app = new_app("functions.x.house", bytes_max=100, settings=settings, public=public)

    @app.get("/visits/<who>")
    def work(who: str) -> str:
        speaks_for(who)
        return ""

    return app


class TestMetrics:
    """What was counted, as OTLP has it."""

    def test_a_series_first_point_comes_with_a_zero_before(
        self, collector: Collector
    ) -> None:
        """Or Prometheus' `increase` would not see what a short life counted."""
        metrics = Metrics()
        exporter = Exporter(collector.url, "guise-x", metrics)
        metrics.count("jobs", 3, tenant="acme")
        assert exporter.push()
        metrics.count("jobs", tenant="acme")
        assert exporter.push()
        [(labels, points)] = collector.points("guise_jobs").items()
        assert labels == (("tenant", "acme"),)
        assert [each["asDouble"] for each in points] == [0, 3, 4]
        times = [int(each["timeUnixNano"]) for each in points]
        assert times == sorted(times)
        assert times[1] - times[0] == 10**9
        assert all(
            int(p["startTimeUnixNano"]) <= int(p["timeUnixNano"]) for p in points
        )

    def test_a_counter_that_stood_still_is_not_told_again(
        self, collector: Collector
    ) -> None:
        """Not each time: a push is as long as what happened, however many tenants."""
        metrics = Metrics()
        exporter = Exporter(collector.url, "guise-x", metrics)
        for number in range(100):
            metrics.count("jobs", tenant=f"t-{number}")
            metrics.observe("stage_seconds", 1, tenant=f"t-{number}")
        assert exporter.push()
        metrics.count("jobs", tenant="t-7")
        metrics.observe("stage_seconds", 2, tenant="t-8")
        assert exporter.push()
        jobs = collector.points("guise_jobs").items()
        told = {dict(labels)["tenant"]: len(points) for labels, points in jobs}
        assert told.pop("t-7") == 3
        assert set(told.values()) == {2}
        stages = collector.points("guise_stage_seconds")
        assert len(stages[("tenant", "t-8"),]) == 3
        assert len(stages[("tenant", "t-9"),]) == 2

    def test_what_moves_after_a_rest_comes_with_what_it_was(
        self, collector: Collector
    ) -> None:
        """Or Prometheus, which has forgotten it, would see no increase."""
        metrics = Metrics()
        exporter = Exporter(collector.url, "guise-x", metrics)
        metrics.count("jobs", 3)
        assert exporter.push()
        time.sleep(1.1)
        metrics.count("jobs")
        assert exporter.push()
        points = collector.points("guise_jobs")[()]
        assert [each["asDouble"] for each in points] == [0, 3, 3, 4]
        times = [int(each["timeUnixNano"]) for each in points]
        assert times == sorted(set(times))

    def test_what_one_push_could_not_tell_the_next_does(
        self, collector: Collector
    ) -> None:
        """Counters are cumulative: nothing is lost by a collector that was away."""
        metrics = Metrics()
        exporter = Exporter(collector.url, "guise-x", metrics)
        metrics.count("jobs")
        collector.status = 503
        assert not exporter.push()
        collector.status = 200
        metrics.count("jobs")
        assert exporter.push()
        assert [p["asDouble"] for p in collector.points("guise_jobs")[()]] == [0, 2]

    def test_durations_are_a_histogram(self, collector: Collector) -> None:
        """With the bounds beside the buckets, and one bucket more than bounds."""
        metrics = Metrics()
        metrics.observe("stage_seconds", 0.2, stage="work")
        metrics.observe("stage_seconds", 1000, stage="work")
        Exporter(collector.url, "guise-x", metrics).push()
        zero, point = collector.points("guise_stage_seconds")[("stage", "work"),]
        assert zero["count"] == "0"
        assert (point["count"], point["sum"]) == ("2", 1000.2)
        assert point["explicitBounds"] == list(BOUNDS_SECONDS)
        assert len(point["bucketCounts"]) == len(BOUNDS_SECONDS) + 1
        assert point["bucketCounts"][-1] == "1"

    def test_a_gauge_is_a_gauge(self, collector: Collector) -> None:
        """One point, and brought up to date before it is pushed."""
        metrics = Metrics()
        Exporter(
            collector.url,
            "guise-x",
            metrics,
            before=lambda: metrics.gauge("cost", 2.5, tenant="acme"),
        ).push()
        points = collector.points("guise_cost")[("tenant", "acme"),]
        assert [each["asDouble"] for each in points] == [2.5]

    def test_a_pinned_process_counts_all_for_its_tenant(
        self, collector: Collector
    ) -> None:
        """Also what knew of none, as its cold starts."""
        metrics = Metrics()
        metrics.count("jobs")
        Exporter(collector.url, "guise-x", metrics, tenant="acme").push()
        assert list(collector.points("guise_jobs")) == [(("tenant", "acme"),)]

    def test_each_series_says_of_which_version_and_pack(
        self, collector: Collector
    ) -> None:
        """To compare two side by side; on the page there is neither."""
        metrics = Metrics()
        metrics.every["pack"] = "lite/1.1.0"
        metrics.count("jobs")
        Exporter(collector.url, "guise-x", metrics).push()
        [metric] = [each for each in collector.metrics() if "sum" in each]
        told = {
            each["key"]: each["value"]["stringValue"]
            for each in metric["sum"]["dataPoints"][0]["attributes"]
        }
        assert told == {"version": __version__, "pack": "lite/1.1.0"}
        assert "lite" not in metrics.text()


class TestRequests:
    """A request's end wakes the push."""

    def test_the_end_of_a_request_pushes_metrics_and_trace(
        self, collector: Collector
    ) -> None:
        """By tenant, with the cold start; and the span is below the caller's."""
        client = app_at(collector.url).test_client()
        client.get(
            "/visits/acme", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        )
        eventually(collector.spans)
        [span] = collector.spans()
        assert (span["traceId"], span["parentSpanId"]) == ("a" * 32, "b" * 16)
        assert span["name"] == "GET /visits/<who>"
        [labels] = collector.points("guise_http_requests")
        assert dict(labels)["tenant"] == "acme"
        assert list(collector.points("guise_cold_start_seconds")) == [
            (("stage", "process"),)
        ]
        assert "acme" not in str(collector.spans())
        assert "acme" not in client.get("/metrics").text

    def test_a_stranger_chooses_no_trace(self, collector: Collector) -> None:
        """At the public door every trace begins anew."""
        client = app_at(collector.url, public=True).test_client()
        client.get(
            "/visits/acme", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        )
        eventually(collector.spans)
        assert "a" * 32 not in str(collector.spans())

    def test_a_stranger_names_no_span(self, collector: Collector) -> None:
        """Neither by a path that nobody serves nor by a method of its own."""
        client = app_at(collector.url).test_client()
        client.open("/nobody/anna", method="ANNA")
        eventually(collector.spans)
        assert [each["name"] for each in collector.spans()] == ["none"]

    def test_probes_and_scrapers_push_nothing(self, collector: Collector) -> None:
        """A pod at rest sends nothing, and is not kept awake by what it would send."""
        client = app_at(collector.url).test_client()
        for path in ("/health/live", "/health/ready", "/metrics"):
            client.get(path)
        time.sleep(0.3)
        assert collector.seen == []

    def test_a_collector_that_hangs_holds_nobody_up(self) -> None:
        """The answer is out before the push is tried."""
        import socket

        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            client = app_at(url).test_client()
            began = time.monotonic()
            for _ in range(20):
                assert client.get("/visits/acme").status_code == 200
            assert time.monotonic() - began < 1

    def test_many_requests_at_once_are_few_pushes(self, collector: Collector) -> None:
        """One thread, and a pause between two."""
        client = app_at(collector.url).test_client()
        for _ in range(200):
            client.get("/visits/acme")
        eventually(collector.spans)
        assert sum(path == "/v1/metrics" for path, _ in collector.seen) < 5
        named = [each.name for each in threading.enumerate() if "_run" in each.name]
        assert len([name for name in named if "Exporter" in name]) <= 1

    def test_without_a_collector_there_is_none(self) -> None:
        """No thread, no span kept; ids there are all the same, for the log."""
        app = app_at("")

        @app.get("/id")
        def show() -> str:
            span = traces.current()
            return span.trace if span and span.spans is None else ""

        assert len(app.test_client().get("/id").text) == 32


def test_a_collector_that_is_away_is_tried_again_and_then_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a warning, and the process goes on."""
    exporter = Exporter(NOBODY, "guise-x", Metrics(), pause=0.01)
    exporter.wake()
    eventually(lambda: len(caplog.records) == 3)
    exporter.wake()
    eventually(lambda: len(caplog.records) == 6)


def test_spans_that_a_collector_did_not_take_are_pushed_again(
    collector: Collector,
) -> None:
    """Once, and those that ended meanwhile with them."""
    exporter = Exporter(collector.url, "guise-x", Metrics())
    traces.leave(traces.enter("first", spans=exporter.spans))
    collector.failing = {"/v1/traces"}
    assert not exporter.push()
    collector.failing = set()
    traces.leave(traces.enter("second", spans=exporter.spans))
    assert exporter.push()
    assert exporter.push()
    assert [each["name"] for each in collector.spans()] == ["first", "second"]


def test_spans_for_which_there_was_no_room_are_a_figure(collector: Collector) -> None:
    """Or nobody would know why a trace has holes."""
    exporter = Exporter(collector.url, "guise-x", Metrics())
    for _ in range(traces.SPANS_MAX + 3):
        traces.leave(traces.enter("GET /", spans=exporter.spans))
    assert exporter.push()
    [[point]] = collector.points("guise_spans_lost").values()
    assert point["asDouble"] == 3


def test_whatever_goes_wrong_before_a_push_is_told_and_no_more(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """A price that is missing, say."""

    def fails() -> None:
        raise KeyError("no price")

    assert not Exporter(collector.url, "guise-x", Metrics(), before=fails).push()
    assert "telemetry is not pushed" in caplog.text
    assert collector.seen == []


def test_a_span_that_failed_says_so_and_has_its_status(collector: Collector) -> None:
    """With a number as a number."""
    exporter = Exporter(collector.url, "guise-x", Metrics())
    span = traces.enter("GET /", spans=exporter.spans)
    span.attributes["http.response.status_code"] = 503
    span.failed = True
    traces.leave(span)
    assert exporter.push()
    [told] = collector.spans()
    assert told["status"] == {"code": 2}
    assert told["attributes"] == [
        {"key": "http.response.status_code", "value": {"intValue": "503"}}
    ]
    assert "parentSpanId" not in told
