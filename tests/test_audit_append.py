"""The benchmark of the audit log runs, and says what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

REPOSITORY: Final = Path(__file__).parents[1]
BENCHMARK: Final = REPOSITORY / "benchmarks" / "audit_append.py"
FIGURES: Final = {"per_second", "empty_per_second", "of_empty", "p50_ms", "p99_ms"}


def run(*options: str) -> Any:
    """Return the one line that it prints."""
    command = [sys.executable, str(BENCHMARK), *options]
    printed = subprocess.check_output(command, text=True, cwd=REPOSITORY, timeout=120)
    (line,) = printed.splitlines()
    return json.loads(line)


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_every_load_is_measured_beside_an_empty_handler(database: str) -> None:
    """On the real door, with one tenant and with several."""
    few: tuple[str, ...] = (
        "--callers",
        "1",
        "4",
        "--tenants",
        "1",
        "3",
        "--seconds",
        "0.1",
    )
    few += ("--least", "8")
    told = run("--database", database, *few)
    assert (told["name"], len(told["loads"])) == ("audit_append", 4)
    for load in told["loads"]:
        assert set(load) >= FIGURES
        assert load["per_second"] > 0
        assert "steal_percent" in load


def test_growth_is_measured_at_each_size() -> None:
    """What an append, a proof and an entry cost, in a log that many entries long."""
    told = run("--growth", "300", "600", "--database", "postgresql", "sqlite")
    assert [each["entries"] for each in told["at"]] == [300, 600, 300, 600]
    for each in told["at"]:
        assert min(each["append_ms"], each["proof_ms"], each["bytes_per_entry"]) > 0
