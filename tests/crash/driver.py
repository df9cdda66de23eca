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
from typing import TYPE_CHECKING

import cv2
import httpx

from functions.local.status import status
from functions.problems import Problem
from functions.storage.file import FileStore
from tests.crash import evidence
from tests.crash.faults import FAULTS, Killer, plan
from tests.crash.machine import TENANT
from tests.storage import proxy
from tests.swap.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from functions.local.activator import ServiceStatus
    from functions.local.status import StackStatus
    from tests.storage.proxy import Proxy
    from tests.swap.receiver import Receiver

ROOT = Path(__file__).parents[2]
SIDE_PIXELS = 96
OPEN_MAX = 6
"""How many jobs are under way at once."""
RECOVERY_SECONDS_MAX = 900
_STALE_SECONDS = 7200


@dataclass
class Machine:
    """A stack in a process of its own, that may be killed and started again.

    Its functions and its sweeper reach the broker by `way`, which outlives them.
    """

    home: Path
    way: Proxy
    process: subprocess.Popen[bytes] | None = None
    urls: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        words = [sys.executable, "-m", "tests.crash.machine"]
        with (self.home / "crash.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*words, str(self.home), self.way.endpoint],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=_unmeasured(os.environ),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit((self.home / "crash.log").read_text())
        self.urls = json.loads(line)
        self.way.server = self.urls["broker"]

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(how)
        self.process.wait(60)
        self.process.stdout.close()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

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

    def __init__(
        self, machine: Machine, seed: int, hooks: Receiver | None = None
    ) -> None:
        self._machine = machine
        self._hooks = hooks
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
        if hooks is not None:
            wish = {"name": "driver", "url": hooks.url, "secrets": [_SECRET]}
            policy = machine.store / "policy" / "webhooks.json"
            policy.parent.mkdir()
            policy.write_text(json.dumps({"endpoints": [wish]}))

    @property
    def called(self) -> frozenset[str] | None:
        """The ids of the events that came by webhook, None where none was asked for."""
        if self._hooks is None:
            return None
        return frozenset(names["webhook-id"] for names, _ in self._hooks.seen)

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
        return (
            found is not None and not any(found.queue.values()) and self._all_called()
        )

    def _all_called(self) -> bool:
        """Return whether of each job that is to be told by webhook one call came."""
        due = [each.name.partition("-")[2] for each in self._due()]
        records = (self._machine.store / "results" / job / "job.json" for job in due)
        told = [json.loads(each.read_bytes())["events"] for each in records]
        return all(each[0]["id"] in (self.called or ()) for each in told)

    def _due(self) -> Iterable[Path]:
        return self._machine.store.glob("webhooks/due/*")


_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # published
_REQUEST = {"operation": "detect", "target": "uploads/tiny.png"}


def _unmeasured(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what has coverage write files of its own.

    On a full disk they would be broken ones, and whoever is killed writes none.
    """
    return {k: v for k, v in environ.items() if not k.startswith("COVERAGE_")}


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
            f"{len(found.left)} left over, seed {self.seed}; "
            + ", ".join(f"{what} {self.done.get(what, 0)}" for what in FAULTS)
        )


def crash(home: Path, kills: int, seed: int) -> Summary:
    """Do the plan of `seed` to a stack in `home`, let it recover, and look."""
    home.mkdir(exist_ok=True)
    (home / "models").symlink_to(ROOT / ".guise" / "models")
    with proxy.to("") as way, receiving() as hooks:
        machine = Machine(home, way)
        machine.start()
        try:
            crowd = Crowd(machine, seed, hooks)
            killer = Killer(machine, crowd.one_more)
            for step in plan(seed, kills):
                crowd.top_up()
                killer.do(step)
            killer.relent()
            crowd.close()
            rest(machine, crowd)
        finally:
            machine.end(signal.SIGINT)
    sweep_temporary(machine.store)
    seen = evidence.read(home, TENANT, frozenset(crowd.accepted), crowd.called)
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
