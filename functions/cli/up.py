"""`python -m functions.cli.up`: the stack, in a process that holds nothing else.

`guise up` turns into this once the pack is there: what fetching and converting
imported must not stay in memory for as long as everything sleeps.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from functions.cli.terminal import print_json
from functions.local.home import Home, HomeTaken
from functions.local.manifests import ManifestError
from functions.local.ports import PortTaken
from functions.local.stack import Options, Stack, Sweep
from functions.problems import Problem
from functions.settings import SettingsError
from functions.storage import Stores
from functions.storage.locate import is_template
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.local.home import Running

log = logging.getLogger(__name__)


def main() -> None:
    """Serve until Ctrl-C; with `--attached`, or until standard input ends."""
    asked = _parser().parse_args()
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        stack = _stack(asked)
        if asked.attached:
            threading.Thread(target=_stop_at_end, args=(stack,), daemon=True).start()
        stack.run(partial(_announce, asked.home, json=asked.json))
    except (HomeTaken, PortTaken, ManifestError, SettingsError, Problem) as error:
        sys.exit(f"error: {error} ({type(error).__name__})")


def _stack(asked: argparse.Namespace) -> Stack:
    tenant = Tenant(asked.tenant)
    if asked.store.startswith("memory:"):
        raise SettingsError("--store: the functions are processes, and share no memory")
    url = asked.store or Home(asked.home.resolve()).store_url
    stores = Stores(url, pinned=None if is_template(url) else tenant)
    options = Options(
        idle_seconds=asked.idle,
        models=asked.models,
        sweep=Sweep(work=partial(sweep_all, asked.home, [tenant], stores, {})),
        stores=stores if asked.store else None,
    )
    return Stack(asked.home, port=asked.port, tenants=[tenant], options=options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m functions.cli.up")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--idle", type=float, required=True)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--store", default="")
    parser.add_argument("--attached", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser


def _stop_at_end(stack: Stack) -> None:
    """Stop when whoever started us has gone: the pipe to our input ends with them."""
    sys.stdin.read()
    stack.stop()


def _announce(home: Path, running: Running, *, json: bool) -> None:
    if json:
        print_json({"urls": running.urls, "pid": running.pid})
        return
    lines = [f"{name:8} {url}" for name, url in running.urls.items()]
    lines += [f"token    {home / 'token'}", "Ctrl-C ends everything"]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def sweep_all(
    home: Path,
    tenants: Sequence[Tenant],
    stores: Stores,
    looked: dict[str, float],
    running: Running,
) -> None:
    """Sweep every tenant that is served, and what crashes left in its store.

    A store that is away keeps no other tenant waiting.  `looked` is kept from one
    sweep to the next; see `Sweeper`.
    """
    from functions.keys import FileKeys
    from functions.settings import Limits
    from functions.sink import HttpAuditor, HttpSink
    from functions.swap.journal import Books
    from functions.swap.sweeper import Sweeper

    for tenant in tenants:
        try:
            store = stores.of(tenant)
            store.sweep()
            books = Books(
                tenant,
                store,
                FileKeys(home / "keys"),
                HttpAuditor(running.urls["audit"]),
                HttpSink(running.urls["broker"]),
                Limits(),
            )
            # Who can write into a bucket is not always who sits at this machine.
            here = stores.url.startswith("file:")
            Sweeper(looked, loopback=here).run(books)
        except Problem:
            log.exception("the sweep of %s", tenant.id)


if __name__ == "__main__":
    main()
