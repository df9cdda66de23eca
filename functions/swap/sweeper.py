"""The sweeper: finishes what somebody who died had begun.

It goes by the marks in `outbox/`, which stand from a job's acceptance until its
events are delivered, so a tenant with nothing open costs one listing.  The mark that
is oldest comes first, and a job that could not be settled has its mark set anew: so
each has its turn, and none, however broken, keeps another from its own.

`python -m functions.swap.sweeper` sweeps the tenant of the environment once: what a
CronJob runs on a cluster.  On one machine `guise up` sweeps.
"""

from __future__ import annotations

import heapq
import logging
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from functions import traces
from functions.keys import FileKeys
from functions.logs import configure_logging
from functions.problems import Failed, InvalidRequest, NotFound, Problem, Unavailable
from functions.roster import roster_of
from functions.settings import Settings, SettingsError
from functions.sink import HttpAuditor, HttpSink
from functions.storage import Stores
from functions.swap import (
    calling,
    holding,
    intake,
    ledger,
    outbox,
    retention,
    tidying,
    webhooks,
)
from functions.swap.dispatch import ask
from functions.swap.journal import Books, end_unreached

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.swap.intake import Accepted
    from functions.swap.retention import Retired

log = logging.getLogger(__name__)

What = Literal["told", "asked", "ended", "broken", "later", "waits"]

_ORPHAN_SECONDS: Final = 3600
_ASK_SECONDS_MAX: Final = 3600
_LOOK_SECONDS: Final = 3600
_MARKS_MAX: Final = 100_000


class Swept(msgspec.Struct):
    """How many jobs one sweep told of, asked for, ended, and found broken.

    `later` could not be settled now; `more` says that there was no time for all.
    """

    told: int = 0
    asked: int = 0
    ended: int = 0
    broken: int = 0
    later: int = 0
    more: bool = False

    @property
    def settled(self) -> int:
        """How many jobs were brought on."""
        return self.told + self.asked + self.ended + self.broken


@dataclass(slots=True)
class Sweeper:
    """Sweeps tenants over and over; looks for what is too old once an hour.

    `loopback` lets webhooks call this machine: for development.
    """

    looked: dict[str, float] = field(default_factory=dict)
    loopback: bool = False

    def run(self, books: Books) -> tuple[Swept, Retired]:
        """Sweep one tenant, and then make its webhook calls."""
        done = self.tend(books)
        call_back(books, loopback=self.loopback)
        return done

    def tend(self, books: Books) -> tuple[Swept, Retired]:
        """Sweep one tenant, but for webhooks: nobody outside is waited for.

        A fault in one part leaves the others alone.
        """
        swept = sweep(books)
        try:
            holding.look(books)
        except Failed:
            log.exception("counting what %s has stored", books.tenant.id)
        tenant, now = books.tenant.id, time.monotonic()
        retired = retention.Retired()
        if now - self.looked.get(tenant, -_LOOK_SECONDS) >= _LOOK_SECONDS:
            try:
                retired = retention.apply(books)
                if not retired.more:
                    self.looked[tenant] = now
            except Failed:
                self.looked[tenant] = now
                log.exception("looking for what is too old of %s", tenant)
        return swept, retired


def call_back(books: Books, *, loopback: bool = False) -> int:
    """Make the webhook calls that are due; return how many.  What fails is logged."""
    call = partial(calling.call, loopback=loopback)
    sender = webhooks.Sender(books.tenant, books.store, call)
    try:
        sender.run()
    except Failed:
        log.exception("the webhooks of %s", books.tenant.id)
    books.metrics.count("webhook_calls", sender.made)
    return sender.made


def sweep(books: Books) -> Swept:
    """Bring on what is due for one tenant, within the limits of one sweep."""
    swept, limits = Swept(), books.limits
    deadline = time.monotonic() + limits.sweep_seconds_max
    marks = ((updated, job) for job, updated in outbox.pending(books.store))
    for updated, job in heapq.nsmallest(_MARKS_MAX, marks):
        if swept.settled + swept.later >= limits.sweep_jobs_max or (
            time.monotonic() > deadline
        ):
            swept.more = True
            break
        what = _sweep(job, updated, books)
        if what != "waits":
            setattr(swept, what, getattr(swept, what) + 1)
            books.metrics.count("swept_jobs", what=what)
    return swept


def _sweep(job: str, updated: float, books: Books) -> What:
    try:
        return _finish(job, updated, books)
    except InvalidRequest:
        log.warning("%r is no job's mark", job)  # nothing of ours
        return "waits"
    except Exception:  # whatever it is, it is this job's own
        log.exception("sweeping %s of %s", job, books.tenant.id)
        _to_the_back(job, books)
        return "later"


def _to_the_back(job: str, books: Books) -> None:
    try:
        outbox.mark(books.tenant, job, books.store)
    except Failed:
        log.exception("the mark of %s of %s", job, books.tenant.id)


