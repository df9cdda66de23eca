"""Counters and durations, kept in a dictionary and shown as Prometheus text.

`prometheus_client` writes the format; it is imported when somebody asks for
`/metrics`, not when a cold function counts its first request (45 ms).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What one process has counted since it started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[tuple[str, Labels], float] = defaultdict(float)
        self._sums: defaultdict[tuple[str, Labels], list[float]] = defaultdict(
            lambda: [0, 0.0],
        )

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add `amount` to the counter `name` (without `_total`)."""
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration to the summary `name` (which ends in `_seconds`)."""
        with self._lock:
            entry = self._sums[name, tuple(sorted(labels.items()))]
            entry[0] += 1
            entry[1] += seconds

    def text(self) -> str:
        """Return everything in the Prometheus text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self) -> Iterator[Metric]:
        """Yield one metric family a name, as `prometheus_client` asks."""
        from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

        with self._lock:
            counts = dict(self._counts)
            sums = {key: tuple(value) for key, value in self._sums.items()}
        counters: dict[str, CounterMetricFamily] = {}
        for (name, labels), amount in sorted(counts.items()):
            names = [key for key, _ in labels]
            family = counters.setdefault(
                name,
                CounterMetricFamily(f"guise_{name}", name, labels=names),
            )
            family.add_metric([value for _, value in labels], amount)
        summaries: dict[str, SummaryMetricFamily] = {}
        for (name, labels), (number, total) in sorted(sums.items()):
            names = [key for key, _ in labels]
            summary = summaries.setdefault(
                name,
                SummaryMetricFamily(f"guise_{name}", name, labels=names),
            )
            summary.add_metric([value for _, value in labels], int(number), total)
        yield from counters.values()
        yield from summaries.values()
