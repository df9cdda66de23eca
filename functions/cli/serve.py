"""`guise up` and `status`, and a stack for a command that needs one."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from functions.cli.packs import have
from functions.cli.terminal import busy, out, print_json, say
from functions.problems import Unavailable
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.local.home import Running as Addresses
    from functions.local.stack import Stack
    from functions.local.status import StackStatus

TENANT: Final = "demo"
_END_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that serves `home`: the addresses of its doors, and a token."""

    home: Path
    tenant: str
    door: str
    audit: str
    billing: str

    @property
    def token(self) -> str:
        """The tenant's bearer token."""
        return (self.home / "token").read_text().strip()

    @property
    def tenant_folder(self) -> Path:
        """The tenant's store."""
        return self.home / "tenants" / self.tenant

    def status(self) -> StackStatus:
        """Return what the stack is doing, or raise `Unavailable` if it has ended."""
        from functions.local.status import status

        found = status(self.home)
        if found is None:
            raise Unavailable("the stack has ended")
        return found


def run(
    home: Path,
    *,
    port: int,
    idle_seconds: float,
    tenant: str,
    pack: str,
    attached: bool,
    json: bool,
) -> None:
    """Serve until Ctrl-C; `attached`: or until standard input ends."""
    from functions.local.stack import Options, Stack, Sweep

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    who = Tenant(tenant)
    folder = have(pack, home / "models", quiet=json)
    options = Options(
        idle_seconds=idle_seconds,
        models=folder.resolve(),
        sweep=Sweep(work=lambda addresses: _sweep(home, addresses)),
    )
    stack = Stack(home, port=port, tenants=[who], options=options)
    if attached:
        threading.Thread(target=_stop_at_end, args=(stack,), daemon=True).start()
    stack.run(lambda addresses: _announce(home, addresses, json=json))


def _stop_at_end(stack: Stack) -> None:
    """Stop when whoever started us has gone: the pipe to our input ends with them."""
    sys.stdin.read()
    stack.stop()


def _announce(home: Path, addresses: Addresses, *, json: bool) -> None:
    if json:
        print_json({"urls": addresses.urls, "pid": addresses.pid})
        return
    for name, url in addresses.urls.items():
        say(f"{name:8} {url}")
    say(f"token    {home / 'token'}")
    say("Ctrl-C ends everything")


def _sweep(home: Path, addresses: Addresses) -> None:
    """Sweep every tenant of this machine."""
    from functions.keys import FileKeys
    from functions.settings import Limits
    from functions.sink import HttpAuditor, HttpSink
    from functions.storage.file import FileStore
    from functions.swap.journal import Books
    from functions.swap.sweeper import sweep

    for folder in sorted((home / "tenants").iterdir()):
        books = Books(
            Tenant(folder.name),
            FileStore(folder.resolve()),
            FileKeys(home / "keys"),
            HttpAuditor(addresses.urls["audit"]),
            HttpSink(addresses.urls["broker"]),
            Limits(),
        )
        sweep(books)


@contextmanager
def running(home: Path, *, quiet: bool) -> Iterator[Running]:
    """Yield the stack that serves `home`; where there is none, start and end one."""
    from functions.local.home import Home

    found = Home(home.resolve()).running()
    if found is None:
        with own(home, idle_seconds=5.0, quiet=quiet) as stack:
            yield stack
    else:
        yield _at(home, dict(found.urls))


@contextmanager
def own(home: Path, *, idle_seconds: float, quiet: bool) -> Iterator[Running]:
    """Yield a stack of our own on free ports, in a process of its own, and end it."""
    have("lite", home / "models", quiet=quiet)
    command = [sys.executable, "-m", "functions.cli", "up", "--attached", "--json"]
    command += ["--home", str(home), "--port", "0", "--idle", str(idle_seconds)]
    with (
        subprocess.Popen(  # noqa: S603  # our own command
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        try:
            with busy("starting the stack", quiet=quiet):
                line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise Unavailable("the stack did not start: see above")
            yield _at(home, msgspec.json.decode(line)["urls"])
        finally:
            process.terminate()
            process.wait(_END_SECONDS)


def _at(home: Path, urls: dict[str, str]) -> Running:
    return Running(home, TENANT, urls["door"], urls["audit"], urls["billing"])


def show_status(home: Path, *, json: bool) -> None:
    """Print services, processes, queue and dead letters."""
    from functions.local.status import dead_letters, status

    found, letters = status(home), dead_letters(home)
    if json:
        print_json({"running": found is not None, "stack": found, "dead": letters})
        return
    if found is None:
        say(f"nothing runs in {home}")
    else:
        _show(found)
    for letter in letters:
        say(f"dead letter {letter.number}: {letter}")


def _show(found: StackStatus) -> None:
    from rich.table import Table

    table = Table("service", "state", "processes", "address", box=None)
    for service in found.services:
        pids = str(len(service.pids))
        table.add_row(service.name, service.state, pids, service.url)
    console = out()
    console.print(table)
    owed = sum(found.queue.values())
    mib = found.rss_bytes / 2**20
    dead = found.dead_letters
    say(f"stack {found.pid}: {mib:.0f} MiB; {owed} events queued, {dead} dead letters")


def replay_letter(home: Path, number: int, *, json: bool) -> None:
    """Send dead letter `number` again, or raise `NotFound`."""
    from functions.local.status import replay

    replay(home, number)
    if json:
        print_json({"replayed": number})
    else:
        say(f"dead letter {number} is sent again")
