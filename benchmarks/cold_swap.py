"""The first swap after sleep: socket touched to the last byte of the answer.

Door, worker, audit and engine are all cold, the page cache is warm.  There is no
peer: insightface and its kin have no service that sleeps.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from functions.cli.serve import Running, own
from models import pull

ROOT = Path(__file__).parents[1]
RUNS = 7


def cold(stack: Running) -> float:
    """Return the seconds one swap takes when everything sleeps."""
    while not stack.status().settled:
        time.sleep(0.05)
    request = {"operation": "swap", "consent": {"basis": "public-domain"}}
    files = {
        "source": (ROOT / "examples" / "collins.jpg").read_bytes(),
        "target": (ROOT / "examples" / "hopper.jpg").read_bytes(),
    }
    began = time.perf_counter()
    answer = httpx.post(
        f"{stack.door}/v1/swaps",
        data={"request": json.dumps(request)},
        files=files,
        headers={"Authorization": f"Bearer {stack.token}", "Accept": "image/jpeg"},
        timeout=60,
    )
    answer.raise_for_status()
    return time.perf_counter() - began


def main() -> None:
    """Print the median of seven cold swaps."""
    pull.pull("lite", ROOT / ".guise" / "models", report=lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "models").symlink_to(ROOT / ".guise" / "models")
        with own(home, idle_seconds=0.5, quiet=True) as stack:
            took = [cold(stack) for _ in range(RUNS)]
    figure = {
        "name": "cold_swap",
        "ours": round(statistics.median(took), 3),
        "peer": None,
        "ratio": None,
        "unit": "s",
        "device": f"cpu, {len(os.sched_getaffinity(0))} cores",
        "n": RUNS,
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
