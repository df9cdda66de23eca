"""Closing a month: how long, and in how much memory, for a whole platform's usage.

Fills a PostgreSQL ledger (fsync on) with usage of 1,000 tenants, straight into its
table, and then closes the month for every tenant as `guise bill close` does: sums,
the root of every event set, tiers, rounding, one transaction an invoice.  Beside it
the one query that no close can do without, the sums of all tenants, is timed in the
same run: `times_query` is how much longer the whole close takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from benchmarks._callers import device
from functions.billing import closing
from functions.billing.invoice import Period
from functions.billing.ledger import SCHEMA, Ledger
from functions.billing.rates import RateCards
from functions.database import open_database, transaction
from tests.postgres import OPERATOR, Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres import Database

MONTH = Period(2026, 10)
NOW = datetime(2026, 11, 5, tzinfo=UTC)
ROUNDS = 3
FILL = """
INSERT INTO usage (
    tenant, source, id, digest, at_ms, period, late, job, operation, outcome, billable,
    device_kind, device_name, device_uuid, device_share, model_digest, lease_ms, gpu_ms,
    cpu_ms, load_ms, requests, faces, frames, input_bytes, output_bytes, byte_hours
)
SELECT
    'tenant-' || n % {tenants}, '/tenants/tenant-' || n % {tenants} || '/swap',
    md5(n::text), sha256(n::text::bytea), {start} + n % 2678000000, '{month}', false,
    'job-' || n, 'swap', 'completed', n % 50 <> 0, 'cuda',
    (ARRAY['NVIDIA L4', 'NVIDIA H100 80GB HBM3'])[1 + n % 2], 'GPU-' || n % 16, '1',
    'sha256:00', 136, 136, 412, 0, 1, 2, 1, 1000, 500, 0
FROM generate_series({first}::bigint, {last}::bigint) AS n
"""
SUMS = """
SELECT tenant, device_name, count(*), sum(gpu_ms), sum(cpu_ms), sum(requests)
FROM usage WHERE billable GROUP BY tenant, device_name
"""


@contextmanager
def ledger_of(rows: int, tenants: int) -> Iterator[Database]:
    """Yield a database with so much usage."""
    server = Postgres()
    try:
        with server.database() as made:
            made.prepare(SCHEMA, "guise_billing", {OPERATOR: ("reader", "closer")})
            for first in range(0, rows, 1_000_000):
                last = min(rows, first + 1_000_000) - 1
                made.tamper(
                    FILL.format(
                        tenants=tenants,
                        start=MONTH.start_ms,
                        month=MONTH,
                        first=first,
                        last=last,
                    )
                )
            made.tamper("INSERT INTO account SELECT DISTINCT tenant FROM usage")
            made.tamper("ANALYZE")
            yield made
    finally:
        server.stop()


def closed(url: str) -> int:
    """Close the month for everybody; return how many invoices that made."""
    ledger, cards = Ledger.open(url), RateCards.load()
    try:
        return sum(_closed(ledger, cards, tenant) for tenant in closing.tenants(ledger))
    finally:
        ledger.close()


def _closed(ledger: Ledger, cards: RateCards, tenant: str) -> bool:
    closing.close(ledger, tenant, MONTH, NOW)
    return closing.issued(ledger, cards, tenant, MONTH, NOW) is not None


def queried(database: Database) -> float:
    """Return the seconds that the sums of everybody take, the median of some."""
    engine = open_database(database.url("postgres"))
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with transaction(engine) as db:
            db.exec_driver_sql(SUMS).all()
        took.append(time.perf_counter() - began)
    engine.dispose()
    return statistics.median(took)


def figure(rows: int, tenants: int) -> dict[str, Any]:
    """Return what one close took, and the largest that this process has been."""
    with ledger_of(rows, tenants) as database:
        peer = queried(database)
        began = time.perf_counter()
        invoices = closed(database.url(OPERATOR))
        seconds = time.perf_counter() - began
    if invoices != tenants:
        raise SystemExit(f"{invoices} invoices for {tenants} tenants")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "name": "billing_close",
        "ours": round(seconds, 1),
        "peer": round(peer, 2),
        "times_query": round(seconds / peer, 1),
        "unit": "s",
        "device": device(),
        "rows": rows,
        "tenants": tenants,
        "peak_mib": round(peak / 2**20),
    }


def main() -> None:
    """Print one line with every figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    options = parser.parse_args()
    print(json.dumps(figure(options.rows, options.tenants)))


if __name__ == "__main__":
    main()
