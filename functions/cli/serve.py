"""`guise up` and `status`, and a stack for a command that needs one."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from functions.cli.models.packs import have
from functions.cli.terminal import busy, out, print_json, say
from functions.problems import InvalidRequest, Unavailable
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    models: Path | None,
    store: str,
    json: bool,
) -> NoReturn:
    """Have the pack, then become the stack; see `functions.cli.up`."""
    from functions.cli.tenant.first import before_up

    who = Tenant(tenant)
    folder = _pack(models, home, quiet=json)
    before_up(home, who)
    command = command_up(home, folder, port=port, idle_seconds=idle_seconds)
    command += ["--tenant", who.id, "--store", store]
    os.execv(sys.executable, command + (["--json"] if json else []))  # noqa: S606  # us


def _pack(models: Path | None, home: Path, *, quiet: bool) -> Path:
    """Return the pack that was named, or a verified lite one."""
    if models is None:
        return have("lite", home / "models", quiet=quiet)
    from models.verify import verify

    verify(models, full=False)  # said here, and not by a worker that does not start
    return models


def command_up(
    home: Path,
    models: Path,
    *,
    port: int,
    idle_seconds: float,
) -> list[str]:
    """Return the command that runs a stack in `home`, but for its tenant."""
    command = [sys.executable, "-m", "functions.cli.up", "--home", str(home)]
    command += ["--models", str(models.resolve())]
    return [*command, "--port", str(port), "--idle", str(idle_seconds)]


@contextmanager
def running(home: Path, models: Path | None, *, quiet: bool) -> Iterator[Running]:
    """Yield the stack that serves `home`; where there is none, start and end one.

    `models` is the prepared pack that it is to run, by default the lite one.

    Raises:
        InvalidRequest: a stack runs already, and with what pack is its own affair.
    """
    from functions.local.home import Home

    found = Home(home.resolve()).running()
    if found is None:
        with own(home, models, idle_seconds=5.0, quiet=quiet) as stack:
            yield stack
    elif models is not None:
        raise InvalidRequest(f"{home} is served already: --models is for `guise up`")
    else:
        yield _at(home, dict(found.urls))


@contextmanager
def own(
    home: Path, models: Path | None = None, *, idle_seconds: float, quiet: bool
) -> Iterator[Running]:
    """Yield a stack of our own on free ports, in a process of its own, and end it."""
    from functions.cli.tenant.first import before_up

    folder = _pack(models, home, quiet=quiet)
    before_up(home, Tenant(TENANT))
    command = command_up(home, folder, port=0, idle_seconds=idle_seconds)
    command += ["--tenant", TENANT, "--attached", "--json"]
    with subprocess.Popen(  # noqa: S603  # our own command
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
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
        kind, job = letter.event["type"], letter.event.get("subject", "")
        said = f"{letter.trigger}: {letter.reason}: {kind} {job}"
        say(f"dead letter {letter.number}: {said}")


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
    say(f"stack, process {found.pid}: {mib:.0f} MiB")
    say(f"{owed} events queued, {dead} dead letters")


def replay_letter(home: Path, number: int, *, json: bool) -> None:
    """Send dead letter `number` again, or raise `NotFound`."""
    from functions.local.status import replay

    replay(home, number)
    if json:
        print_json({"replayed": number})
    else:
        say(f"dead letter {number} is sent again")
