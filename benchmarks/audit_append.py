"""Acknowledged entries a second over the audit function's real door, and its growth.

One gunicorn as in production (a `Patient` worker of 40 threads), on PostgreSQL and on
SQLite, both with fsync: 1, 8, 32 and 128 callers that keep their connections, one
tenant and 64.  Beside each load the same load on a route of the same process that
reads the request, answers as many bytes, and does nothing: `of_empty` is what is left
of its rate.  The two take turns, and medians are shown; what others took of the
cores meanwhile is `steal_percent`.

`--growth [N ...]` fills logs of 10,000 and 1,000,000 entries (10,000,000 if asked)
instead, and shows what an append, a proof and an entry cost at each size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from benchmarks._callers import device, request
from benchmarks._door import LEAST, Function, Tenants, beside_empty
from functions import events
from functions.audit.leaf import leaf_of
from functions.audit.log import Log
from functions.audit.read import reading
from functions.audit.store import SCHEMA
from functions.commits import BATCH_MAX
from functions.database import open_database, transaction
from functions.events import Event

if TYPE_CHECKING:
    from functions.keys import Signer

CALLERS = (1, 8, 32, 128)
TENANTS = (1, 64)
SECONDS = 2.0
SIZES = (10_000, 1_000_000)
FLAT_PROOFS = 200
AUDIT = Function("audit", SCHEMA, ("committer", "reader", "searcher", "eraser"))


def post(tenant: str, signer: Signer, number: int) -> bytes:
    """Return the request with which a tenant's worker asks for a receipt."""
    headers, body = events.encode(events.sign(event(tenant, number), signer))
    return request(f"/v1/tenants/{tenant}/events", headers, body)


def event(tenant: str, number: int) -> Event:
    """Return the start of a job, as large as a worker's."""
    job = f"job-{number:08d}"
    return Event(
        id=events.derived_id(tenant, job),
        source=events.swap_source(tenant),
        type=events.SWAP_STARTED,
        subject=job,
        time=events.rfc3339_of(1_800_000_000_000 + number),
        tenant=tenant,
        data={
            "job": job,
            "attempt": 1,
            "operation": "swap",
            "actor": "somebody",
            "commitments": {"source": ["0" * 64], "target": "1" * 64},
            "consent": {"basis": "consent", "record": "consents/42.json"},
            "verdict": "admitted",
            "pack": {"name": "lite", "version": "1.0.0", "digest": "2" * 64},
            "code": "0.1.0",
        },
    )


def loads(kind: str) -> list[dict[str, Any]]:
    """Return the figures of every load on one kind of database."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tenants = Tenants(folder, max(options.tenants), post)
        with (
            AUDIT.database(kind, folder) as url,
            AUDIT.serving(url, folder) as port,
        ):
            return [
                {"database": kind, "tenants": number, "callers": callers}
                | beside_empty(
                    port,
                    partial(tenants.requests, number),
                    callers,
                    options.seconds,
                    options.least,
                )
                for number in options.tenants
                for callers in options.callers
            ]


def growth(kind: str) -> list[dict[str, Any]]:
    """Return what an append, a proof and an entry cost in logs of each size."""
    figures = []
    with tempfile.TemporaryDirectory() as name, AUDIT.database(kind, Path(name)) as url:
        keys = Tenants(Path(name), 1, post).keys
        log = Log.at(url, keys)
        size = 0
        for wanted in options.growth:
            while size < wanted:
                size = fill(log, size, min(wanted, size + BATCH_MAX))
            figures.append({"database": kind, "entries": size} | costs(log, size, url))
            size += 20
        log.close()
    return figures


def fill(log: Log, start: int, stop: int) -> int:
    """Append events straight to the log, without a door; return how many it has."""
    log._commit([leaf_of(event("acme", each)) for each in range(start, stop)])  # noqa: SLF001
    return stop


def costs(log: Log, size: int, url: str) -> dict[str, float]:
    """Return medians in milliseconds, and bytes an entry."""
    before = space(url)
    appends = []
    for each in range(size, size + 20):
        began = time.perf_counter()
        fill(log, each, each + 1)
        appends.append(time.perf_counter() - began)
    proofs = []
    for each in range(FLAT_PROOFS):
        began = time.perf_counter()
        with reading(log.store, "acme") as read:
            read.prove(each * (size // FLAT_PROOFS))
        proofs.append(time.perf_counter() - began)
    return {
        "append_ms": round(1000 * statistics.median(appends), 2),
        "proof_ms": round(1000 * statistics.median(proofs), 2),
        "bytes_per_entry": round(before / size),
    }


def space(url: str) -> int:
    """Return how many bytes the database has on the disk."""
    where = make_url(url)
    if where.drivername == "sqlite":
        return sum(
            each.stat().st_size
            for each in Path(str(where.database)).parent.glob("audit.db*")
        )
    engine = open_database(url)
    with transaction(engine) as db:
        query = "SELECT pg_database_size(current_database())"
        found = int(db.exec_driver_sql(query).scalar_one())
    engine.dispose()
    return found


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--growth", nargs="*", type=int)
    parser.add_argument("--database", nargs="+", default=["postgresql", "sqlite"])
    parser.add_argument("--callers", nargs="+", type=int, default=CALLERS)
    parser.add_argument("--tenants", nargs="+", type=int, default=TENANTS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--least", type=int, default=LEAST)
    return parser.parse_args(arguments)


def main() -> None:
    """Print one line with every figure."""
    if options.growth is not None:
        options.growth = options.growth or list(SIZES)
        grown = [each for kind in options.database for each in growth(kind)]
        print(json.dumps({"name": "audit_growth", "device": device(), "at": grown}))
        return
    found = [each for kind in options.database for each in loads(kind)]
    chosen = min(found, key=lambda each: abs(each["callers"] - 32) + each["tenants"])
    figure = {
        "name": "audit_append",
        "ours": chosen["per_second"],
        "peer": chosen["empty_per_second"],
        "ratio": chosen["of_empty"],
        "unit": "1/s",
        "device": device(),
        "loads": found,
    }
    print(json.dumps(figure))


if __name__ == "__main__":
    options = options_of()
    main()
