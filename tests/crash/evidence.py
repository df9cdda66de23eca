"""What is left when everything has come to rest, and what is wrong with it.

`read` collects it from a home whose stack has ended; `findings` only looks.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from functions import events
from functions.audit import read as log_reading
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.leaf import CONFLICT
from functions.audit.merkle import VerificationError
from functions.audit.store import Selection
from functions.audit.store import Store as LogStore
from functions.billing.tables import usages
from functions.database import open_database, transaction
from functions.keys import FileKeys
from functions.local.home import Home
from functions.local.queue import Queue
from functions.swap import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from functions.keys import KeyProvider

ENDINGS = frozenset(
    {
        events.SWAP_COMPLETED,
        events.SWAP_REFUSED,
        events.SWAP_FAILED,
    }
)
# Triggers that only wake audit, and give up soon: what they lose is no one's.
HINTS = ("/upload-to-audit", "/requested-to-audit")


@dataclass(frozen=True)
class Evidence:
    """All that can be read afterwards.

    `outputs` has, by job, the SHA-256 of each object beside the record by its key;
    `leaves` the whole log in its order; `bills` a job and whether it is billable, one
    a row; `left` what a sweep should have taken away; `fault` why the log does not
    verify; `called` the ids of the events that came by webhook, None where none was
    asked for.
    """

    accepted: frozenset[str]
    records: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, str]]
    leaves: list[Mapping[str, Any]]
    bills: list[tuple[str, bool]]
    left: list[str] = field(default_factory=list)
    fault: str = ""
    called: frozenset[str] | None = None


@dataclass(frozen=True)
class Findings:
    """What is wrong, one sentence each."""

    lost: list[str]
    doubled: list[str]
    unrecorded: list[str]
    left: list[str]

    @property
    def all(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.unrecorded, *self.left]


def findings(seen: Evidence) -> Findings:
    """Return all that is wrong."""
    return Findings(
        list(lost(seen)), list(doubled(seen)), list(unrecorded(seen)), seen.left
    )


def lost(seen: Evidence) -> Iterator[str]:
    """Yield what was accepted or done, and is not there."""
    ended = {leaf["data"]["job"] for leaf in seen.leaves if leaf["type"] in ENDINGS}
    paid = {job for job, billable in seen.bills if billable}
    for job in sorted(seen.accepted - seen.records.keys()):
        yield f"{job} has no record"
    for job, record in seen.records.items():
        if job not in ended:
            yield f"{job} has no ending in the log"
        if seen.called is not None and record["events"][0]["id"] not in seen.called:
            yield f"{job} was not told of by webhook"
        if record["outcome"] != ledger.COMPLETED:
            continue
        if job not in paid:
            yield f"{job} is not billed"
        if record["output"]["key"] not in seen.outputs.get(job, {}):
            yield f"{job} has no output"


def doubled(seen: Evidence) -> Iterator[str]:
    """Yield what is there twice, or was written over."""
    yield from (f"{job} ended {n} times" for job, n in _often(_ended(seen)))
    yield from (f"{job} was billed {n} times" for job, n in _often(_billed(seen)))
    yield from (f"{each} started {n} times" for each, n in _often(_started(seen)))
    for leaf in seen.leaves:
        if leaf["type"] == CONFLICT:
            yield f"the log has a conflict: {leaf['data']}"
    for job, objects in seen.outputs.items():
        output = seen.records.get(job, {}).get("output")
        for key, sha256 in objects.items():
            if output is None or key != output["key"]:
                yield f"{key} is an output that does not count"
            elif sha256 != output["sha256"]:
                yield f"{key} was written over"


def unrecorded(seen: Evidence) -> Iterator[str]:
    """Yield what was done without the log saying so, or where the log is no proof."""
    if seen.fault:
        yield f"the log does not verify: {seen.fault}"
    completed = defaultdict(list)
    for leaf in seen.leaves:
        if leaf["type"] == events.SWAP_COMPLETED:
            completed[leaf["data"]["job"]].append(leaf["data"]["attempt"])
    for job, record in seen.records.items():
        if record["outcome"] != ledger.COMPLETED:
            continue
        if not _receipted(job, record, seen.leaves):
            yield f"{job} was done without a receipt"
        if completed[job] and record["attempt"] not in completed[job]:
            yield f"the log tells of another attempt of {job}"
    for job, billable in seen.bills:
        if billable and seen.records.get(job, {}).get("outcome") != ledger.COMPLETED:
            yield f"{job} is billed and was not completed"


def _receipted(
    job: str, record: Mapping[str, Any], leaves: list[Mapping[str, Any]]
) -> bool:
    receipt = record.get("receipt")
    if receipt is None or receipt["index"] >= len(leaves):
        return False
    leaf = leaves[receipt["index"]]
    of_it = (leaf["data"].get("job"), leaf["data"].get("attempt"))
    return leaf["type"] == events.SWAP_STARTED and of_it == (job, record["attempt"])


def _often(names: Iterator[str]) -> list[tuple[str, int]]:
    return [(name, n) for name, n in Counter(names).items() if n > 1]


def _ended(seen: Evidence) -> Iterator[str]:
    return (leaf["data"]["job"] for leaf in seen.leaves if leaf["type"] in ENDINGS)


def _billed(seen: Evidence) -> Iterator[str]:
    return (job for job, _ in seen.bills)


def _started(seen: Evidence) -> Iterator[str]:
    for leaf in seen.leaves:
        if leaf["type"] == events.SWAP_STARTED:
            yield f"attempt {leaf['data']['attempt']} of {leaf['data']['job']}"


def read(
    home: Path,
    tenant: str,
    accepted: frozenset[str],
    called: frozenset[str] | None = None,
) -> Evidence:
    """Return what lies in a home that nobody serves any more."""
    place = Home(home.resolve())
    store = place.tenants / tenant
    pinned = {path.parent.name for path in store.glob("jobs/*/request.json")}
    keys = FileKeys(place.keys)
    leaves, fault = logged(place.database_url("audit"), keys, tenant)
    return Evidence(
        accepted=accepted | pinned,
        records={
            path.parent.name: json.loads(path.read_bytes())
            for path in store.glob("results/*/job.json")
        },
        outputs=_outputs(store),
        leaves=leaves,
        bills=billed(place.database_url("billing"), tenant),
        left=[
            *(f"{path.relative_to(store)} is left" for path in _left(store)),
            *_dead(place),
        ],
        fault=fault,
        called=called,
    )


def _left(store: Path) -> Iterator[Path]:
    for pattern in ("outbox/*", "undelivered/*", ".tmp/*"):
        yield from store.glob(pattern)


def _dead(place: Home) -> Iterator[str]:
    queue = Queue(place.queue)
    try:
        found = queue.dead_letters(limit=1_000_000)
    finally:
        queue.close()
    for each in found:
        if not each.trigger.endswith(HINTS):
            yield f"a dead letter of {each.trigger}: {each.reason}"


def _outputs(store: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path in store.glob("results/*/*"):
        if path.name != "job.json":
            key = str(path.relative_to(store))
            found[path.parent.name][key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def logged(
    url: str, keys: KeyProvider, tenant: str
) -> tuple[list[Mapping[str, Any]], str]:
    """Return every leaf of the log at `url`, and why it does not verify."""
    log = LogStore.open(url)
    try:
        found, _ = log_reading.page(log, Selection(tenant), limit=1_000_000)
        note = log_reading.checkpoint(log, tenant)
    finally:
        log.close()
    leaves = [entry.leaf for entry in found]
    try:
        verify_entries(leaves, note, log_verifiers(tenant, keys))
    except VerificationError as error:
        return [json.loads(each) for each in leaves], str(error)
    return [json.loads(each) for each in leaves], ""


def billed(url: str, tenant: str) -> list[tuple[str, bool]]:
    """Return each job's usage in the ledger at `url`: the job, and if it is billable.

    What the tenant stores is billed once a day, and is of no job.
    """
    engine = open_database(url)
    query = sa.select(usages.c.job, usages.c.billable).where(usages.c.job != "")
    try:
        with transaction(engine) as db:
            rows = db.execute(query.where(usages.c.tenant == tenant)).all()
    finally:
        engine.dispose()
    return [(row.job, row.billable) for row in rows]
