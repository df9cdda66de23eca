"""The neural engine from nothing, beside insightface 2.1 with the same networks.

Both sides load full-size stand-ins of det_10g, w600k_r50 and inswapper_128, each time
in a fresh interpreter, the page cache warm, with as many threads as there are cores.
Ours loads the pack that `guise models import` makes of the files that the peer loads.

- `model_load`: sessions from files, imports not counted; milliseconds.
- `cold_start`: from before the interpreter starts until all three are ready;
  `with_full_hash` is ours until every byte and golden output has been compared.
- `first_crop`: the same, until one face of one picture wears that of another, not yet
  pasted.  Ours counts when golden outputs have been compared as well, since no answer
  leaves before; `without_proof` is when the crop itself was there, `with_full_hash`
  when every byte has been compared too.  The peer compares nothing.
- `rss_ready`: resident memory when the three are ready, in MiB, and `ratio` is ours
  by the peer's.  Mapped weights are resident once they have been used, so
  `ours_after_crop` and `peer_after_crop` tell the same after the first crop.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._full_pack import ROOT, full
from functions.swap.engine.placement import cpu, processors

if TYPE_CHECKING:
    from collections.abc import Sequence

    Reached = dict[str, float]

RUNS = 7
MIB = 2**20
PICTURES = [str(ROOT / "examples" / name) for name in ("collins.jpg", "hopper.jpg")]
OURS, PEER = (
    str(Path(__file__).with_name(name)) for name in ("_cold_ours.py", "_cold_peer.py")
)


def child(script: str, *arguments: str) -> Reached:
    """Run a child; return when it reached what, in seconds, and what it told."""
    began = time.perf_counter()
    reached: Reached = {}
    command = [sys.executable, script, *arguments]
    with subprocess.Popen(  # noqa: S603  # our own
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        for line in process.stdout or ():
            if not line.startswith("{"):
                continue  # the peer prints
            now, told = time.perf_counter() - began, json.loads(line)
            event = told.pop("event")
            reached[event] = now
            reached |= {f"{event}_{name}": value for name, value in told.items()}
        complaint = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise RuntimeError(f"{Path(script).name} ended with {complaint}")
    return reached


def figure(
    name: str, ours: float, peer: float, unit: str, **more: float
) -> dict[str, object]:
    """Return one line."""
    share = ours / peer if unit == "MiB" else peer / ours
    return {
        "name": name,
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "ratio": round(share, 2),
        "unit": unit,
        "device": f"{cpu().name}, {processors()} threads",
        "n": RUNS,
        **{key: round(value, 3) for key, value in more.items()},
    }


def median(of: Sequence[Reached], what: str, unit: float = 1) -> float:
    """Return the median of what was told, counted in `unit`."""
    return statistics.median(each[what] for each in of) / unit


def main() -> None:
    """Print four JSON lines."""
    made = full()
    pack, weights = str(made.pack), str(made.weights)
    rounds = [
        (
            child(OURS, pack, "cpu", "manifest", *PICTURES),
            child(PEER, weights, *PICTURES),
            child(OURS, pack, "cpu", "full", *PICTURES),
            child(OURS, pack, "cpu", "full"),
        )
        for _ in range(RUNS)
    ]
    ours, peer, hashed, proved = zip(*rounds, strict=True)
    lines = (
        figure(
            "model_load",
            median(ours, "ready_load", 1e-3),
            median(peer, "ready_load", 1e-3),
            "ms",
        ),
        figure(
            "cold_start",
            median(ours, "ready"),
            median(peer, "ready"),
            "s",
            with_full_hash=median(proved, "proved"),
        ),
        figure(
            "first_crop",
            median(ours, "proved"),
            median(peer, "crop"),
            "s",
            without_proof=median(ours, "crop"),
            with_full_hash=median(hashed, "proved"),
        ),
        figure(
            "rss_ready",
            median(ours, "resident_bytes", MIB),
            median(peer, "resident_bytes", MIB),
            "MiB",
            ours_after_crop=median(ours, "proved_bytes", MIB),
            peer_after_crop=median(peer, "crop_bytes", MIB),
        ),
    )
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
