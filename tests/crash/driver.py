"""`python -m tests.crash.driver --kills N [--seed S]`: kill, recover, and count.

The plan of what is killed, and when, is drawn from the seed; how far each process has
got by then is the machine's affair, so two runs of one seed are not the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import httpx

from functions import events
from functions.local.gcs import Upload, finalized
from functions.local.status import status
from functions.problems import Problem
from functions.sink import post_event
from functions.storage.file import FileStore
from tests.crash import evidence
from tests.crash.machine import LIMITS, TENANT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.local.activator import ServiceStatus
    from functions.local.status import StackStatus

ROOT = Path(__file__).parents[2]
SIDE_PIXELS = 96
OPEN_MAX = 6
"""How many jobs are under way at once."""
RECOVERY_SECONDS_MAX = 900
SERVICES = {"worker": 6, "audit": 4, "door": 2, "billing": 2}
"""How often each is killed when all run."""
_STALE_SECONDS = 7200
_START_SECONDS = 60.0
_PATIENCE_SECONDS = 1.0
_GRACE_SECONDS = 1.5

Act = Literal["kill", "kill-stack", "stop", "twice"]


@dataclass(frozen=True)
class Step:
    """One thing to do: what, after which pause, and which of those that can be."""

    act: Act
    pause_seconds: float
    pick: float


def plan(seed: int, kills: int) -> Iterator[Step]:
    """Yield steps until `kills` of them kill."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    acts: tuple[Act, ...] = ("kill", "kill-stack", "stop", "twice")
    left = kills
    while left:
        [act] = rng.choices(acts, (30, 2, 1, 6))
        left -= act.startswith("kill")
        yield Step(act, rng.uniform(0.0, 0.6), rng.random())


@dataclass
class Machine:
    """A stack in a process of its own, that may be killed and started again."""

    home: Path
    process: subprocess.Popen[bytes] | None = None
    urls: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        words = [sys.executable, "-m", "tests.crash.machine", str(self.home)]
        with (self.home / "crash.log").open("ab") as log:
            self.process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=log, cwd=ROOT
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit((self.home / "crash.log").read_text())
        self.urls = json.loads(line)

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(how)
        self.process.wait(60)
        self.process.stdout.close()

    def status(self) -> StackStatus | None:
        try:
            return status(self.home)
        except Problem:
            return None  # it is starting, or too busy to say

    def running(self) -> list[ServiceStatus]:
        found = self.status()
        return [each for each in found.services if each.pids] if found else []

    @property
    def store(self) -> Path:
        return self.home / "tenants" / TENANT


