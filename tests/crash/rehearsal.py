"""A worker in this process that dies, or is stopped, between any two of its steps.

A step is a call of the store, the auditor or the sink.  Worker, audit's log and
billing's ledger are the real ones; a death takes everything but what they wrote.
"""

from __future__ import annotations

import hashlib
import json
import random
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from functions import events
from functions.audit.log import Log
from functions.billing.ledger import Ledger
from functions.billing.usage import usage_of
from functions.keys import MemoryKeys, events_key
from functions.roster import EveryTenant
from functions.settings import Limits, Settings
from functions.storage import Stores
from functions.swap import worker
from functions.swap.journal import Books
from functions.swap.pipeline import Loaded
from functions.swap.provenance import Credentials, chain
from functions.swap.sweeper import sweep
from functions.tenant import OUTBOX, RESULTS, Key
from functions.warm import Warm
from tests.crash import evidence
from tests.swap.aging import AgingStore
from tests.swap.house import ACME, SWAP, PaperEngine, finalized, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask.testing import FlaskClient

    from functions.events import Event
    from functions.sink import Auditor, Receipt, Sink
    from functions.storage import Store

LIMITS = Limits()
STEPS_MAX = 60
"""More than a job takes, so that some live."""
_ROUNDS_MAX = 10
_LATER_SECONDS = 60.0
"""More than a claim's."""


class Killed(BaseException):
    """The process is dead; nobody catches it."""


@dataclass
class Fate:
    """What happens at step number `at`: death, or something `meanwhile`."""

    at: int = 0
    meanwhile: Callable[[], None] | None = None
    steps: int = 0
    dead: bool = False

    def step(self) -> None:
        if not self.dead:
            self.steps += 1
            if self.steps != self.at:
                return
            if self.meanwhile is not None:
                self.meanwhile()
                return
            self.dead = True
        raise Killed


class MortalStore:
    """A store whose caller may die before each call and after it."""

    def __init__(self, store: Store, fate: Fate) -> None:
        self._store = store
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        def mortal(*args: Any, **names: Any) -> Any:
            self._fate.step()
            answer = call(*args, **names)
            self._fate.step()
            return answer

        return mortal


@dataclass
class Mortal:
    """An auditor and a sink whose caller may die before each call and after it."""

    auditor: Auditor
    sink: Sink
    fate: Fate

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        self.fate.step()
        receipt = self.auditor.receipt(event, timeout=timeout)
        self.fate.step()
        return receipt

    def wake(self) -> None:
        self.auditor.wake()

    def deliver(self, event: Event, *, timeout: float) -> None:
        self.fate.step()
        self.sink.deliver(event, timeout=timeout)
        self.fate.step()


@dataclass
class Parts:
    """What a worker is wired with; the switch of a test wraps one of them."""

    store: Store
    auditor: Auditor
    sink: Sink
    locate: type[Stores] = Stores


