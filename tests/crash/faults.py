"""What is done to a stack that works: the plan, drawn from a seed, and its doing.

A disk is full where the kernel lets a process's files grow no more: `RLIMIT_FSIZE`,
which the driver sets on processes that run, without being root.  Each write to a file
then fails with EFBIG, in the store, in SQLite and its log, in temporary folders.
The limit is always nothing at all: under another, Python might leave half of a
compiled module behind.  A disk that has room for the half of a write is in
`test_full`.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import psutil

from functions import events
from functions.local.gcs import Upload, finalized
from functions.problems import Problem
from functions.sink import post_event
from tests.crash.machine import LIMITS, TENANT
from tests.storage import proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.crash.driver import Machine
    from tests.storage.proxy import Handler, Wrong

SERVICES: Final = {"worker": 6, "audit": 4, "door": 2, "billing": 2}
"""How often each is killed when all run."""
FAULTS: Final = ("stopped", "twice", "full", "dropped", "slowed")
"""What is counted beside the kills."""
_START_SECONDS = 60.0
_PATIENCE_SECONDS = 1.0
_GRACE_SECONDS = 1.5
_FULL_SECONDS = 1.0
_SLOW_SECONDS = (0.5, 2.5)
_DROPPED_MAX: Final = 12

Act = Literal["kill", "kill-stack", "stop", "twice", "full", "drop", "slow"]
_WEIGHTS: Final[dict[Act, int]] = {
    "kill": 30,
    "kill-stack": 2,
    "stop": 1,
    "twice": 6,
    "full": 3,
    "drop": 3,
    "slow": 2,
}


@dataclass(frozen=True)
class Step:
    """One thing to do: what, after which pause, and which of those that can be."""

    act: Act
    pause_seconds: float
    pick: float

    def rng(self) -> random.Random:
        """Return what all that is left open is drawn from."""
        return random.Random(self.pick)  # noqa: S311  # no secret


def plan(seed: int, kills: int) -> Iterator[Step]:
    """Yield steps until `kills` of them kill."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    left = kills
    while left:
        [act] = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        left -= act.startswith("kill")
        yield Step(act, rng.uniform(0.0, 0.6), rng.random())


def late(seconds: float) -> Wrong:
    """Pass a request on when whoever sent it has perhaps given up."""

    def wrong(handler: Handler) -> None:
        handler.proxy.ended.wait(seconds)
        handler.pass_on()

    return wrong


DROPS: Final[tuple[Wrong, ...]] = (
    proxy.silent,
    proxy.hanging_up,
    proxy.losing,
    proxy.answering(500, "InternalError"),
    proxy.answering(503, "SlowDown"),
    late(1.0),
    late(3.0),
)
"""How a sink can fail: 2 s are all the time that a sender gives it."""


@dataclass
class Killer:
    """Does what the plan says; `wake` gives a stack that sleeps something to do."""

    machine: Machine
    wake: Callable[[], None]
    done: dict[str, int] = field(default_factory=dict)
    full: bool = False

    def do(self, step: Step) -> None:
        """Do one step, the disk still full if it was filled by the one before."""
        time.sleep(step.pause_seconds)
        was_full = self.full
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
            case "full":
                self._fill(step)
            case "drop":
                self._drop(step)
            case "slow":
                self._slow(step)
        if was_full:
            self.relent()

    @property
    def kills(self) -> int:
        """How many processes, or pairs of them, were killed."""
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
                rng = step.rng()
                [chosen] = rng.choices(running, weights)
                pids = rng.choice((chosen.pids, chosen.pids[:1], chosen.pids[-1:]))
                if _killed(pids):
                    self._count(chosen.name)
                    return
            else:
                waited = True
            if not running and time.monotonic() > woken + _PATIENCE_SECONDS:
                # All that is open waits for its next try, which may be minutes off;
                # and on a full disk nothing new is ever taken.
                self.relent()
                self.wake()
                woken = time.monotonic()
            time.sleep(0.02)
        raise SystemExit(f"nothing ran that could be killed: {self.machine.status()}")

    def _stop(self) -> None:
        """Stop a worker past its lease, and let it go on."""
        worker = [each for each in self.machine.running() if each.name == "worker"]
        pids = worker[0].pids[-1:] if worker else ()
        if _paused(pids, LIMITS.claim_seconds + 0.5):
            self._count("stopped")

    def _slow(self, step: Step) -> None:
        """Let one of the services, or the broker with all of the stack, take long."""
        rng = step.rng()
        whom = [each.pids for each in self.machine.running()]
        whom.append((self.machine.pid,))
        if _paused(rng.choice(whom), rng.uniform(*_SLOW_SECONDS)):
            self._count("slowed")

    def _drop(self, step: Step) -> None:
        """Let the next few events to the broker be lost, refused, late or doubled."""
        rng = step.rng()
        self.machine.way.goes(rng.choice(DROPS), times=rng.randint(1, _DROPPED_MAX))
        self._count("dropped")

    def _fill(self, step: Step) -> None:
        """Let no file grow any more: of one service, or of the stack and all."""
        everything = (self.machine.pid,)
        own = [each.pids for each in self.machine.running()]
        fill(step.rng().choice([everything, *own]))
        self.full = True
        self._count("full")
        time.sleep(step.pick * _FULL_SECONDS)

    def relent(self) -> None:
        """Let every disk have room again."""
        self.full = False
        make_room(self.machine.pid)

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


def _paused(pids: tuple[int, ...], seconds: float) -> bool:
    """Stop processes for so long; return whether anybody was there."""
    there = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            there.append(pid)
    time.sleep(seconds if there else 0)
    for pid in there:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return bool(there)


def fill(pids: tuple[int, ...]) -> None:
    """Let no file of these processes, and of theirs, grow any more."""
    for pid in (each for one in pids for each in _family(one)):
        _limit(pid, 0)


def make_room(pid: int) -> None:
    """Undo `fill` for a process and all of its own, however often they have forked."""
    while [each for each in _family(pid) if _limit(each, None)]:
        pass


def _limit(pid: int, soft: int | None) -> bool:
    """Set the soft limit, None for as much as may be; return whether it was not."""
    with suppress(ProcessLookupError):
        now, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        wanted = hard if soft is None else soft
        if now != wanted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (wanted, hard))
            return True
    return False


def _family(pid: int) -> list[int]:
    """Return a process and all that came of it, the eldest first."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [pid, *(each.pid for each in process.children(recursive=True))]
    return []