def _finish(job: str, updated: float, books: Books) -> What:
    tenant, store = books.tenant, books.store
    try:
        ending = ledger.record(tenant, job, store)
    except ledger.Broken as fault:
        return _bury(job, fault, books)
    if ending is not None:
        tidying.tidy(ending, tenant=tenant, store=store)
        if books.deliver(ending):
            return "told"
        outbox.mark(tenant, job, store)
        return "later"
    # A mark from a clock far ahead of ours is no young one.
    age_seconds = abs(time.time() - updated)
    if age_seconds < books.limits.claim_seconds:
        return "waits"  # whoever accepted it is about to start it
    try:
        return _go_on(job, updated, age_seconds, books)
    except ledger.Broken:
        log.exception("%s of %s", job, tenant.id)
        end_unreached(job, "", Failed(), books)
        return "ended"


def _go_on(job: str, updated: float, age_seconds: float, books: Books) -> What:
    """See to a job that has not ended."""
    tenant, store, limits = books.tenant, books.store, books.limits
    try:
        accepted = intake.load(tenant, job, store)
    except NotFound:
        return _orphan(job, age_seconds, books)
    standing = ledger.standing(tenant, job, store, limits)
    if standing.held:
        return "waits"
    if standing.spent:
        return _give_up(accepted, books)
    since = max(store.head(tenant.pinned(job)).updated, standing.until)
    if age_seconds < _patience(updated - since, limits.claim_seconds):
        return "waits"
    return _ask(job, books)


def _patience(waited_seconds: float, claim_seconds: float) -> float:
    """Return after how long a job is asked for again.

    As long again as it had waited when it was last asked for: the times double, so
    a queue before the worker is not filled by those who ask what became of it.
    """
    return max(claim_seconds, min(waited_seconds, _ASK_SECONDS_MAX))


def _ask(job: str, books: Books) -> What:
    try:
        ask(job, books)
    except Unavailable:
        return "later"  # its mark stays as it is: it is next when the sink is back
    outbox.mark(books.tenant, job, books.store)
    return "asked"


def _give_up(accepted: Accepted, books: Books) -> What:
    """End a job whose holders all died, without waking a worker for it."""
    end_unreached(accepted.job, accepted.request.operation, Failed(), books)
    return "ended"


def _orphan(job: str, age_seconds: float, books: Books) -> What:
    """Take away what a call left that never came to be accepted."""
    if age_seconds <= _ORPHAN_SECONDS:
        return "waits"
    tidying.forget_received(books.tenant, job, books.store)
    books.store.delete(books.tenant.outbox(job))
    return "ended"


def _bury(job: str, fault: ledger.Broken, books: Books) -> What:
    """Note that a job's record cannot be read; it is nobody's to write over."""
    log.error("%s of %s: %s", job, books.tenant.id, fault)
    letter = outbox.Letter("the record cannot be read")
    outbox.note(books.tenant, job, [letter], books.store)
    books.store.delete(books.tenant.outbox(job))
    return "broken"


def books_of(settings: Settings) -> Books:
    """Return the books of the one tenant of an environment, or raise `SettingsError`.

    It takes GUISE_TENANT, GUISE_STORE, GUISE_KEYS and K_SINK, and GUISE_TENANTS where
    the operator caps what is kept; audit is not asked.  Raises `UnknownTenant`.
    """
    tenant = settings.need("tenant")
    settings.require("store", "keys", "sink_url")
    spec = roster_of(settings).spec(tenant)
    return Books(
        tenant,
        Stores.from_settings(settings).of(tenant),
        FileKeys(settings.need("keys")),
        HttpAuditor(settings.audit_url),
        HttpSink.from_settings(settings),
        settings.limits,
        retention=spec.retention,
        storage_gib=spec.quotas.storage_gib,
    )


def main() -> None:
    """Sweep once, and print what was done as JSON; what fails is told on exit."""
    try:
        settings = Settings.from_env(os.environ)
        configure_logging(form=settings.log_format)
        books = books_of(settings)
        with _told(settings, books):
            books.store.sweep()
            loopback = settings.profile == "development"
            swept, retired = Sweeper(loopback=loopback).run(books)
    except (SettingsError, Problem) as error:
        sys.exit(f"error: {error} ({type(error).__name__})")
    document = msgspec.to_builtins(swept) | {"retired": asdict(retired)}
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


@contextmanager
def _told(settings: Settings, books: Books) -> Iterator[None]:
    """Be in a span, and push what was counted and traced where there is a collector."""
    exporter = None
    if settings.otlp_url:
        from functions.otlp import Exporter

        exporter = Exporter.from_settings(settings, "guise-sweeper", books.metrics)
    span = traces.enter("sweep", spans=exporter.spans if exporter else None)
    try:
        yield
    finally:
        traces.leave(span)
        if exporter is not None:
            exporter.push()


if __name__ == "__main__":
    main()