@dataclass
class World:
    """What outlives every worker: a store, the log, the ledger, and a queue."""

    folder: Path
    broken: Callable[[Parts], Parts] = lambda parts: parts
    store: AgingStore = field(default_factory=AgingStore)
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    asked: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = Log.at(self._url("audit"), self.keys)
        self.ledger = Ledger.open(self._url("billing"))
        signer = self.keys.signer(chain.KEY)
        pem, _ = chain.self_made(signer.private.public_key())
        self._credentials = Credentials(signer.sign, pem)
        for name in ("a.png", "b.png"):
            self.store.put(ACME.upload(f"uploads/{name}"), picture())

    def _url(self, name: str) -> str:
        return f"sqlite:///{self.folder / name}.db"

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        events.verify(event, self.keys.verifiers(events_key(event.tenant)))
        return self.log.append(event).receipt

    def wake(self) -> None:
        """Do nothing: it never sleeps."""

    def deliver(self, event: Event, *, timeout: float) -> None:
        """Be a broker that has delivered by the time it answers."""
        events.verify(event, self.keys.verifiers(events_key(event.tenant)))
        if event.type == events.SWAP_REQUESTED:
            self.asked.append(event)
        elif event.type == events.USAGE_RECORDED:
            self.ledger.post(usage_of(event, now=datetime.now(UTC)))
        else:
            self.log.append(event)

    def worker(self, fate: Fate) -> FlaskClient:
        """Start a worker."""
        mortal = Mortal(self, self, fate)
        store: Any = MortalStore(self.store, fate)
        parts = self.broken(Parts(store, mortal, mortal))
        cpu = {"kind": "cpu", "name": "paper", "uuid": "paper-0"}
        vetted = {"verified": "full", "licence": "commercial"}
        loaded = Loaded(
            PaperEngine(),
            cpu,
            "d1" * 32,
            self._credentials,
            Warm(lambda: None),
            vetted,
        )
        return worker.create_app(
            Settings(limits=LIMITS),
            stores=parts.locate("memory://{tenant}", opener=lambda _: parts.store),
            keys=self.keys,
            roster=EveryTenant(),
            auditor=parts.auditor,
            sink=parts.sink,
            load=lambda: loaded,
        ).test_client()

    def upload(self, job: str) -> Event:
        """Put a request into the store, and return what the bucket tells of it."""
        body = json.dumps(SWAP).encode()
        return finalized(
            f"requests/{job}.json", str(self.store.put(ACME.request(job), body))
        )

    def send(self, event: Event, fate: Fate | None = None) -> int:
        """Hand an event to a new worker; return its status, 0 where it died."""
        headers, body = events.encode(event)
        with suppress(Killed):
            client = self.worker(fate or Fate())
            return client.post("/events", headers=headers, data=body).status_code
        return 0

    def later(self) -> None:
        """Let so much time pass that every claim runs out."""
        for prefix in (OUTBOX, Key("jobs/")):
            self.store.age(prefix, _LATER_SECONDS)
        for info in self.store.list(Key("jobs/"), limit=1_000_000).objects:
            if info.key.endswith("/claim.json"):
                claim = json.loads(self.store.get(info.key).data)
                claim["until"] = min(claim["until"], 1.0)
                self.store.put(info.key, json.dumps(claim).encode())

    def recover(self) -> None:
        """Sweep, and deliver what the sweeper asks for, until nothing is left."""
        books = Books(ACME, self.store, self.keys, self, self, LIMITS)
        for _ in range(_ROUNDS_MAX):
            if not self.store.list(OUTBOX).objects:
                return
            self.later()
            sweep(books)
            asked, self.asked = self.asked, []
            for event in asked:
                self.send(event)

    def seen(self, accepted: frozenset[str]) -> evidence.Evidence:
        """Return what is left, once the log is closed."""
        self.log.close()
        self.ledger.close()
        leaves, fault = evidence.logged(self._url("audit"), self.keys, ACME.id)
        records: dict[str, Any] = {}
        outputs: dict[str, dict[str, str]] = {}
        for info in self.store.list(RESULTS, limit=1_000_000).objects:
            job = info.key.split("/")[1]
            data = self.store.get(info.key).data
            if info.key == ACME.record(job):
                records[job] = json.loads(data)
            else:
                outputs.setdefault(job, {})[info.key] = hashlib.sha256(data).hexdigest()
        left = [f"{info.key} is left" for info in self.store.list(OUTBOX).objects]
        bills = evidence.billed(self._url("billing"), ACME.id)
        return evidence.Evidence(accepted, records, outputs, leaves, bills, left, fault)


class Draw:
    """Steps to die at and steps to be stopped at: each once before any comes again.

    A window one step wide would else be missed by chance.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311  # no secret
        self.deaths = self._steps()
        self.stops = self._steps()

    def _steps(self) -> Iterator[int]:
        while True:
            yield from self.rng.sample(range(1, STEPS_MAX), STEPS_MAX - 1)


def rehearse(world: World, kills: int, draw: Draw) -> evidence.Findings:
    """Let a worker die `kills` times, each at a step that is drawn.

    As often one is stopped past its claim, while another does the job.  What died
    is delivered again, or, once it was accepted, left to the sweeper.
    """
    rng = draw.rng
    jobs: list[str] = []
    left = kills
    while left:
        job = f"j{len(jobs)}"
        jobs.append(job)
        event = world.upload(job)
        if rng.random() < 0.5:
            fate = Fate(next(draw.deaths))
        else:
            fate = Fate(next(draw.stops), partial(_meanwhile, world, event))
        world.send(event, fate)
        left -= fate.dead
        if rng.random() < 0.5 or not _accepted(world, job):
            world.later()
            world.send(event)
        world.recover()
    return evidence.findings(world.seen(frozenset(jobs)))


def _meanwhile(world: World, event: Event) -> None:
    world.later()
    world.send(event)


def _accepted(world: World, job: str) -> bool:
    return bool(world.store.list(ACME.pinned(job)).objects)
