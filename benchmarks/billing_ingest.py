"""Usage counted a second over the billing function's real door, singly and in batches.

One gunicorn as in production (a `Patient` worker of 40 threads), on PostgreSQL and on
SQLite, both with fsync; every event is signed, and its signature checked.  Beside
each load the same number of callers on a route of the same process that reads the
request and does nothing: for single events `of_empty` is what is left of its rate.
The two take turns, and medians are shown.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks._callers import device, request
from benchmarks._door import LEAST, Function, Tenants, beside_empty
from functions import events
from functions.billing.ledger import SCHEMA
from functions.events import BATCH, Event

if TYPE_CHECKING:
    from functions.keys import Signer

BATCH_EVENTS = 100
SECONDS = 2.0
BILLING = Function("billing", SCHEMA, ("committer", "reader"))


def event(tenant: str, signer: Signer, number: int) -> Event:
    """Return the usage of one swap, as large as a worker's, signed."""
    job = f"job-{number:010d}"
    usage = Event(
        id=events.derived_id(tenant, job),
        source=events.swap_source(tenant),
        type=events.USAGE_RECORDED,
        subject=tenant,
        time=events.now(),
        tenant=tenant,
        data={
            "job": job,
            "operation": "swap",
            "device": {"kind": "cuda", "name": "L4", "uuid": "GPU-1", "share": "1"},
            "lease_ms": 136,
            "gpu_seconds": "0.136",
            "cpu_seconds": "0.412",
            "load_ms": 0,
            "requests": 1,
            "faces": 2,
            "frames": 1,
            "input_bytes": 182_000,
            "output_bytes": 241_000,
            "model_digest": "2" * 64,
            "outcome": "completed",
            "billable": True,
        },
    )
    return events.sign(usage, signer)


def single(tenant: str, signer: Signer, number: int) -> bytes:
    """Return a request with one event, in binary mode."""
    headers, body = events.encode(event(tenant, signer, number))
    return request(f"/v1/tenants/{tenant}/events", headers, body)


def batch(tenant: str, signer: Signer, number: int) -> bytes:
    """Return a request with a hundred events, in batch mode."""
    first = number * BATCH_EVENTS
    found = [
        events.as_dict(event(tenant, signer, first + each))
        for each in range(BATCH_EVENTS)
    ]
    body = msgspec.json.encode(found)
    return request(f"/v1/tenants/{tenant}/events", {"Content-Type": BATCH}, body)


def loads(kind: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures of every load on one kind of database."""
    found = []
    for events_each, post in ((1, single), (BATCH_EVENTS, batch)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            tenants = Tenants(folder, max(options.tenants), post)
            with (
                BILLING.database(kind, folder) as url,
                BILLING.serving(url, folder) as port,
            ):
                for number in options.tenants:
                    asked = partial(tenants.requests, number)
                    load = beside_empty(
                        port,
                        asked,
                        options.callers,
                        options.seconds,
                        options.least,
                    )
                    found.append(
                        {
                            "database": kind,
                            "batch": events_each,
                            "tenants": number,
                            "callers": options.callers,
                            "events_per_second": load["per_second"] * events_each,
                            **load,
                        }
                    )
    return found


def main() -> None:
    """Print one line with every figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", nargs="+", default=["postgresql", "sqlite"])
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--tenants", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--least", type=int, default=LEAST)
    options = parser.parse_args()
    found = [each for kind in options.database for each in loads(kind, options)]
    chosen = found[0]
    figure = {
        "name": "billing_ingest",
        "ours": chosen["per_second"],
        "peer": chosen["empty_per_second"],
        "ratio": chosen["of_empty"],
        "unit": "1/s",
        "device": device(),
        "loads": found,
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
