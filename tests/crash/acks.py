"""Every answer "done" is true: kill -9 of a function, and of its database.

Callers post events to one function over its real door, on a real PostgreSQL, and post
each again until it is taken, while function and database are killed at random times.
Afterwards each event that was taken is there, once, and every receipt is true.

    python -m tests.crash.acks audit --kills 100 --seed 6
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions import events
from functions.audit import store as audit
from functions.audit.bundle import log_verifiers, verify_entries
from functions.auth import jwks_document
from functions.billing import ledger as billing
from functions.events import Event
from functions.keys import FileKeys, events_key
from functions.sink import Receipt, post_event
from tests.billing.house import usage_data
from tests.postgres import APP, Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.database import Schema

TENANTS: Final = ("acme", "globex", "other")
CALLERS: Final = 8
SCHEMAS: Final[dict[str, Schema]] = {"audit": audit.SCHEMA, "billing": billing.SCHEMA}
ROLES: Final = {
    "audit": ("committer", "reader", "searcher", "eraser"),
    "billing": ("committer", "reader"),
}
GUNICORN: Final = (
    *("--worker-class", "gthread", "--threads", "16", "--timeout", "0"),
    *("--log-level", "critical", "--no-control-socket"),
)
_ANSWER_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.05
_RECOVERY_SECONDS_MAX: Final = 120.0
_UP_SECONDS_MAX: Final = 0.6
"""How long both live between two kills, at most: a cold start takes half of it."""


@dataclass(slots=True)
class Acks:
    """What was taken: each event's answer, by (tenant, id)."""

    taken: dict[tuple[str, str], Receipt | None] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    kills: int = 0


