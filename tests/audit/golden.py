"""Makes the golden files of a version of logs and bundles, once.

`python -m tests.audit.golden v2` does.  What is there is never overwritten.  Later
versions of the program must keep reading the files of every version before them:
`test_audit_golden` tries all that there are.  The keys are made of published text;
they sign nothing but these files.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from functions import events
from functions.audit.backup import open_backup, write_backup
from functions.audit.bundle import log_verifiers
from functions.audit.export import About, export
from functions.audit.log import Log
from functions.audit.plan import Wanted, plan
from functions.audit.restore import restore
from functions.audit.store import Store
from functions.events import Event
from functions.keys import MemoryKeys, Signer, events_key, key_id

if TYPE_CHECKING:
    from functions.audit.tiles import NoteVerifier

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "audit"
JOBS: Final = 131
TENANT: Final = "acme"
NOON_MS: Final = events.milliseconds("2026-11-21T12:00:00Z")


class GoldenKeys(MemoryKeys):
    """Keys that are the same whenever they are made."""

    def signer(self, name: str) -> Signer:
        """Return the private key of `name`."""
        seed = hashlib.sha256(f"guise golden {name}".encode()).digest()
        private = Ed25519PrivateKey.from_private_bytes(seed)
        return Signer(key_id(private.public_key().public_bytes_raw()), private)


KEYS: Final = GoldenKeys()


def verifiers(tenant: str = TENANT) -> list[NoteVerifier]:
    """Return who signs the golden logs."""
    return log_verifiers(tenant, KEYS)


def event(number: int, kind: str, data: dict[str, object]) -> Event:
    """Return one event, ten seconds after the one before."""
    plain = Event(
        id=events.derived_id(TENANT, str(number), kind),
        source=events.swap_source(TENANT),
        type=kind,
        subject=str(data.get("job", "")),
        time=events.rfc3339_of(NOON_MS + number * 10_000),
        tenant=TENANT,
        data=data,
    )
    return events.sign(plain, KEYS.signer(events_key(TENANT)))


def fill(log: Log) -> None:
    """Append what a log holds: jobs that ended in each way, and a contradiction."""
    endings = (
        events.SWAP_COMPLETED,
        events.SWAP_FAILED,
        events.SWAP_REFUSED,
        events.SWAP_COMPLETED,
    )
    for number in range(JOBS):
        job = f"job-{number:04d}"
        start = event(2 * number, events.SWAP_STARTED, {"job": job, "note": "größer"})
        receipt = log.append(start).receipt
        data: dict[str, object] = {"job": job, "started": {"index": receipt.index}}
        log.append(event(2 * number + 1, endings[number % 4], data))
    log.append(event(2 * JOBS, events.SWAP_ERASED, {"job": "job-0003"}))
    log.append(event(0, events.SWAP_STARTED, {"job": "job-0000", "note": "a lie"}))


def make(folder: Path) -> None:
    """Write the files of a version into a new folder."""
    folder.mkdir(parents=True)
    about = About(TENANT, [KEYS.signer("audit").public_bytes()])
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        with closing(Log.at(f"sqlite:///{here}/audit.db", KEYS)) as log:
            fill(log)
            write(log.store, folder, about)
            write_backup(log.store, here / "backup", verifiers)
        after = f"sqlite:///{here}/restored.db"
        with (
            closing(open_backup(here / "backup", here)) as old,
            closing(Store.open(after)) as new,
        ):
            restore(old, new, KEYS, verifiers)
        with closing(Log.at(after, KEYS)) as log:
            log.append(event(1_000, events.SWAP_STARTED, {"job": "job-later"}))
            pieces = plan(log.store, Wanted(TENANT), checkpoints_max=4)
            export(folder / "restored.zip", about, pieces)
    lines = "".join(f"{each.line}\n" for each in verifiers())
    (folder / "log.keys").write_text(lines)


def write(store: Store, folder: Path, about: About) -> None:
    """Write a log as a bundle and unpacked, a period of it and a job."""
    from dataclasses import replace

    pieces = plan(store, Wanted(TENANT), checkpoints_max=8)
    export(folder / "whole.zip", about, pieces)
    with zipfile.ZipFile(folder / "whole.zip") as file:
        file.extractall(folder / "log")
    bounds = NOON_MS + 100_000, NOON_MS + 200_000
    after, before = (events.rfc3339_of(each) for each in bounds)
    pieces = plan(store, Wanted(TENANT, *bounds), checkpoints_max=8)
    export(folder / "period.zip", replace(about, after=after, before=before), pieces)
    pieces = plan(store, Wanted(TENANT, job="job-0003"))
    export(folder / "job.zip", replace(about, job="job-0003"), pieces)
    with zipfile.ZipFile(folder / "job.zip") as file:
        (folder / "entry.tlog-proof").write_bytes(file.read("proofs/7.tlog-proof"))


if __name__ == "__main__":
    make(GOLDEN / sys.argv[1])
