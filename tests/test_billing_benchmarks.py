"""The benchmarks of billing run, and say what they promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parents[1]


def run(name: str, *options: str) -> Any:
    """Return the one line that a benchmark prints."""
    command = [sys.executable, str(REPOSITORY / "benchmarks" / name), *options]
    printed = subprocess.check_output(command, text=True, cwd=REPOSITORY, timeout=120)
    (line,) = printed.splitlines()
    return json.loads(line)


def test_ingest_is_measured_one_by_one_and_in_batches() -> None:
    """On both databases, with one tenant and with several."""
    few: tuple[str, ...] = (
        "--callers",
        "4",
        "--tenants",
        "1",
        "3",
        "--seconds",
        "0.05",
    )
    few += ("--least", "4")
    told = run("billing_ingest.py", *few)
    assert [each["batch"] for each in told["loads"]] == [1, 1, 100, 100] * 2
    for load in told["loads"]:
        assert load["events_per_second"] == load["per_second"] * load["batch"] > 0


def test_the_close_of_a_month_is_measured() -> None:
    """Every tenant gets its invoice, and the memory is told."""
    told = run("billing_close.py", "--rows", "2000", "--tenants", "20")
    assert (told["rows"], told["tenants"]) == (2000, 20)
    assert told["peak_mib"] > 0