@dataclass(frozen=True, slots=True)
class Function:
    """One of the functions on a socket that outlives it."""

    name: str
    listener: socket.socket
    environment: dict[str, str]

    def start(self) -> subprocess.Popen[bytes]:
        """Return gunicorn, in a process group of its own."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", *GUNICORN),
                *("--bind", f"fd://{self.listener.fileno()}"),
                f"functions.{self.name}.app:create_app()",
            ],
            env=os.environ | self.environment,
            pass_fds=[self.listener.fileno()],
            start_new_session=True,
            stderr=subprocess.DEVNULL,  # a database that is away is no news here
        )

    def post(self, event: Event) -> Receipt | None:
        """Post an event until it is taken, and return what was answered."""
        port = self.listener.getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1/tenants/{event.tenant}/events"
        while True:
            try:
                answer = post_event(url, event, timeout=_ANSWER_SECONDS)
            except Exception:  # noqa: BLE001  # nobody answers: it was killed
                time.sleep(_PAUSE_SECONDS)
                continue
            if answer.status == 200:
                return Receipt(**json.loads(answer.body))
            if answer.status == 204:
                return None
            if answer.status < 500:
                raise RuntimeError(f"{answer.status}: {answer.body!r}")
            time.sleep(_PAUSE_SECONDS)


def torment(name: str, kills: int, seed: int) -> str:
    """Kill so often, and return what was found; `AssertionError` where one is lost."""
    server = Postgres()
    try:
        with server.database() as database, tempfile.TemporaryDirectory() as folder:
            members = {APP: ROLES[name]}
            database.prepare(SCHEMAS[name], f"guise_{name}", members)
            keys = _keys(Path(folder))
            with _listening() as listener:
                environment = _environment(database.url(), Path(folder))
                acks = _run(
                    Function(name, listener, environment), server, keys, kills, seed
                )
            check = _check_audit if name == "audit" else _check_billing
            return check(database.url(), keys, acks)
    finally:
        server.stop()


def _keys(folder: Path) -> FileKeys:
    keys = FileKeys(folder / "keys")
    for each in ("audit", "billing", *map(events_key, TENANTS)):
        keys.create(each)
    jwks = jwks_document(keys.create("tokens"))
    (folder / "jwks.json").write_text(json.dumps(jwks))
    return keys


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield listener


def _environment(url: str, folder: Path) -> dict[str, str]:
    return {
        "GUISE_DATABASE": url,
        "GUISE_KEYS": f"{folder}/keys",
        "GUISE_JWKS": f"{folder}/jwks.json",
        "GUISE_ISSUER": "guise",
    }


def _run(
    function: Function, server: Postgres, keys: FileKeys, kills: int, seed: int
) -> Acks:
    """Let callers post while a killer kills; return what was taken."""
    acks, chance = Acks(), random.Random(seed)  # noqa: S311  # no secret
    callers = [
        threading.Thread(target=_call, args=(function, keys, acks, each), daemon=True)
        for each in range(CALLERS)
    ]
    process = function.start()
    for each in callers:
        each.start()
    try:
        while acks.kills < kills:
            _until_more(acks)
            time.sleep(chance.uniform(0, _UP_SECONDS_MAX))
            acks.kills += 1
            if chance.random() < 0.5:
                server.kill()
                server.start()
            else:
                _kill(process)
                process = function.start()
        acks.over.set()
        for each in callers:
            each.join(60)
            if each.is_alive():
                raise RuntimeError("a caller waits for ever")
    finally:
        acks.over.set()
        _kill(process)
    return acks


def _until_more(acks: Acks) -> None:
    """Return once something more was taken: a kill before would hit nothing."""
    before, deadline = len(acks.taken), time.monotonic() + _RECOVERY_SECONDS_MAX
    while len(acks.taken) == before:
        if time.monotonic() > deadline:
            raise RuntimeError("nothing is taken any more")
        time.sleep(0.01)


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _call(function: Function, keys: FileKeys, acks: Acks, caller: int) -> None:
    """Post one event after the other; the same again until it is taken."""
    number = 0
    while not acks.over.is_set():
        tenant = TENANTS[(caller + number) % len(TENANTS)]
        name = f"c{caller}-{number}"
        event = _event(function.name, tenant, name)
        signed = events.sign(event, keys.signer(events_key(tenant)))
        acks.taken[tenant, name] = function.post(signed)
        number += 1


def _event(function: str, tenant: str, name: str) -> Event:
    started = {"job": f"job-{name}", "attempt": 1}
    return Event(
        id=name,
        source=events.swap_source(tenant),
        type=events.SWAP_STARTED if function == "audit" else events.USAGE_RECORDED,
        subject=name if function == "audit" else tenant,
        time="2026-01-05T12:00:00.000Z",
        tenant=tenant,
        data=started if function == "audit" else usage_data(job=f"job-{name}"),
    )


def _check_audit(url: str, keys: FileKeys, acks: Acks) -> str:
    """Each receipt is of its entry, each entry is there once, every log verifies."""
    found = audit.Store.open(url)
    entries = 0
    for tenant in TENANTS:
        taken = {
            name: each for (who, name), each in acks.taken.items() if who == tenant
        }
        with found.reading(tenant) as db:
            size = audit.size_of(db, tenant)
            note = audit.note_of(db, tenant, size)
            kept = audit.select_entries(db, audit.Selection(tenant), size + 1)
        verify_entries([each.leaf for each in kept], note, log_verifiers(tenant, keys))
        names = [json.loads(each.leaf)["id"] for each in kept]
        assert sorted(names) == sorted(taken), "entries are not what was taken"
        for name, receipt in taken.items():
            assert receipt is not None
            entry = kept[receipt.index]
            assert names[receipt.index] == name
            assert entry.leaf_hash.hex() == receipt.leaf_hash
        entries += len(kept)
    found.close()
    return f"{acks.kills} kills, {entries} receipts, every one in a log that verifies"


def _check_billing(url: str, keys: FileKeys, acks: Acks) -> str:
    """Each use that was taken is counted once, and nothing else is."""
    del keys
    found = billing.Ledger.open(url)
    counted = 0
    for tenant in TENANTS:
        taken = sum(who == tenant for who, _ in acks.taken)
        parts = found.sums(billing.Selection(tenant, 0, 2**53))
        assert sum(part.sum.events for part in parts) == taken
        counted += taken
    found.close()
    return f"{acks.kills} kills, {counted} uses, each counted once"


def main() -> None:
    """Torment one function and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("function", choices=sorted(SCHEMAS))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**31)
    asked = parser.parse_args()
    sys.stdout.write(f"{asked.function}, seed {asked.seed}\n")
    sys.stdout.flush()
    sys.stdout.write(torment(asked.function, asked.kills, asked.seed) + "\n")


if __name__ == "__main__":
    main()
