"""Counters, gauges and durations, kept in dictionaries.

`/metrics` shows them as Prometheus text, and everybody inside may read that page: so
it names no tenant, and a series that knows its tenant is shown as the sum over all of
them.  Tenant by tenant they go where an operator has them sent; see `otlp`.

`prometheus_client` writes the format; it is imported when somebody asks for
`/metrics`, not when a cold function counts its first request (45 ms).
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from decimal import Decimal
    from fractions import Fraction

    from prometheus_client.metrics_core import Metric

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]

TENANT: Final = "tenant"
"""The label that is on no page."""
SERIES_MAX: Final = 20_000
"""Series that one process keeps; what would be one more is counted under no tenant."""
BOUNDS_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""The upper ends of a duration's buckets, from a status poll to the longest job."""
_START_FIELD: Final = 19
"""`starttime`, the 22nd field of `/proc/<pid>/stat`, behind the pid and the name."""


@dataclass(slots=True)
class Durations:
    """How many, how long together in seconds, and how many in each bucket.

    The last bucket is of what is over every bound.
    """

    count: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.count += 1
        self.seconds += seconds
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1

    def __add__(self, other: Durations) -> Durations:
        """Return both together."""
        return Durations(
            self.count + other.count,
            self.seconds + other.seconds,
            [a + b for a, b in zip(self.buckets, other.buckets, strict=True)],
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What had been counted at one moment, tenant by tenant."""

    counts: Mapping[Series, float]
    gauges: Mapping[Series, float]
    durations: Mapping[Series, Durations]


class Metrics:
    """What one process has counted since it started.

    `every` are labels that each series has when it is pushed, and on no page.
    """

    def __init__(self, *, series_max: int = SERIES_MAX) -> None:
        self.every: dict[str, str] = {}
        self._lock = threading.Lock()
        self._max = series_max
        self._counts: defaultdict[Series, float] = defaultdict(float)
        self._gauges: dict[Series, float] = {}
        self._durations: defaultdict[Series, Durations] = defaultdict(Durations)

    def count(self, name: str, amount: float | Fraction = 1, **labels: str) -> None:
        """Add `amount` to the counter `name` (without `_total`)."""
        with self._lock:
            self._counts[self._series(name, labels, self._counts)] += float(amount)

    def gauge(self, name: str, value: float | Decimal, **labels: str) -> None:
        """Set the gauge `name`, to the nearest float of what is exact elsewhere."""
        with self._lock:
            self._gauges[self._series(name, labels, self._gauges)] = float(value)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration to the histogram `name` (which ends in `_seconds`)."""
        with self._lock:
            self._durations[self._series(name, labels, self._durations)].add(seconds)

    def _series(
        self, name: str, labels: Mapping[str, str], kept: Mapping[Series, object]
    ) -> Series:
        series = name, tuple(sorted(labels.items()))
        if series in kept or len(kept) < self._max:
            return series
        return _untold(series)

    def snapshot(self) -> Snapshot:
        """Return everything as it stands, tenant by tenant."""
        with self._lock:
            return Snapshot(
                dict(self._counts),
                dict(self._gauges),
                {
                    series: each + Durations()
                    for series, each in self._durations.items()
                },
            )

    def text(self) -> str:
        """Return everything in the Prometheus text format, and nobody by name."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self) -> Iterator[Metric]:
        """Yield one metric family a name, as `prometheus_client` asks."""
        from prometheus_client.metrics_core import Metric

        now = self.snapshot()
        # Samples are added one by one: a `…MetricFamily` has one set of label names,
        # and would put a sample that has others under the wrong ones.
        for kind, suffix, values in (
            ("counter", "_total", now.counts),
            ("gauge", "", now.gauges),
        ):
            families: dict[str, Metric] = {}
            for (name, labels), amount in sorted(_summed(values.items()).items()):
                full = f"guise_{name}"
                family = families.setdefault(name, Metric(full, name, kind))
                family.add_sample(f"{full}{suffix}", dict(labels), amount)
            yield from families.values()
        histograms: dict[str, Metric] = {}
        together: dict[Series, Durations] = {}
        for series, each in now.durations.items():
            key = _untold(series)
            together[key] = together.get(key, Durations()) + each
        for (name, labels), each in sorted(together.items(), key=lambda pair: pair[0]):
            family = histograms.setdefault(
                name, Metric(f"guise_{name}", name, "histogram")
            )
            _add_durations(family, dict(labels), each)
        yield from histograms.values()


def _untold(series: Series) -> Series:
    """Return a series without its tenant."""
    name, labels = series
    return name, tuple(pair for pair in labels if pair[0] != TENANT)


def _summed(values: Iterable[tuple[Series, float]]) -> dict[Series, float]:
    found: defaultdict[Series, float] = defaultdict(float)
    for series, value in values:
        found[_untold(series)] += value
    return found


def _add_durations(family: Metric, labels: dict[str, str], each: Durations) -> None:
    below = 0
    for bound, number in zip((*BOUNDS_SECONDS, "+Inf"), each.buckets, strict=True):
        below += number
        family.add_sample(f"{family.name}_bucket", {**labels, "le": str(bound)}, below)
    family.add_sample(f"{family.name}_count", labels, each.count)
    family.add_sample(f"{family.name}_sum", labels, each.seconds)


def process_began() -> float:
    """Return when this process began, on `time.monotonic`'s clock in seconds.

    As `proc(5)` has it; where there is no such thing, that is now.
    """
    now = time.monotonic()
    try:
        stat = Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()
        ticks = int(stat[_START_FIELD])
        alive = time.clock_gettime(time.CLOCK_BOOTTIME)
        return now - alive + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):  # no Linux
        return now
