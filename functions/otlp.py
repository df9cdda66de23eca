"""What was counted and traced, pushed to an OpenTelemetry collector.

OTLP over HTTP in its JSON form (https://opentelemetry.io/docs/specs/otlp/), by the
standard library: OpenTelemetry's SDK and its exporter take 80 ms to import (measured,
median of five, two of its packages pre-1.0), and a cold function has that time for
its first request.

A pod that goes to zero cannot wait to be scraped, and one that is scraped does not go
to zero.  So each request's end wakes a thread, which pushes; between two pushes there
is a pause, and who asks for more meanwhile is answered by the next.  No request waits
for it, none fails by it, and with nothing asked nothing is sent.  Counters are
cumulative: what one push could not tell the next one tells again.  A counter that moved
comes with what it was a second before, at first 0, or an increase after a long rest,
which Prometheus looks for in a few minutes, were nobody's.  One that stood still is
told again twice a minute, which `rate` goes by, and not each time: a push is as long
as what happened, and not as the list of tenants.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from functions import __version__
from functions.metrics import BOUNDS_SECONDS, TENANT, Durations
from functions.problems import Unavailable
from functions.sink import post
from functions.traces import Spans

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from functions.metrics import Labels, Metrics, Series
    from functions.settings import Settings
    from functions.traces import Span

log = logging.getLogger(__name__)

Told: TypeAlias = "dict[Series, tuple[int, Any]]"
"""When each counter was told last (nanoseconds since the epoch), and what it was."""
T = TypeVar("T")

PUSH_SECONDS_MAX: Final = 2.0
PAUSE_SECONDS: Final = 1.0
TRIES_MAX: Final = 3
VERSION: Final = "version"
"""The label with the version of the code, to compare two side by side."""
_SECOND_NS: Final = 10**9
_STILL_NS: Final = 30 * _SECOND_NS
"""How long a counter that does not move goes untold."""
_CUMULATIVE: Final = 2
"""AGGREGATION_TEMPORALITY_CUMULATIVE of `metrics.proto`."""
_KINDS: Final = {"internal": 1, "server": 2, "client": 3}
"""`Span.SpanKind` of `trace.proto`."""
_ERROR: Final = 2
_OK: Final = range(200, 300)


class Exporter:
    """Pushes one process's metrics and spans to a collector.

    `endpoint` is as OTEL_EXPORTER_OTLP_ENDPOINT has it, without `/v1/…`; `tenant`
    the one that the process is pinned to, "" for none.  `before` is called before
    each push, on its thread.
    """

    def __init__(
        self,
        endpoint: str,
        service: str,
        metrics: Metrics,
        *,
        tenant: str = "",
        before: Callable[[], None] = lambda: None,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self.spans = Spans()
        self._endpoint = endpoint
        self._metrics = metrics
        self._every = {VERSION: __version__, **metrics.every}
        if tenant:
            self._every[TENANT] = tenant
        self._refresh = before
        self._pause = pause
        self._began_ns = time.time_ns()
        self._told: Told = {}
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._resource = {
            "attributes": _attributes(
                {
                    "service.name": service,
                    "service.version": __version__,
                    "service.instance.id": str(uuid.uuid4()),
                }
            )
        }

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        service: str,
        metrics: Metrics,
        before: Callable[[], None] = lambda: None,
    ) -> Self:
        """Return the exporter that a deployment names."""
        tenant = settings.tenant.id if settings.tenant else ""
        endpoint = settings.need("otlp_url")
        return cls(endpoint, service, metrics, tenant=tenant, before=before)

    def wake(self) -> None:
        """Have what there is pushed soon, and do not wait for it."""
        self._wanted.set()
        with self._lock:
            if self._thread is None:  # not before a request: there may be a fork
                self._thread = threading.Thread(target=self._run, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no thread to be had
                    self._thread = None

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            for tries in range(1, TRIES_MAX + 1):
                if self.push():
                    break
                time.sleep(self._pause * tries)
            time.sleep(self._pause)

    def push(self) -> bool:
        """Push what there is, and return whether the collector has it.

        It takes no longer than twice `PUSH_SECONDS_MAX`, and raises nothing.
        """
        try:
            self._refresh()
            self._metrics.gauge("spans_lost", self.spans.lost)
            metrics, told = self._metrics_document()
            self._post("metrics", metrics)
            self._told |= told
            self._push_spans()
        except Unavailable as problem:
            log.warning("telemetry is not pushed: %s", problem)
            return False
        except Exception:  # whatever it is, the next request's figures matter, too
            log.exception("telemetry is not pushed")
            return False
        return True

    def _push_spans(self) -> None:
        spans = self.spans.take()
        try:
            if spans:
                self._post("traces", self._traces_document(spans))
        except Unavailable:
            self.spans.keep(spans)  # for the next push
            raise

    def _post(self, what: str, document: object) -> None:
        body = msgspec.json.encode(document)
        headers = {"Content-Type": "application/json"}
        url = f"{self._endpoint}/v1/{what}"
        answer = post(url, headers, body, timeout=PUSH_SECONDS_MAX)
        if answer.status not in _OK:
            raise Unavailable(internal=f"{url}: {answer.status}")

    def _metrics_document(self) -> tuple[dict[str, Any], Told]:
        """Return the request of `/v1/metrics`, and what it tells of which counter."""
        now, now_ns = self._metrics.snapshot(), time.time_ns()
        families: dict[str, dict[str, Any]] = {}
        told: Told = {}
        for series, value in now.counts.items():
            for at_ns, part in self._untold(series, now_ns, value, 0.0):
                points = self._points(families, series, "sum")
                points.append(self._point(series[1], at_ns) | {"asDouble": part})
                told[series] = now_ns, value
        for series, value in now.gauges.items():
            points = self._points(families, series, "gauge")
            points.append(self._point(series[1], now_ns) | {"asDouble": value})
        for series, each in now.durations.items():
            for at_ns, some in self._untold(series, now_ns, each, Durations()):
                points = self._points(families, series, "histogram")
                points.append(self._point(series[1], at_ns) | _durations(some))
                told[series] = now_ns, each
        scope = {"scope": {"name": "guise"}, "metrics": list(families.values())}
        resource = {"resource": self._resource, "scopeMetrics": [scope]}
        return {"resourceMetrics": [resource]}, told

    def _untold(
        self, series: Series, now_ns: int, value: T, nothing: T
    ) -> list[tuple[int, T]]:
        """Return the moments that the collector lacks of a counter."""
        last_ns, last = self._told.get(series, (0, nothing))
        if last_ns and last == value:
            return [(now_ns, value)] if now_ns - last_ns >= _STILL_NS else []
        before_ns = now_ns - _SECOND_NS
        before = [(before_ns, last)] if before_ns > last_ns else []
        return [*before, (now_ns, value)]

    def _points(
        self, families: dict[str, dict[str, Any]], series: Series, kind: str
    ) -> list[dict[str, Any]]:
        name = f"guise_{series[0]}"
        body: dict[str, Any] = {"dataPoints": []}
        if kind != "gauge":
            body["aggregationTemporality"] = _CUMULATIVE
        if kind == "sum":
            body["isMonotonic"] = True
        family = families.setdefault(f"{kind} {name}", {"name": name, kind: body})
        found: list[dict[str, Any]] = family[kind]["dataPoints"]
        return found

    def _point(self, labels: Labels, at_ns: int) -> dict[str, Any]:
        named = {**self._every, **dict(labels)}
        return {
            "attributes": _attributes(named),
            "startTimeUnixNano": str(min(self._began_ns, at_ns)),
            "timeUnixNano": str(at_ns),
        }

    def _traces_document(self, spans: list[Span]) -> dict[str, Any]:
        """Return the request of `/v1/traces`."""
        scope = {"scope": {"name": "guise"}, "spans": [_span(each) for each in spans]}
        resource = {"resource": self._resource, "scopeSpans": [scope]}
        return {"resourceSpans": [resource]}


def _attributes(named: Mapping[str, str | int]) -> list[dict[str, Any]]:
    return [
        {
            "key": name,
            "value": {"intValue": str(value)}
            if isinstance(value, int)
            else {"stringValue": value},
        }
        for name, value in named.items()
    ]


def _durations(each: Durations) -> dict[str, Any]:
    return {
        "count": str(each.count),
        "sum": each.seconds,
        "bucketCounts": [str(number) for number in each.buckets],
        "explicitBounds": list(BOUNDS_SECONDS),
    }


def _span(span: Span) -> dict[str, Any]:
    document: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.began_ns),
        "endTimeUnixNano": str(span.ended_ns),
        "attributes": _attributes(span.attributes),
    }
    if span.parent:
        document["parentSpanId"] = span.parent
    if span.failed:
        document["status"] = {"code": _ERROR}
    return document
