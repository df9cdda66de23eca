"""How long tenants wait for a pooled worker, with a greedy one beside them and without.

A hundred tenants of one weight, on the real stack: HTTP door, worker, audit, billing,
and one device, on the CPU.  Ninety-nine ask at random moments (Poisson), together for
a part of what the stack can do; the hundredth, where it is there, for a hundred times
its share, which is all of it.  A wait is from the moment a request is due to its
answer.  With and without take turns, so that a busy machine is busy for both,
and what the stack can do is measured before each turn.

Beside it, the same moments in the ideal: a fluid server that gives everybody who waits
the same part of itself at every moment (generalized processor sharing: A. K. Parekh,
R. G. Gallager, IEEE/ACM Transactions on Networking 1(3), 1993), and one that serves in
the order of arrival, which is what it would be without any of this.

`python benchmarks/fairness.py [SECONDS [LOAD]]`, seconds of each of its eight parts.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2

from functions.cli.serve import Running, own
from functions.local.home import Home
from functions.tenant import Tenant
from models import pull

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).parents[1]
TENANTS = 100
GREEDY = "t0"
SIDE_PIXELS = 256
LOAD = 0.5
"""What the ninety-nine ask for unless it is said, of all that the stack can do."""
KINDS = ("without", "with")
ROUNDS = 4
SECONDS = 15.0
CALIBRATING_SECONDS = 8.0
CALLERS = 6
"""Enough to keep one device busy."""
THREADS = 256
ANSWER_SECONDS_MAX = 120
REQUEST = json.dumps({"operation": "detect", "target": "uploads/a.jpg"}).encode()


@dataclass(frozen=True)
class Arrival:
    """A request: when it is due, in seconds, and whose it is."""

    at: float
    tenant: str


@dataclass
class Answers:
    """What was answered: the wait of each request that was served, and the statuses."""

    waits: dict[Arrival, float] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def others(self) -> list[float]:
        """Return the seconds that all but the greedy tenant waited."""
        return [wait for each, wait in self.waits.items() if each.tenant != GREEDY]


def arrivals(
    draw: random.Random, rate: float, seconds: float, *, greedy: float
) -> list[Arrival]:
    """Return moments at random: `rate` a second of the others, `greedy` of the one."""
    found = []
    for tenants, each_second in (
        ([f"t{n}" for n in range(1, TENANTS)], rate),
        ([GREEDY], greedy),
    ):
        at = draw.expovariate(each_second) if each_second else seconds
        while at < seconds:
            found.append(Arrival(at, draw.choice(tenants)))
            at += draw.expovariate(each_second)
    return sorted(found, key=lambda each: each.at)


# --- the real stack -----------------------------------------------------------


@dataclass(frozen=True)
class Door:
    """The door of a running stack, and a token of each tenant."""

    host: str
    port: int
    tokens: dict[str, str]

    def ask(self, tenant: str) -> int:
        """Send a request and wait for its answer; return the status."""
        connection = http.client.HTTPConnection(
            self.host, self.port, timeout=ANSWER_SECONDS_MAX
        )
        headers = {
            "Authorization": f"Bearer {self.tokens[tenant]}",
            "Content-Type": "application/json",
        }
        try:
            connection.request("POST", "/v1/swaps", REQUEST, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


def settle(home: Path) -> dict[str, str]:
    """Make a hundred tenants, each with a picture; return a token of each."""
    names = [f"t{n}" for n in range(TENANTS)]
    place = Home(home.resolve())
    place.prepare([Tenant(name) for name in names])
    photograph = cv2.imread(str(ROOT / "examples" / "hopper.jpg"))
    if photograph is None:
        raise SystemExit("examples/hopper.jpg cannot be read")
    small = cv2.resize(photograph, (SIDE_PIXELS, SIDE_PIXELS))
    picture = cv2.imencode(".jpg", small)[1].tobytes()
    for name in names:
        (place.tenants / name / "uploads" / "a.jpg").write_bytes(picture)
    return {name: place.issue(Tenant(name)) for name in names}


def capacity(door: Door, seconds: float) -> float:
    """Return how many requests a second are served when a few always wait."""
    served: list[int] = []
    until = time.monotonic() + seconds

    def call(number: int) -> None:
        turn = number
        while time.monotonic() < until:
            served.append(door.ask(f"t{1 + turn % (TENANTS - 1)}"))
            turn += CALLERS

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(call, range(CALLERS)))
    if set(served) != {201}:
        raise SystemExit(f"the door answers {Counter(served)}")
    return len(served) / seconds


def drive(door: Door, due: Iterable[Arrival]) -> Answers:
    """Send each request when it is due, whatever became of those before it."""
    answers = Answers()
    began = time.monotonic()

    def call(each: Arrival) -> None:
        status = door.ask(each.tenant)
        wait = time.monotonic() - began - each.at
        with answers.lock:
            who = "greedy" if each.tenant == GREEDY else "others"
            answers.statuses[f"{who} {status}"] += 1
            if status == http.client.CREATED:
                answers.waits[each] = wait

    with ThreadPoolExecutor(THREADS) as pool:
        calls = []
        for each in due:
            time.sleep(max(0.0, began + each.at - time.monotonic()))
            calls.append(pool.submit(call, each))
        for made in calls:
            made.result()
    return answers


# --- the ideal ----------------------------------------------------------------


def fluid(due: Sequence[Arrival], service: float) -> dict[Arrival, float]:
    """Return the waits where all who wait share one server, in equal parts.

    `service` is the seconds that a request takes of a whole server.
    """
    waits: dict[Arrival, float] = {}
    queues: dict[str, deque[tuple[Arrival, float]]] = defaultdict(deque)
    now, had, todo = 0.0, 0.0, deque(due)
    # `had` is what somebody would have had who waited all along: so what each has yet
    # to get is the number at which it will have it, and nothing is ever counted down.
    while todo or queues:
        first = min((queue[0][1] for queue in queues.values()), default=float("inf"))
        ends = now + (first - had) * len(queues) if queues else float("inf")
        if todo and todo[0].at <= ends:
            each = todo.popleft()
            had += (each.at - now) / len(queues) if queues else 0.0
            now = each.at
            start = queues[each.tenant][-1][1] if each.tenant in queues else had
            queues[each.tenant].append((each, start + service))
            continue
        now, had = ends, first
        for tenant in [name for name, queue in queues.items() if queue[0][1] <= had]:
            each, _ = queues[tenant].popleft()
            waits[each] = now - each.at
            if not queues[tenant]:
                del queues[tenant]
    return waits


def in_order(due: Sequence[Arrival], service: float) -> dict[Arrival, float]:
    """Return the waits where one server takes each as it came."""
    waits, free = {}, 0.0
    for each in due:
        free = max(free, each.at) + service
        waits[each] = free - each.at
    return waits


# --- the figure ---------------------------------------------------------------


def quantile(waits: Sequence[float], part: float) -> float:
    """Return the wait in milliseconds that so large a part does not exceed."""
    ordered = sorted(waits)
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def figures(waits: Sequence[float]) -> dict[str, float]:
    """Return the two quantiles, in milliseconds."""
    return {f"p{n}_ms": round(quantile(waits, n / 100), 1) for n in (50, 99)}


def measure(
    stack: Running, tokens: dict[str, str], seconds: float, load: float
) -> dict[str, Any]:
    """Return what was measured, and what the ideals come to."""
    parts = urlsplit(stack.door)
    door = Door(str(parts.hostname), parts.port or 80, tokens)
    capacity(door, 3)  # it wakes, loads and warms up
    draw = random.Random(0)  # noqa: S311  # no secret
    found: dict[str, list[float]] = defaultdict(list)
    statuses: Counter[str] = Counter()
    capacities, ratios = [], []
    for turn in range(ROUNDS):
        most = capacity(door, CALIBRATING_SECONDS)
        capacities.append(round(most, 1))
        slowest = {}
        # The very same moments of the others, with and without.
        alone = arrivals(draw, load * most, seconds, greedy=0.0)
        beside = alone + arrivals(draw, 0.0, seconds, greedy=most)
        for kind in KINDS if turn % 2 == 0 else reversed(KINDS):
            due = sorted(beside if kind == "with" else alone, key=lambda each: each.at)
            answers = drive(door, due)
            statuses += answers.statuses
            found[f"real {kind}"] += answers.others()
            for name, ideal in (("fluid", fluid), ("in order", in_order)):
                waits = ideal(due, 1 / most)
                others = [waits[each] for each in waits if each.tenant != GREEDY]
                found[f"{name} {kind}"] += others
            p50, p99 = figures(answers.others()).values()
            slowest[kind] = p99
            print(f"{most:.1f}/s, {kind}: {p50} {p99} ms", file=sys.stderr)
        ratios.append(round(slowest["with"] / slowest["without"], 2))
    shown: dict[str, Any] = {name: figures(waits) for name, waits in found.items()}
    for name in ("real", "fluid", "in order"):
        few, many = (quantile(found[f"{name} {kind}"], 0.99) for kind in KINDS)
        shown[f"{name} ratio"] = round(many / few, 2)
    counted = dict(sorted(statuses.items()))
    each = {"capacity_per_second": capacities, "ratio_of_each_round": ratios}
    return shown | each | {"statuses": counted}


def main() -> None:
    """Print how much longer the slowest in a hundred waits beside a greedy tenant."""
    said = [float(each) for each in sys.argv[1:3]]
    seconds, load = (*said, *(SECONDS, LOAD)[len(said) :])
    pull.pull("lite", ROOT / ".guise" / "models", report=lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "models").symlink_to(ROOT / ".guise" / "models")
        tokens = settle(home)
        with own(home, idle_seconds=60, quiet=True) as stack:
            shown = measure(stack, tokens, seconds, load)
    figure = {
        "name": "fairness_p99_with_over_without",
        "ours": shown["real ratio"],
        "peer": shown["fluid ratio"],
        "ratio": round(shown["real ratio"] / shown["fluid ratio"], 2),
        "unit": "x",
        "device": f"cpu, {len(os.sched_getaffinity(0))} cores",
        "asked_of_capacity": load,
        "load_1m": os.getloadavg()[0],
    }
    print(json.dumps(figure | shown))


if __name__ == "__main__":
    main()
