"""A function behind its real door, on a real database."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._callers import Load, call, request, stolen
from functions.auth import jwks_document
from functions.keys import FileKeys, events_key
from tests.postgres import APP, Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from functions.database import Schema
    from functions.keys import Signer

ROUNDS = 3
LEAST = 60
"""Requests in a round, and before the first: of fewer, p99 says nothing."""
HERE = Path(__file__).parent
GUNICORN = (
    *("-k", "functions.server.Patient", "--workers", "1", "--threads", "40"),
    *("--timeout", "0", "--no-control-socket", "--log-level", "critical"),
    *("--chdir", str(HERE)),
)


@dataclass(frozen=True)
class Function:
    """Which function: its name, its tables, and the roles of its login."""

    name: str
    schema: Schema
    roles: tuple[str, ...]

    @contextmanager
    def database(self, kind: str, folder: Path) -> Iterator[str]:
        """Yield the URL of a fresh database, its tables made."""
        if kind == "sqlite":
            yield f"sqlite:///{folder}/{self.name}.db"
            return
        server = Postgres()
        try:
            with server.database() as made:
                made.prepare(self.schema, f"guise_{self.name}", {APP: self.roles})
                yield made.url()
        finally:
            server.stop()

    @contextmanager
    def serving(self, url: str, folder: Path) -> Iterator[int]:
        """Yield the port on which gunicorn serves the function."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)
            process = subprocess.Popen(  # noqa: S603  # ours
                [
                    *(sys.executable, "-m", "gunicorn", *GUNICORN),
                    *("--bind", f"fd://{listener.fileno()}"),
                    f"_{self.name}_door:create_app()",
                ],
                pass_fds=[listener.fileno()],
                env=os.environ
                | {
                    "GUISE_DATABASE": url,
                    "GUISE_KEYS": f"{folder}/keys",
                    "GUISE_JWKS": f"{folder}/jwks.json",
                    "GUISE_ISSUER": "guise",
                    "GUISE_PROFILE": "development",
                },
            )
            try:
                yield listener.getsockname()[1]
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


class Tenants:
    """Tenants with keys, who never say the same thing twice.

    `post` makes the request of a tenant, its signer and a number nobody had before.
    """

    def __init__(
        self, folder: Path, number: int, post: Callable[[str, Signer, int], bytes]
    ) -> None:
        self.keys = FileKeys(folder / "keys")
        self.keys.create("audit")
        issuer = self.keys.create("tokens")
        (folder / "jwks.json").write_text(json.dumps(jwks_document(issuer)))
        names = [f"tenant-{each}" for each in range(number)]
        self._signers = {each: self.keys.create(events_key(each)) for each in names}
        self._post = post
        self._said = 0

    def requests(self, tenants: int, number: int) -> list[bytes]:
        """Return requests of the first `tenants`, in turns, as they are posted."""
        signers = list(self._signers.items())[:tenants]
        start, self._said = self._said, self._said + number
        return [self._post(*signers[n % tenants], start + n) for n in range(number)]


def beside_empty(
    port: int,
    requests: Callable[[int], Sequence[bytes]],
    callers: int,
    seconds: float,
    least: int = LEAST,
) -> dict[str, Any]:
    """Return the medians of some rounds, ours and the empty handler's in turns.

    A round takes about so many `seconds`, and `least` requests whatever they take.
    """
    ours: list[Load] = []
    empty: list[Load] = []
    warm = requests(max(least, callers))
    nothing = request("/empty", {"Content-Type": "application/json"}, b"x" * 600)
    rate = call(port, warm, callers).per_second
    before = stolen()
    for _ in range(ROUNDS):
        each = requests(max(least, int(rate * seconds)))
        few = [nothing] * max(least, int(3000 * seconds))
        empty.append(call(port, few, callers))
        ours.append(call(port, each, callers))
    after = stolen()
    done = statistics.median(each.per_second for each in ours)
    peer = statistics.median(each.per_second for each in empty)
    return {
        "per_second": round(done),
        "empty_per_second": round(peer),
        "of_empty": round(done / peer, 2),
        "p50_ms": round(statistics.median(each.p50_ms for each in ours), 1),
        "p99_ms": round(statistics.median(each.p99_ms for each in ours), 1),
        "steal_percent": round(
            100 * (after[0] - before[0]) / max(1, after[1] - before[1]), 1
        ),
    }
