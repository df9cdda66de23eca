"""What `guise jobs` does, over a tenant's store or through the door's API."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.cli.terminal import out, print_json, say
from functions.problems import InvalidRequest, NotFound, Problem, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.cli.client import Client
    from functions.events import Event
    from functions.roster import Spec
    from functions.storage import Store
    from functions.swap.journal import Books
    from functions.tenant import Tenant

WAITING: Final = "waiting"
WORKING: Final = "working"
BROKEN: Final = "broken"
_CANNOT_BE: Final = "--open and --dead look into the store: leave --url out"


class Nobody:
    """A sink where no stack runs: what is to be sent waits for one."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def deliver(self, event: Event, *, timeout: float) -> None:
        """Raise `Unavailable`."""
        del event, timeout
        raise Unavailable(f"nothing runs in {self._home}: start it with `guise up`")


class Line(msgspec.Struct, omit_defaults=True):
    """One job in a list.

    `state` is waiting, working, broken (its record cannot be read) or how it ended;
    `untold` says that its ending is still to be delivered, `undelivered` how many of
    its events nobody takes.
    """

    job: str
    state: str
    attempt: int = 0
    ended: str = ""
    untold: bool = False
    undelivered: int = 0
    retries: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Whose jobs, where they lie, and who reads the answer."""

    home: Path
    tenant: str
    store: str = ""
    url: str = ""
    token_file: Path | None = None
    json: bool = False

    def client(self) -> Client:
        """Return a client of the door at `url`."""
        from functions.cli.client import Client
        from functions.problems import Unauthenticated

        if self.token_file is None:
            raise Unauthenticated("--url needs --token-file")
        return Client(self.url.rstrip("/"), self.token_file.read_text().strip())

    def books(self) -> Books:
        """Return the tenant's books in `store`, or in `home`; wakes nothing.

        Raises `NotFound` where there is no such home or tenant.
        """
        from functions.keys import FileKeys
        from functions.local.home import Home
        from functions.settings import Limits
        from functions.sink import HttpAuditor, HttpSink
        from functions.swap.journal import Books
        from functions.tenant import Tenant

        tenant = Tenant(self.tenant)
        home = Home(self.home.resolve())
        running = home.running()
        urls = running.urls if running else {}
        spec = self._spec(tenant)
        return Books(
            tenant,
            self._store(home.tenants / tenant.id),
            FileKeys(home.keys),
            HttpAuditor(urls.get("audit", "")),
            HttpSink(urls["broker"]) if urls else Nobody(self.home),
            Limits(),
            retention=spec.retention if spec else None,
            storage_gib=spec.quotas.storage_gib if spec else None,
        )

    def _store(self, folder: Path) -> Store:
        from functions.cli.tenant.place import Place as Installation
        from functions.tenant import Tenant

        if not self.store and not folder.is_dir():
            raise NotFound(f"{self.home} has no tenant {self.tenant}")
        tenant = Tenant(self.tenant)
        installation = Installation(self.home, store=self.store)
        return installation.stores(tenant).of(tenant)

    def _spec(self, tenant: Tenant) -> Spec | None:
        """Return what the operator says of the tenant, if anything."""
        from functions.cli.tenant.place import Place as Installation
        from functions.problems import UnknownTenant

        try:
            return Installation(self.home).roster().spec(tenant)
        except UnknownTenant:
            return None


def list_jobs(place: Place, *, only_open: bool, only_dead: bool) -> None:
    """Print jobs, one a line."""
    if place.url and (only_open or only_dead):
        raise InvalidRequest(_CANNOT_BE)
    lines = _asked(place) if place.url else _looked_up(place, only_open, only_dead)
    if place.json:
        for line in lines:
            print_json(line)
        return
    _print_table(list(lines))


def _asked(place: Place) -> Iterator[Line]:
    client, cursor = place.client(), ""
    while True:
        page = client.get(f"/v1/swaps?cursor={cursor}")
        for each in page["jobs"]:
            outcome = each["outcome"]
            state = WAITING if outcome == "accepted" else outcome
            yield Line(each["job"], state, ended=each.get("ended", ""))
        cursor = page["cursor"]
        if not cursor:
            return


def _looked_up(place: Place, only_open: bool, only_dead: bool) -> Iterator[Line]:  # noqa: FBT001  # the two flags of the command
    from functions.swap import outbox

    books = place.books()
    dead = set(outbox.dead(books.store))
    untold = {job for job, _ in outbox.pending(books.store)}
    chosen = untold if only_open else dead if only_dead else None
    if only_open and only_dead:
        chosen = untold | dead
    for job in sorted(_every(books) if chosen is None else chosen):
        line = _line(job, books)
        line.untold = job in untold
        yield line


def _every(books: Books) -> set[str]:
    """Return every job of which anything is known."""
    from functions.tenant import JOBS, RESULTS

    found: set[str] = set()
    for prefix in (JOBS, RESULTS):
        cursor = ""
        while True:
            page = books.store.list(prefix, cursor=cursor)
            names = (info.key.removeprefix(prefix) for info in page.objects)
            found.update(name.partition("/")[0] for name in names)
            cursor = page.cursor
            if not cursor:
                break
    return found


def _line(job: str, books: Books) -> Line:
    from functions.swap import ledger, outbox

    try:
        ending = ledger.record(books.tenant, job, books.store)
        note = outbox.undelivered(books.tenant, job, books.store)
        count = len(note.letters) if note else 0
        if ending is not None:
            return Line(
                job, ending.outcome, ending.attempt, ending.ended, undelivered=count
            )
        standing = ledger.standing(books.tenant, job, books.store, books.limits)
    except Problem:  # broken, or a name that no job has
        return Line(job, BROKEN, undelivered=1)
    state = WORKING if standing.held else WAITING
    return Line(job, state, standing.attempt, undelivered=count)


def _print_table(lines: list[Line]) -> None:
    from rich.table import Column, Table

    if not lines:
        say("no such jobs")
        return
    # A job's id is there to be copied: it is never cut, and never broken in two.
    longest = max(len(line.job) for line in lines)
    ids = Column("job", min_width=longest, no_wrap=True)
    table = Table(ids, "state", "attempt", "ended", "", box=None)
    for line in lines:
        attempt = str(line.attempt) if line.attempt else ""
        table.add_row(line.job, line.state, attempt, line.ended, _remark(line))
    out().print(table)


def _remark(line: Line) -> str:
    if line.undelivered:
        return f"{line.undelivered} undelivered"
    ended = line.state not in {WAITING, WORKING, BROKEN}
    return "not told yet" if line.untold and ended else ""


def show_job(place: Place, job: str) -> None:
    """Print one job."""
    if place.url:
        shown = place.client().get(f"/v1/swaps/{job}")
    else:
        shown = _details(job, place.books())
    if place.json:
        print_json(shown)
        return
    for name, value in shown.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        say(f"{name:12} {text}")


def _details(job: str, books: Books) -> dict[str, Any]:
    """Return what the tenant is shown, and what the operator wants to know."""
    from functions.swap import intake, ledger, outbox, webhooks

    ending = ledger.record(books.tenant, job, books.store)
    if ending is not None:
        shown = ending.view()
        shown["told"] = outbox.told(books.tenant, job, books.store)
    else:
        accepted = intake.load(books.tenant, job, books.store)
        standing = ledger.standing(books.tenant, job, books.store, books.limits)
        shown = {
            "job": job,
            "operation": accepted.request.operation,
            "outcome": WORKING if standing.held else WAITING,
            "accepted": accepted.accepted,
            "attempt": standing.attempt,
        }
        if accepted.retries:
            shown["retries"] = accepted.retries
    note = outbox.undelivered(books.tenant, job, books.store)
    if note is not None:
        shown["undelivered"] = [
            {"type": each.event.get("type", ""), "reason": each.reason}
            for each in note.letters
        ]
    if calls := webhooks.shown(books.tenant, job, books.store):
        shown["webhooks"] = calls
    return shown


def retry_job(place: Place, job: str) -> None:
    """Bring a job on, or run it again, and print what was done."""
    from functions.swap.records import retry

    done = retry(job, place.books())
    if place.json:
        print_json(done)
        return
    said = {
        "asked": f"{job}: a worker is asked for it",
        "told": f"{job}: its events are delivered",
        "accepted": f"{job} failed, and runs again as {done.job}",
    }
    say(said[done.done])


def cancel_job(place: Place, job: str) -> None:
    """Cancel a job, and print how it ended."""
    if place.url:
        ended = place.client().cancel(job)
    else:
        from functions.swap.records import cancel

        ended = cancel(job, place.books()).view()
    if place.json:
        print_json(ended)
    else:
        say(f"{job}: {ended['outcome']}")


def sweep_jobs(place: Place) -> None:
    """Sweep one tenant now, and print what was done."""
    from functions.swap import holding, retention
    from functions.swap.sweeper import call_back, sweep

    books = place.books()
    if isinstance(books.sink, Nobody):
        raise Unavailable(f"nothing runs in {place.home}: start it with `guise up`")
    swept, retired = sweep(books), retention.apply(books)
    call_back(books, loopback=not place.store)
    holding.look(books)
    if place.json:
        document = msgspec.to_builtins(swept)
        print_json(document | {"retired": asdict(retired)})
        return
    say(
        f"{swept.told} told, {swept.asked} asked for, {swept.ended} ended, "
        f"{swept.broken} broken, {swept.later} later"
    )
    say(f"{retired.jobs} jobs and {retired.uploads} uploads are kept no longer")