class Crowd:
    """Jobs, uploaded and through the door, so that some are always under way."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self._machine = machine
        self._rng = random.Random(seed)  # noqa: S311  # no secret
        self._pool = ThreadPoolExecutor(OPEN_MAX)
        self._count = 0
        self._calls: list[Future[None]] = []
        self._open: set[str] = set()
        self.accepted: set[str] = set()
        photograph = cv2.imread(str(ROOT / "examples" / "hopper.jpg"))
        assert photograph is not None
        small = cv2.resize(photograph, (SIDE_PIXELS, SIDE_PIXELS))
        picture = cv2.imencode(".png", small)[1].tobytes()
        (machine.store / "uploads" / "tiny.png").write_bytes(picture)

    def top_up(self) -> None:
        """Have `OPEN_MAX` jobs under way."""
        self._open = {job for job in tuple(self._open) if not self._ended(job)}
        at_the_door = sum(not call.done() for call in self._calls)
        for _ in range(OPEN_MAX - len(self._open) - at_the_door):
            if self._rng.random() < 0.3:
                self._count += 1
                call = self._pool.submit(self._call, f"call-{self._count}")
                self._calls.append(call)
            else:
                self.one_more()

    def one_more(self) -> None:
        """Upload a job, however many are under way."""
        self._count += 1
        self._upload(f"upload-{self._count}")

    def _ended(self, job: str) -> bool:
        return (self._machine.store / "results" / job / "job.json").exists()

    def _upload(self, job: str) -> None:
        folder = self._machine.store / "requests"
        hidden = folder / f".{job}"
        hidden.write_text(json.dumps(_REQUEST))
        hidden.rename(folder / f"{job}.json")
        self._took(job)

    def _took(self, job: str) -> None:
        self._open.add(job)
        self.accepted.add(job)

    def _call(self, key: str) -> None:
        """Ask the door until it has accepted, as a caller with a key may."""
        deadline = time.monotonic() + RECOVERY_SECONDS_MAX
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError, OSError):
                answer = self._post(key)
                if answer.status_code in {200, 201, 202}:
                    self._took(answer.json()["job"])
                    return
            time.sleep(0.2)
        raise SystemExit(f"the door never accepted {key}")

    def _post(self, key: str) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {(self._machine.home / 'token').read_text()}",
            "Idempotency-Key": key,
            "Prefer": "respond-async",
        }
        url = f"{self._machine.urls['door']}/v1/swaps"
        return httpx.post(
            url, json=_REQUEST, headers=headers, timeout=30, trust_env=False
        )

    def close(self) -> None:
        """Wait until the door has accepted all that is asked of it."""
        for call in self._calls:
            call.result()
        self._pool.shutdown()

    def settled(self) -> bool:
        """Return whether every job has ended and is told, and nothing is owed."""
        store = self._machine.store
        if not all(map(self._ended, self.accepted)) or any(store.glob("outbox/*")):
            return False
        found = self._machine.status()
        return found is not None and not any(found.queue.values())


_REQUEST = {"operation": "detect", "target": "uploads/tiny.png"}


@dataclass
class Killer:
    """Does what the plan says; `wake` gives a stack that sleeps something to do."""

    machine: Machine
    wake: Callable[[], None]
    done: dict[str, int] = field(default_factory=dict)

    def do(self, step: Step) -> None:
        time.sleep(step.pause_seconds)
        match step.act:
            case "kill":
                self._kill(step)
            case "kill-stack":
                self.machine.end(signal.SIGKILL)
                self.machine.start()
                self._count("stack")
            case "stop":
                self._stop()
            case "twice":
                self._twice(step)

    @property
    def kills(self) -> int:
        return sum(self.done.get(name, 0) for name in (*SERVICES, "stack"))

    def _count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    def _kill(self, step: Step) -> None:
        """Kill one of the services that run: its arbiter, its worker, or both."""
        woken = time.monotonic()
        deadline = woken + _START_SECONDS
        waited = False
        while time.monotonic() < deadline:
            running = sorted(self.machine.running(), key=lambda each: each.name)
            if running and waited:
                # Not as it starts, each time: nothing would ever be served.
                time.sleep(_GRACE_SECONDS * step.pick)
                waited = False
            elif running:
                weights = [SERVICES[each.name] for each in running]
                rng = random.Random(step.pick)  # noqa: S311  # no secret
                [chosen] = rng.choices(running, weights)
                pids = rng.choice((chosen.pids, chosen.pids[:1], chosen.pids[-1:]))
                if _killed(pids):
                    self._count(chosen.name)
                    return
            else:
                waited = True
            if not running and time.monotonic() > woken + _PATIENCE_SECONDS:
                # All that is open waits for its next try, which may be minutes off.
                self.wake()
                woken = time.monotonic()
            time.sleep(0.02)
        raise SystemExit(f"nothing ran that could be killed: {self.machine.status()}")

    def _stop(self) -> None:
        """Stop a worker past its lease, and let it go on."""
        worker = [each for each in self.machine.running() if each.name == "worker"]
        pids = worker[0].pids[-1:] if worker else ()
        with suppress(ProcessLookupError):
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(LIMITS.claim_seconds + 0.5)
                os.kill(pid, signal.SIGCONT)
                self._count("stopped")

    def _twice(self, step: Step) -> None:
        """Send again, twice, what was sent of some job."""
        records = sorted(self.machine.store.glob("results/*/job.json"))
        if not records:
            return
        path = records[int(step.pick * len(records))]
        told = json.loads(path.read_bytes())["events"]
        again = [events.from_dict(each) for each in told]
        request = self.machine.store / "requests" / f"{path.parent.name}.json"
        uploaded = [finalized(_upload_of(request))] if request.exists() else []
        with suppress(OSError, Problem):
            for event in (*again, *again):
                post_event(self.machine.urls["broker"], event, timeout=5)
            for event in (*uploaded, *uploaded):
                url = f"{self.machine.urls['worker']}/events"
                post_event(url, event, timeout=5)
        self._count("twice")


def _upload_of(path: Path) -> Upload:
    data = path.read_bytes()
    generation = path.stat().st_mtime_ns
    return Upload(TENANT, f"requests/{path.name}", generation, len(data), data)


def _killed(pids: tuple[int, ...]) -> bool:
    """Kill -9; return whether anybody was there."""
    hit = False
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            hit = True
    return hit


@dataclass(frozen=True)
class Summary:
    """What one run did and found."""

    seed: int
    kills: int
    jobs: int
    outcomes: dict[str, int]
    done: dict[str, int]
    found: evidence.Findings

    def __str__(self) -> str:
        found = self.found
        return (
            f"{self.kills} kills, {self.jobs} jobs, {len(found.lost)} lost, "
            f"{len(found.doubled)} doubled, {len(found.unrecorded)} unrecorded, "
            f"{len(found.left)} left over, seed {self.seed}"
        )


def crash(home: Path, kills: int, seed: int) -> Summary:
    """Do the plan of `seed` to a stack in `home`, let it recover, and look."""
    home.mkdir(exist_ok=True)
    (home / "models").symlink_to(ROOT / ".guise" / "models")
    machine = Machine(home)
    machine.start()
    try:
        crowd = Crowd(machine, seed)
        killer = Killer(machine, crowd.one_more)
        for step in plan(seed, kills):
            crowd.top_up()
            killer.do(step)
        crowd.close()
        rest(machine, crowd)
    finally:
        machine.end(signal.SIGINT)
    sweep_temporary(machine.store)
    seen = evidence.read(home, TENANT, frozenset(crowd.accepted))
    outcomes: dict[str, int] = {}
    for record in seen.records.values():
        outcomes[record["outcome"]] = outcomes.get(record["outcome"], 0) + 1
    return Summary(
        seed,
        killer.kills,
        len(seen.accepted),
        outcomes,
        killer.done,
        evidence.findings(seen),
    )


def rest(machine: Machine, crowd: Crowd) -> None:
    """Wait until all has ended and is told; give up in the end, and look anyway."""
    deadline = time.monotonic() + RECOVERY_SECONDS_MAX
    while not crowd.settled() and time.monotonic() < deadline:
        time.sleep(0.1)


def sweep_temporary(store: Path) -> None:
    """Let the store's own sweep take what a crash left there, as an hour later."""
    old = time.time() - _STALE_SECONDS
    for path in store.glob(".tmp/*"):
        os.utime(path, (old, old))
    FileStore(store).sweep()


def main() -> None:
    """Print what was done and found; exit with 1 if anything was."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.driver")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    asked = parser.parse_args()
    sys.stdout.write(f"seed {asked.seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        summary = crash(Path(folder) / "home", asked.kills, asked.seed)
    for line in (*summary.found.all, summary.outcomes, summary.done, summary):
        sys.stdout.write(f"{line}\n")
    sys.exit(1 if summary.found.all else 0)


if __name__ == "__main__":
    main()
