"""Acknowledged entries a second over the audit function's real door, and its growth.

One gunicorn as in production (a gthread worker of 40 threads), on PostgreSQL and on
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
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from benchmarks._callers import Load, call, device, request, stolen
from functions import events
from functions.audit.leaf import leaf_of
from functions.audit.log import Log
from functions.audit.read import reading
from functions.audit.store import SCHEMA
from functions.auth import jwks_document
from functions.commits import BATCH_MAX
from functions.database import migrate, open_database, transaction
from functions.events import Event
from functions.keys import FileKeys, events_key
from tests.postgres import APP, OWNER, Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.keys import Signer

CALLERS = (1, 8, 32, 128)
TENANTS = (1, 64)
ROUNDS = 3
SECONDS = 2.0
SIZES = (10_000, 1_000_000)
FLAT_PROOFS = 200
HERE = Path(__file__).parent
GUNICORN = (
    *("--worker-class", "gthread", "--workers", "1", "--threads", "40"),
    *("--timeout", "0", "--no-control-socket", "--log-level", "critical"),
    *("--chdir", str(HERE), "_audit_door:create_app()"),
)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a fresh database, its tables made."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/audit.db"
        return
    server = Postgres()
    try:
        with server.database() as made:
            engine = open_database(made.url(OWNER))
            migrate(engine, SCHEMA)
            engine.dispose()
            for role in ("committer", "reader", "searcher", "eraser"):
                made.tamper(f"GRANT guise_audit_{role} TO {APP} WITH INHERIT FALSE")
            yield made.url()
    finally:
        server.stop()


@contextmanager
def serving(url: str, folder: Path) -> Iterator[int]:
    """Yield the port on which gunicorn serves the function."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        bind = f"fd://{listener.fileno()}"
        process = subprocess.Popen(  # noqa: S603  # our own
            [sys.executable, "-m", "gunicorn", "--bind", bind, *GUNICORN],
            pass_fds=[listener.fileno()],
            env=os.environ
            | {
                "GUISE_DATABASE": url,
                "GUISE_KEYS": f"{folder}/keys",
                "GUISE_JWKS": f"{folder}/jwks.json",
                "GUISE_ISSUER": "guise",
                "GUISE_PROFILE": "development",
            },
        )
        try:
            yield listener.getsockname()[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


class Tenants:
    """Tenants with keys, who never say the same thing twice."""

    def __init__(self, folder: Path, number: int) -> None:
        self.keys = FileKeys(folder / "keys")
        self.keys.create("audit")
        issuer = self.keys.create("tokens")
        (folder / "jwks.json").write_text(json.dumps(jwks_document(issuer)))
        names = [f"tenant-{each}" for each in range(number)]
        self._signers = {each: self.keys.create(events_key(each)) for each in names}
        self._said = 0

    def requests(self, tenants: int, number: int) -> list[bytes]:
        """Return events of the first `tenants`, in turns, as they are posted."""
        signers = list(self._signers.items())[:tenants]
        return [self._request(*signers[n % tenants]) for n in range(number)]

    def _request(self, tenant: str, signer: Signer) -> bytes:
        self._said += 1
        headers, body = events.encode(events.sign(event(tenant, self._said), signer))
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


def measured(port: int, tenants: Tenants, number: int, callers: int) -> dict[str, Any]:
    """Return the medians of some rounds, ours and the empty handler's in turns."""
    ours: list[Load] = []
    empty: list[Load] = []
    nothing = request("/empty", {"Content-Type": "application/json"}, b"x" * 600)
    wanted = tenants.requests(number, 40)
    rate = call(port, wanted, callers).per_second
    before = stolen()
    for _ in range(ROUNDS):
        each = tenants.requests(number, max(60, int(rate * options.seconds)))
        empty.append(call(port, [nothing] * len(each), callers))
        ours.append(call(port, each, callers))
    after = stolen()
    acks = statistics.median(each.per_second for each in ours)
    peer = statistics.median(each.per_second for each in empty)
    return {
        "tenants": number,
        "callers": callers,
        "acks_per_second": round(acks),
        "empty_per_second": round(peer),
        "of_empty": round(acks / peer, 2),
        "p50_ms": round(statistics.median(each.p50_ms for each in ours), 1),
        "p99_ms": round(statistics.median(each.p99_ms for each in ours), 1),
        "steal_percent": round(
            100 * (after[0] - before[0]) / max(1, after[1] - before[1]), 1
        ),
    }


def loads(kind: str) -> list[dict[str, Any]]:
    """Return the figures of every load on one kind of database."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tenants = Tenants(folder, max(options.tenants))
        with database(kind, folder) as url, serving(url, folder) as port:
            return [
                {"database": kind, **measured(port, tenants, number, callers)}
                for number in options.tenants
                for callers in options.callers
            ]


def growth(kind: str) -> list[dict[str, Any]]:
    """Return what an append, a proof and an entry cost in logs of each size."""
    figures = []
    with tempfile.TemporaryDirectory() as name, database(kind, Path(name)) as url:
        keys = Tenants(Path(name), 1).keys
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
        "ours": chosen["acks_per_second"],
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
