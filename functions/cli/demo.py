"""`guise demo`: the main job, end to end, through the real functions, and told.

An upload wakes the worker; the swap is recorded before it runs, done, committed,
billed; everything sleeps again.  Every figure is read from the running system.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.cli.client import Client
from functions.cli.models.packs import have, summary
from functions.cli.serve import own
from functions.cli.terminal import busy, print_json, say
from functions.problems import Failed, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.cli.serve import Running

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SOURCE: Final = "collins.jpg"
TARGET: Final = "hopper.jpg"
_IDLE_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Told:
    """The job's record, what the log holds of it, and what it costs."""

    record: dict[str, Any]
    cold_start_seconds: float
    entries: int
    verified: bool
    bill: dict[str, str]


def run(home: Path, *, json: bool) -> None:
    """Run the demonstration in `home`, and print what happened."""
    from models.verify import verify

    folder = have("lite", home / "models", quiet=json)
    pack = verify(folder)
    _say(json, f"pack      {pack.id} {pack.version} verified: {summary(pack)}")
    with own(home, idle_seconds=_IDLE_SECONDS, quiet=json) as stack:
        before = stack.status().processes
        listening = len(stack.status().services)
        _say(json, f"asleep    {before} processes, {listening} services listen")
        told = _main_job(stack, quiet=json)
        pictures = _keep(stack, told.record, home / "demo")
        _tell(told, json=json)
        with busy("waiting until everything sleeps", quiet=json):
            slept = _until("everything sleeps", lambda: not stack.status().processes)
        _say(
            json, f"asleep    {stack.status().processes} processes after {slept:.1f} s"
        )
        for path in pictures:
            _say(json, f"picture   {path}")
        if json:
            print_json(_document(told, pictures, before, stack.status().processes))
    if not told.verified:
        raise Failed("the log does not verify")


def _main_job(stack: Running, *, quiet: bool) -> Told:
    """Upload two portraits and a request, and follow what comes of it."""
    began = events.now()
    job = f"demo-{time.time_ns() // 1_000_000}"
    tenant = stack.tenant_folder
    (tenant / "uploads").mkdir(exist_ok=True)
    for name in (SOURCE, TARGET):
        shutil.copyfile(EXAMPLES / name, tenant / "uploads" / name)
    request = {
        "operation": "swap",
        "source": f"uploads/{SOURCE}",
        "target": f"uploads/{TARGET}",
        "consent": {"basis": "public-domain"},
    }
    record = tenant / "results" / job / "job.json"
    with busy("upload: everything wakes", quiet=quiet):
        # Renamed into place, so that the watcher never sees half of it.
        half = tenant / f".{job}"
        half.write_bytes(msgspec.json.encode(request))
        (tenant / "requests").mkdir(exist_ok=True)
        half.rename(tenant / "requests" / f"{job}.json")
        took = _until("the swap ends", record.exists)
    ended: dict[str, Any] = msgspec.json.decode(record.read_bytes())
    if ended["outcome"] != "completed":
        raise Failed(f"the job was {ended['outcome']}: {ended.get('problem')}")
    with busy("the log and the bill", quiet=quiet):
        _until("the job is told", lambda: not (tenant / "outbox" / job).exists())
        entries, verified = _audited(stack, job)
        bill = _billed(stack, began)
    return Told(ended, took, entries, verified, bill)


def _audited(stack: Running, job: str) -> tuple[int, bool]:
    """Return how many entries of the log tell of the job, and whether it verifies.

    The whole log is read as any auditor would, and its root recomputed here.
    """
    from functions.audit.bundle import log_verifiers, verify_entries
    from functions.audit.merkle import VerificationError
    from functions.keys import FileKeys

    log = f"/v1/tenants/{stack.tenant}/log"
    client = Client(stack.audit, stack.token)
    expected = 2  # started, completed
    _until("audit has both", lambda: len(_entries(client, log, job)) >= expected)
    note = client.text(f"{log}/checkpoint")
    leaves = _leaves(client, log, note)
    verifiers = log_verifiers(stack.tenant, FileKeys(stack.home / "keys"))
    try:
        verify_entries(leaves, note, verifiers)
    except VerificationError:
        return len(_entries(client, log, job)), False
    return len(_entries(client, log, job)), True


def _entries(client: Client, log: str, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{log}/entries?job={job}")["entries"]
    return found


def _until(what: str, done: Callable[[], bool]) -> float:
    """Wait until `done`, and return how many seconds it took."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > _WAIT_SECONDS:
            raise Unavailable(f"{what}: not within {_WAIT_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - began


def _leaves(client: Client, log: str, note: str) -> list[bytes]:
    """Return every leaf that the checkpoint covers, in order."""
    from functions.audit.tiles import TILE_WIDTH, parse_bundle, tile_path

    size = int(note.split("\n")[1])
    leaves: list[bytes] = []
    while len(leaves) < size:
        number, width = len(leaves) // TILE_WIDTH, min(TILE_WIDTH, size - len(leaves))
        path = tile_path(number, width)
        leaves += parse_bundle(client.content(f"{log}/tile/entries/{path}"))
    return leaves


def _billed(stack: Running, began: str) -> dict[str, str]:
    """Return the currency, and the exact price of what happened since `began`."""
    client = Client(stack.billing, stack.token)
    path = f"/v1/tenants/{stack.tenant}/usage?from={began}"
    _until("billing has it", lambda: client.get(path)["total"]["events"] > 0)
    usage = client.get(path)
    return {"currency": usage["currency"], "amount": usage["total"]["amount"]}


def _keep(stack: Running, record: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    """Keep the output, and source, target and output side by side."""
    from functions.swap.media.montage import side_by_side

    folder.mkdir(parents=True, exist_ok=True)
    output, beside = folder / "output.jpg", folder / "side-by-side.jpg"
    output.write_bytes((stack.tenant_folder / record["output"]["key"]).read_bytes())
    pictures = [EXAMPLES / SOURCE, EXAMPLES / TARGET, output]
    beside.write_bytes(side_by_side([path.read_bytes() for path in pictures]))
    return output, beside


def _tell(told: Told, *, json: bool) -> None:
    record, usage = told.record, told.record["usage"]
    faces, took = len(record["faces"]), record["swap_ms"]
    verified = "verified" if told.verified else "NOT VERIFIED"
    price = f"{told.bill['currency']} {told.bill['amount']}"
    _say(json, f"upload    {told.cold_start_seconds:.2f} s from asleep to committed")
    _say(json, f"swapped   {faces} face(s) in {took} ms on {usage['device']['name']}")
    _say(json, f"audit     {told.entries} entries of this job, log {verified}")
    seconds = f"{usage['cpu_seconds']} CPU s, {usage['gpu_seconds']} GPU s"
    _say(json, f"usage     {seconds}: {price}")


def _document(
    told: Told,
    pictures: tuple[Path, ...],
    before: int,
    after: int,
) -> dict[str, Any]:
    record = told.record
    return {
        "result": str(pictures[0]),
        "job": record["job"],
        "receipt": record["receipt"],
        "usage": {
            "cpu_seconds": record["usage"]["cpu_seconds"],
            "gpu_seconds": record["usage"]["gpu_seconds"],
        },
        "audit": {"entries": told.entries, "verified": told.verified},
        "bill": told.bill,
        "cold_start_seconds": round(told.cold_start_seconds, 3),
        "swap_ms": record["swap_ms"],
        "processes_before": before,
        "processes_after": after,
    }


def _say(json: bool, text: str) -> None:  # noqa: FBT001  # one line a call
    if not json:
        say(text)
