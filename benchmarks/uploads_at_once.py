"""Two thousand requests uploaded at once: every one is done, and nothing is dropped.

The real watcher, broker, worker, audit and billing on one device, with pictures so
small that the way to the device counts and not the work on it.  Whatever is lost,
doubled, left over or dead ends this with an error.  `make crowd N=2000`; without a
number, two hundred.  There is no peer: insightface and its kin have no queue.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import httpx

from functions.cli.serve import Running, own
from models import pull

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
JOBS = 200
SIDE_PIXELS = 96
SECONDS_MAX = 3_600


def upload(stack: Running, number: int) -> None:
    """Put `number` pictures and as many requests into the tenant's store."""
    photograph = cv2.imread(str(ROOT / "examples" / "hopper.jpg"))
    if photograph is None:
        raise SystemExit("examples/hopper.jpg cannot be read")
    small = cv2.resize(photograph, (SIDE_PIXELS, SIDE_PIXELS))
    picture = cv2.imencode(".png", small)[1].tobytes()
    store = stack.tenant_folder
    for n in range(number):
        (store / "uploads" / f"{n}.png").write_bytes(picture)
    for n in range(number):
        request = {"operation": "detect", "target": f"uploads/{n}.png"}
        made = store / "requests" / f".{n}"
        made.write_text(json.dumps(request))
        made.rename(store / "requests" / f"crowd-{n}.json")


def wait(stack: Running, number: int) -> float:
    """Return the seconds until all have ended, are told, and everything sleeps."""
    results, outbox = stack.tenant_folder / "results", stack.tenant_folder / "outbox"
    began = time.perf_counter()
    while len(list(results.glob("crowd-*/job.json"))) < number or any(outbox.glob("*")):
        if time.perf_counter() - began > SECONDS_MAX:
            raise SystemExit(f"after {SECONDS_MAX} s: {stack.status()}")
        time.sleep(0.5)  # to look costs the device something, too
    took = time.perf_counter() - began
    while not stack.status().settled:
        time.sleep(0.1)
    return took


def entries(stack: Running) -> Iterator[dict[str, Any]]:
    """Yield the leaf of every entry in the tenant's log."""
    start = 0
    while start is not None:
        path = f"/v1/tenants/{stack.tenant}/log/entries?start={start}"
        page = get(stack, stack.audit + path)
        for entry in page["entries"]:
            yield entry["leaf"]
        start = page["next"]


def get(stack: Running, url: str) -> Any:  # noqa: ANN401  # JSON
    """Return the JSON at `url`."""
    headers = {"Authorization": f"Bearer {stack.token}"}
    answer = httpx.get(url, headers=headers, timeout=60, trust_env=False)
    answer.raise_for_status()
    return answer.json()


def check(stack: Running, number: int) -> dict[str, int]:
    """Return what was counted, or exit where a count is wrong."""
    records = stack.tenant_folder.glob("results/crowd-*/job.json")
    outcomes = Counter(json.loads(path.read_bytes())["outcome"] for path in records)
    kinds = Counter(leaf["type"].split(".")[-2] for leaf in entries(stack))
    path = f"/v1/tenants/{stack.tenant}/usage?by=operation"
    billed = get(stack, stack.billing + path)["groups"]
    counted = {
        "completed": outcomes["completed"],
        "started": kinds["started"],
        "endings": kinds["completed"],
        "billed": sum(each["requests"] for each in billed),
    }
    dead = stack.status().dead_letters
    if dead or set(counted.values()) != {number}:
        raise SystemExit(f"{dead} dead letters, of {number} jobs: {counted}")
    return counted


def main() -> None:
    """Print the seconds, and the jobs a second."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    pull.pull("lite", ROOT / ".guise" / "models", report=lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "models").symlink_to(ROOT / ".guise" / "models")
        with own(home, idle_seconds=2, quiet=True) as stack:
            upload(stack, number)
            took = wait(stack, number)
            check(stack, number)
    figure = {
        "name": "uploads_at_once",
        "ours": round(took, 1),
        "peer": None,
        "ratio": None,
        "unit": "s",
        "device": f"cpu, {len(os.sched_getaffinity(0))} cores",
        "jobs": number,
        "jobs_per_second": round(number / took, 1),
        "dead_letters": 0,
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
