"""`python -m tests.crash.machine HOME SINK`: a real stack whose claims soon run out.

It is `guise up` in every part, on a copy of the manifests in which the worker's lease
is short and its attempts are many, and with a sweep that comes often: a kill a second
is to be recovered from in seconds.  All that sends events sends them to SINK, which
passes them on to the broker or does not.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import knative
from functions.keys import FileKeys
from functions.local.activator import Limits as Patience
from functions.local.home import Home
from functions.local.stack import Options, Stack, Sweep
from functions.settings import Limits
from functions.sink import HttpAuditor, HttpSink
from functions.storage import Stores
from functions.swap.journal import Books
from functions.swap.sweeper import Sweeper
from functions.tenant import Tenant

if TYPE_CHECKING:
    from functions.local.home import Running

TENANT = "demo"
LIMITS = Limits(claim_seconds=2, attempts_max=20)
SWEEP_SECONDS = 0.5
IDLE_SECONDS = 3.0
_SINK = re.compile(r"            - name: K_SINK\n              value: \S+\n")
_OURS = (
    f'            - {{name: GUISE_CLAIM_SECONDS, value: "{LIMITS.claim_seconds}"}}\n'
    f'            - {{name: GUISE_ATTEMPTS_MAX, value: "{LIMITS.attempts_max}"}}\n'
    "            - {name: K_SINK, value: '%s'}\n"
)


def manifests(folder: Path, sink: str) -> Path:
    """Return a copy of the manifests with our limits and sink for door and worker."""
    if not folder.exists():
        shutil.copytree(knative.folder(), folder, ignore=shutil.ignore_patterns("*.py"))
        for name in ("door", "worker"):
            path = folder / "tenant" / f"{name}.yaml"
            text = path.read_text()
            changed, count = _SINK.subn(_OURS % sink, text)
            if count != 1:
                raise SystemExit(f"{path.name} has its sink elsewhere")
            path.write_text(changed)
    return folder


def main() -> None:
    """Serve until SIGINT; say on one line where."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    home, sink, tenant = Path(sys.argv[1]), sys.argv[2], Tenant(TENANT)
    stores = Stores(Home(home.resolve()).store_url)
    sweeper = Sweeper(loopback=True)

    def sweep(running: Running) -> None:
        store = stores.of(tenant)
        store.sweep()
        sweeper.run(
            Books(
                tenant,
                store,
                FileKeys(home / "keys"),
                HttpAuditor(running.urls["audit"]),
                HttpSink(sink),
                LIMITS,
            )
        )

    options = Options(
        idle_seconds=IDLE_SECONDS,
        sweep=Sweep(sweep, SWEEP_SECONDS),
        manifests=manifests(home / "manifests", sink),
        # Who dies thrice before an answer is left alone for this long; not for 10 s.
        limits=Patience(apology_seconds=0.5),
    )

    def announce(running: Running) -> None:
        sys.stdout.write(json.dumps(dict(running.urls)) + "\n")
        sys.stdout.flush()

    Stack(home, port=0, tenants=[tenant], options=options).run(announce)


if __name__ == "__main__":
    main()
