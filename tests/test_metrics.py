"""Metrics: counted by any thread, read by Prometheus' own parser."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from functions.metrics import Metrics, process_began

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LABELS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    max_size=3,
)


def parsed(metrics: Metrics) -> dict[str, Metric]:
    """Return what Prometheus would understand of the page."""
    return {each.name: each for each in text_string_to_metric_families(metrics.text())}


def samples(metrics: Metrics, family: str) -> dict[tuple[tuple[str, str], ...], float]:
    found = parsed(metrics)[family].samples
    series = [(each.name, *sorted(each.labels.items())) for each in found]
    assert len(set(series)) == len(series), "Prometheus refuses the whole page"
    return {
        tuple(sorted(s.labels.items())): s.value
        for s in found
        if s.name not in {f"{family}_count", f"{family}_bucket"}
    }


def test_nothing_counted_is_an_empty_page() -> None:
    """It is a page all the same."""
    assert parsed(Metrics()) == {}


def test_counters_add_up_by_their_labels() -> None:
    """One series for each set of labels, whatever their order."""
    metrics = Metrics()
    metrics.count("swaps", outcome="completed", operation="swap")
    metrics.count("swaps", operation="swap", outcome="completed")
    metrics.count("swaps", 2.5, outcome="refused", operation="swap")
    metrics.count("wakes")
    family = parsed(metrics)["guise_swaps"]
    assert family.type == "counter"
    assert {s.name for s in family.samples} == {"guise_swaps_total"}
    assert samples(metrics, "guise_swaps") == {
        (("operation", "swap"), ("outcome", "completed")): 2,
        (("operation", "swap"), ("outcome", "refused")): 2.5,
    }
    assert samples(metrics, "guise_wakes") == {(): 1}


def test_durations_are_a_histogram() -> None:
    """How many, how long together, and how many up to each bound."""
    metrics = Metrics()
    metrics.observe("swap_seconds", 0.5, device="cpu")
    metrics.observe("swap_seconds", 0.25, device="cpu")
    family = parsed(metrics)["guise_swap_seconds"]
    assert family.type == "histogram"
    whole = {s.name: s.value for s in family.samples if "le" not in s.labels}
    assert whole == {"guise_swap_seconds_count": 2, "guise_swap_seconds_sum": 0.75}
    buckets = {s.labels["le"]: s.value for s in family.samples if "le" in s.labels}
    assert [buckets[le] for le in ("0.1", "0.25", "0.5", "300.0", "+Inf")] == [
        *(0, 1, 2, 2, 2)
    ]


def test_one_name_with_several_sets_of_labels_keeps_them_apart() -> None:
    """No sample is shown under another's label, and the page stays whole."""
    metrics = Metrics()
    metrics.count("jobs")
    metrics.count("jobs", state="done")
    metrics.count("jobs", place="done")
    metrics.count("jobs", state="done", place="acme")
    metrics.observe("job_seconds", 1)
    metrics.observe("job_seconds", 2, place="acme")
    assert samples(metrics, "guise_jobs") == {
        (): 1,
        (("state", "done"),): 1,
        (("place", "done"),): 1,
        (("place", "acme"), ("state", "done")): 1,
    }
    assert samples(metrics, "guise_job_seconds") == {(): 1, (("place", "acme"),): 2}


@given(st.lists(st.tuples(LABELS, st.floats(0, 10)), max_size=8))
def test_whatever_the_labels_the_page_parses(
    observed: list[tuple[dict[str, str], float]],
) -> None:
    """Quotes, newlines and backslashes too; and no number is lost."""
    metrics = Metrics()
    for labels, amount in observed:
        metrics.count("things", amount, **labels)
        metrics.observe("thing_seconds", amount, **labels)
    if not observed:
        return
    total = pytest.approx(sum(amount for _, amount in observed))
    assert sum(samples(metrics, "guise_things").values()) == total
    assert sum(samples(metrics, "guise_thing_seconds").values()) == total


def test_threads_lose_no_count() -> None:
    """Eight of them at once, while somebody reads."""
    metrics = Metrics()
    start = threading.Barrier(9)

    def count(_: int) -> None:
        start.wait()
        for _ in range(2000):
            metrics.count("hits")
            metrics.observe("hit_seconds", 1)

    with ThreadPoolExecutor(8) as threads:
        counting = [threads.submit(count, number) for number in range(8)]
        start.wait()
        while not all(each.done() for each in counting):
            parsed(metrics)
    assert samples(metrics, "guise_hits") == {(): 16_000}
    assert samples(metrics, "guise_hit_seconds") == {(): 16_000}


def test_the_page_sums_over_tenants_and_names_none() -> None:
    """Everybody inside may read it; whoever pushes knows each tenant's own."""
    metrics = Metrics()
    for tenant, amount in (("acme", 1), ("umbra", 2)):
        metrics.count("jobs", amount, tenant=tenant, state="done")
        metrics.gauge("cost", amount, tenant=tenant)
        metrics.observe("job_seconds", amount, tenant=tenant)
    assert samples(metrics, "guise_jobs") == {(("state", "done"),): 3}
    assert samples(metrics, "guise_cost") == {(): 3}
    assert samples(metrics, "guise_job_seconds") == {(): 3}
    assert "tenant" not in metrics.text()
    told = metrics.snapshot().counts
    assert told["jobs", (("state", "done"), ("tenant", "acme"))] == 1


def test_a_gauge_is_what_it_was_set_to_last() -> None:
    """It does not add up."""
    metrics = Metrics()
    metrics.gauge("cost", 3, month="2026-11")
    metrics.gauge("cost", 2.5, month="2026-11")
    assert samples(metrics, "guise_cost") == {(("month", "2026-11"),): 2.5}


def test_one_tenant_too_many_is_counted_under_none() -> None:
    """No crowd of tenants makes a process keep series without end."""
    metrics = Metrics(series_max=2)
    for number in range(50):
        metrics.count("jobs", tenant=f"t{number}")
    metrics.count("jobs", tenant="t0")
    told = metrics.snapshot().counts
    assert len(told) == 3
    assert told["jobs", (("tenant", "t0"),)] == 2
    assert told["jobs", ()] == 48


def test_a_process_knows_when_it_began() -> None:
    """Before now, and after the machine did."""
    assert 0 < process_began() < time.monotonic()
