"""`python -m functions.cli.up`: the stack, in a process that holds nothing else.

`guise up` turns into this once the pack is there: what fetching and converting
imported must not stay in memory for as long as everything sleeps.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from functions.cli.terminal import print_json
from functions.local import wiring
from functions.local.home import Home, HomeTaken
from functions.local.manifests import ManifestError
from functions.local.ports import PortTaken
from functions.local.stack import Options, Stack, Sweep
from functions.local.turns import Turns
from functions.logs import configure_logging
from functions.problems import Problem, Unavailable
from functions.settings import SettingsError
from functions.storage.base import StoreDenied
from functions.storage.locate import is_template
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.local.home import Running
    from functions.roster import Roster
    from functions.settings import Limits
    from functions.storage import Stores

log = logging.getLogger(__name__)


def main() -> None:
    """Serve until Ctrl-C; with `--attached`, or until standard input ends."""
    asked = _parser().parse_args()
    configure_logging(logging.WARNING)
    try:
        stack = _stack(asked, os.environ)
        if asked.attached:
            threading.Thread(target=_stop_at_end, args=(stack,), daemon=True).start()
        stack.run(partial(_announce, asked.home, json=asked.json))
    except (HomeTaken, PortTaken, ManifestError, SettingsError, Problem) as error:
        sys.exit(f"error: {error} ({type(error).__name__})")


def _stack(asked: argparse.Namespace, environ: Mapping[str, str]) -> Stack:
    tenant = Tenant(asked.tenant)
    if asked.store.startswith("memory:"):
        raise SettingsError("--store: the functions are processes, and share no memory")
    told, settings = wiring.chosen(environ)
    home = Home(asked.home.resolve())
    pinned = tenant if asked.store and not is_template(asked.store) else None
    stores = wiring.stores(home, told, url=asked.store, pinned=pinned)
    roster = home.roster(settings.region)
    vet(roster, stores)
    work = partial(
        sweep_all, home.root, roster, stores, {}, limits=settings.limits, turns=Turns()
    )
    options = Options(
        idle_seconds=asked.idle,
        models=asked.models,
        sweep=Sweep(work),
        stores=stores if asked.store else None,
        settings=told,
    )
    return Stack(asked.home, port=asked.port, tenants=[tenant], options=options)


def vet(roster: Roster, stores: Stores) -> None:
    """Say now whose data may not rest where they would: that tenant is shut out.

    Nobody else is; a stack that is pinned to the tenant raises `StoreDenied`.  A bucket
    that is away is looked at when it is needed; in a new home nobody is yet.
    """
    tenants: list[Tenant] = []
    with suppress(Unavailable):
        tenants = [spec.tenant for spec in roster.all()]
    for tenant in tenants:
        if stores.pinned not in {None, tenant}:
            continue
        try:
            stores.of(tenant)
        except StoreDenied as error:
            if stores.pinned:
                raise
            log.error("%s is shut out: %s", tenant.id, error)  # noqa: TRY400  # it says all
        except Unavailable:
            continue


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


def sweep_all(  # what a sweep needs
    home: Path,
    roster: Roster,
    stores: Stores,
    looked: dict[str, float],
    running: Running,
    *,
    limits: Limits,
    turns: Turns,
) -> None:
    """Sweep every tenant that is served, and what crashes left in its store.

    One that is away, or may not be opened, keeps no other waiting; nor does one whose
    webhooks do not answer: they are called in `turns`, meanwhile.  `looked` is kept
    from one sweep to the next; see `Sweeper`.
    """
    from functions.keys import FileKeys
    from functions.sink import HttpAuditor, HttpSink
    from functions.swap.journal import Books
    from functions.swap.sweeper import Sweeper, call_back

    for spec in roster.all():
        tenant = spec.tenant
        if stores.pinned not in {None, tenant}:
            continue
        try:
            store = stores.of(tenant)
            store.sweep()
            books = Books(
                tenant,
                store,
                FileKeys(home / "keys"),
                HttpAuditor(running.urls["audit"]),
                HttpSink(running.urls["broker"]),
                limits,
                retention=spec.retention,
                storage_gib=spec.quotas.storage_gib,
            )
            # Who can write into a bucket is not always who sits at this machine.
            here = stores.url.startswith("file:")
            Sweeper(looked).tend(books)
            turns.ask(tenant, partial(call_back, books, loopback=here))
        except (Problem, SettingsError):
            log.exception("the sweep of %s", tenant.id)


if __name__ == "__main__":
    main()
