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
        from prometheus_client.metrics_core import Metric

        with self._lock:
            counts = dict(self._counts)
            sums = {key: tuple(value) for key, value in self._sums.items()}
        # Samples are added one by one: a `…MetricFamily` has one set of label names,
        # and would put a sample that has others under the wrong ones.
        counters: dict[str, Metric] = {}
        for (name, labels), amount in sorted(counts.items()):
            full = f"guise_{name}"
            family = counters.setdefault(name, Metric(full, name, "counter"))
            family.add_sample(f"{full}_total", dict(labels), amount)
        summaries: dict[str, Metric] = {}
        for (name, labels), (number, total) in sorted(sums.items()):
            full = f"guise_{name}"
            family = summaries.setdefault(name, Metric(full, name, "summary"))
            family.add_sample(f"{full}_count", dict(labels), number)
            family.add_sample(f"{full}_sum", dict(labels), total)
        yield from counters.values()
        yield from summaries.values()
