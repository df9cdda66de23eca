"""A bundle of a million entries, checked on two cores: seconds and memory.

The log is made without a database: entries of about 1 kB, as a job's start and its
ending are, over random commitments, so that nothing compresses better than it would.
Writing and checking are processes of their own, held to two cores.

    python benchmarks/audit_verify.py [entries]
"""

from __future__ import annotations

import base64
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from functions import events
from functions.audit.checking import verify_bundle
from functions.audit.export import About, export
from functions.audit.manifest import Range
from functions.audit.merkle import fold, leaf_hash
from functions.audit.plan import Piece
from functions.audit.tiles import (
    TILE_WIDTH,
    Checkpoint,
    NoteVerifier,
    bundle_bytes,
    sign_checkpoint,
)
from functions.keys import MemoryKeys

ENTRIES: Final = 1_000_000
CORES: Final = 2
TENANT: Final = "acme"
ORIGIN: Final = f"guise.audit/{TENANT}"
EPOCH_MS: Final = 1_790_000_000_000


def digest(source: random.Random) -> str:
    """Return 64 hex digits."""
    return source.randbytes(32).hex()


def entry(index: int) -> bytes:
    """Return the leaf at `index`: the start of a job, or the end of the one before."""
    source, job = random.Random(index), f"job-{index // 2:08d}"  # noqa: S311  # no secret
    if index % 2:
        kind, data = events.SWAP_COMPLETED, ending(source, index)
    else:
        kind, data = events.SWAP_STARTED, beginning(source)
    event = {
        "source": events.swap_source(TENANT),
        "id": events.derived_id(TENANT, job, kind),
        "type": kind,
        "subject": job,
        "time": events.rfc3339_of(EPOCH_MS + index * 250),
        "tenant": TENANT,
        "data": {"job": job, "attempt": 1, "operation": "swap"} | data,
        "sig": base64.urlsafe_b64encode(source.randbytes(64)).decode(),
        "sigkid": "0123456789abcdef",
    }
    return json.dumps(
        event, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def beginning(source: random.Random) -> dict[str, object]:
    """Return what a start says beside its job."""
    return {
        "actor": "api/7f3c2a91",
        "commitments": {"sources": [digest(source)], "target": digest(source)},
        "consent": {
            "basis": "consent",
            "id": "consents/42",
            "hash": digest(source),
            "state": "given",
        },
        "admission": {"verdict": "admitted", "policy": digest(source)},
        "pack": {"id": "lite", "version": "1.4.0", "digest": digest(source)},
        "code": {"version": "0.1.0"},
    }


def ending(source: random.Random, index: int) -> dict[str, object]:
    """Return what an ending says beside its job."""
    return {
        "outcome": "completed",
        "faces": 1,
        "counts": {"found": 1, "swapped": 1},
        "started": {"index": index - 1},
        "commitments": {"result": digest(source)},
        "gate": {"verdict": "passed", "model": digest(source), "classes": {}},
        "vetted": {"detector": digest(source), "embedder": digest(source)},
        "provenance": {"manifest": "urn:c2pa:" + digest(source), "label": "AIGC"},
    }


class MadeLog:
    """A `LogSource` over entries that are made when they are asked for."""

    def __init__(self, size: int, keys: MemoryKeys) -> None:
        self.size = size
        self.bytes = 0
        row = bytearray()
        for index in range(size):
            leaf = entry(index)
            self.bytes += len(leaf)
            row += leaf_hash(leaf)
        self._rows = [bytes(row)]
        step = TILE_WIDTH * 32
        while len(self._rows[-1]) >= step:
            below = self._rows[-1]
            whole = range(0, len(below) - step + 1, step)
            self._rows.append(b"".join(fold(below[at : at + step]) for at in whole))
        self._keys = keys

    def checkpoint(self) -> str:
        """Return the signed checkpoint."""
        return self.note(self.size)

    def note(self, size: int) -> str:
        """Return the checkpoint that was signed at a size."""
        from functions.audit.proven import Tiles

        root = Tiles(self.tile, self.size).frontier(size).root()
        checkpoint = Checkpoint(ORIGIN, size, root)
        return sign_checkpoint(checkpoint, self._keys.signer("audit"))

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile."""
        at = number * TILE_WIDTH * 32
        return self._rows[level][at : at + width * 32]

    def entries(self, number: int, width: int) -> bytes:
        """Return the first `width` entries of a bundle."""
        start = number * TILE_WIDTH
        return bundle_bytes(entry(index) for index in range(start, start + width))


def peak_mib() -> float:
    """Return the most memory this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hold_to_cores() -> None:
    """Run on two cores from now on, and so whatever this starts."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def write(folder: Path, size: int) -> None:
    """Make the log and its bundle; print how that went."""
    keys = MemoryKeys()
    log = MadeLog(size, keys)
    public = keys.signer("audit").public_bytes()
    (folder / "keys").write_text(NoteVerifier(ORIGIN, public).line)
    steps = min(size, 512)
    sizes = [size * step // steps for step in range(1, steps + 1)]
    notes = {each: log.note(each) for each in sizes}
    piece = Piece(log, 1, log.checkpoint(), Range(0, size), notes=notes)
    began = time.perf_counter()
    export(folder / "bundle", About(TENANT, [public]), [piece])
    took = time.perf_counter() - began
    print(
        json.dumps(
            {
                "bytes_per_entry": round(log.bytes / size),
                "bundle_mib": round((folder / "bundle").stat().st_size / 2**20),
                "export_s": round(took, 1),
            }
        )
    )


def check(folder: Path) -> None:
    """Check the bundle; print how that went."""
    verifiers = [NoteVerifier.parse((folder / "keys").read_text())]
    before = peak_mib()
    began, ran = time.perf_counter(), time.process_time()
    report = verify_bundle(folder / "bundle", verifiers)
    print(
        json.dumps(
            {
                "verified": report.verified,
                "entries": sum(each.entries for each in report.logs),
                "verify_s": round(time.perf_counter() - began, 1),
                "verify_cpu_s": round(time.process_time() - ran, 1),
                "rss_before_mib": round(before),
                "rss_peak_mib": round(peak_mib()),
            }
        )
    )


def run(*arguments: str) -> dict[str, object]:
    """Return what a process of its own printed."""
    command = [sys.executable, __file__, *arguments]
    text = subprocess.check_output(command, text=True)  # noqa: S603  # ours
    found: dict[str, object] = json.loads(text)
    return found


def main() -> None:
    """Measure, or do one half of it."""
    hold_to_cores()
    match sys.argv[1:]:
        case ["write", folder, size]:
            write(Path(folder), int(size))
        case ["check", folder]:
            check(Path(folder))
        case arguments:
            size = arguments[0] if arguments else str(ENTRIES)
            with tempfile.TemporaryDirectory() as place:
                facts = run("write", place, size) | run("check", place)
            print(json.dumps({"name": "audit_verify", "cores": CORES} | facts))


if __name__ == "__main__":
    main()
