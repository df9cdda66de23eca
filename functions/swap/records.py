"""What may be seen and done of jobs: show, list, cancel, retry, erase."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import structs

from functions import events
from functions.problems import (
    Cancelled,
    Changed,
    Conflict,
    Gone,
    NotFound,
    Unavailable,
)
from functions.structs import prepare
from functions.swap import intake, ledger, outbox, retiring
from functions.swap.dispatch import ask
from functions.swap.journal import closing, end_unreached
from functions.swap.tidying import tidy
from functions.tenant import JOBS, Key, job_id

if TYPE_CHECKING:
    from functions.swap.intake import Accepted
    from functions.swap.journal import Books
    from functions.swap.ledger import Record

ACCEPTED: Final = "accepted"
PAGE_JOBS: Final = 100
_ID_CHARACTERS_MAX: Final = 64
_AGAIN: Final = re.compile(r"(.+)-r([1-9][0-9]{0,8})")


def show(job: str, books: Books) -> dict[str, Any]:
    """Return the job as its tenant sees it, or raise `NotFound` or `Gone`."""
    ending = ledger.record(books.tenant, job_id(job), books.store)
    if ending is None:
        accepted = intake.load(books.tenant, job, books.store)
        operation = accepted.request.operation
        return {"job": job, "operation": operation, "outcome": ACCEPTED}
    if ending.outcome == ledger.ERASED:
        raise Gone("the job was erased")
    return ending.view()


def result(job: str, books: Books) -> Record:
    """Return the record of a job with an output, or raise why there is none."""
    ending = ledger.record(books.tenant, job_id(job), books.store)
    if ending is None:
        intake.load(books.tenant, job, books.store)  # NotFound, unless it is coming
        raise NotFound("the job has not ended yet")
    if ending.outcome == ledger.ERASED:
        raise Gone("the job was erased")
    if ending.expired:
        raise Gone(f"the result was kept until {ending.expired}")
    if ending.output is None:
        raise NotFound(f"the job was {ending.outcome}: there is no result")
    return ending


def listing(cursor: str, books: Books) -> dict[str, Any]:
    """Return a page of jobs in the order of their ids, and where to go on.

    The ids that the door names itself begin with the time.
    """
    jobs: list[dict[str, Any]] = []
    after = str(books.tenant.pinned(cursor)) if cursor else ""
    while len(jobs) < PAGE_JOBS:
        page = books.store.list(JOBS, cursor=after, limit=PAGE_JOBS)
        for info in page.objects:
            job = info.key.removeprefix(JOBS).partition("/")[0]
            if info.key == books.tenant.pinned(job) and len(jobs) < PAGE_JOBS:
                jobs.append(_line(job, books))
        after = page.cursor
        if not after:
            break
    full = len(jobs) == PAGE_JOBS
    return {"jobs": jobs, "cursor": jobs[-1]["job"] if full else ""}


def _line(job: str, books: Books) -> dict[str, Any]:
    ending = ledger.record(books.tenant, job, books.store)
    if ending is None:
        return {"job": job, "outcome": ACCEPTED}
    return {"job": job, "outcome": ending.outcome, "ended": ending.ended}


def cancel(job: str, books: Books) -> Record:
    """End an accepted job as cancelled, unless it has ended; return its record.

    A worker that is at it finds the job ended when it commits, and its output
    does not count.
    """
    accepted = intake.load(books.tenant, job, books.store)
    reason = Cancelled("the job was cancelled")
    return end_unreached(job, accepted.request.operation, reason, books)


class Retried(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a retry: the `job` that runs, and what was `done`."""

    job: str
    done: Literal["asked", "told", "accepted"]
    retries: str = ""


def retry(job: str, books: Books) -> Retried:
    """Bring a job on that is stuck, or run a failed one again as a new job.

    * Not ended: a worker is asked for it.
    * Ended, and something is not delivered: its events are sent again.
    * Failed: the same request, with the inputs pinned then, is accepted as another
      job, whose id is derived; a job has one ending, and keeps it.

    Raises `NotFound`, `Gone`, `Unavailable`, or `Conflict` with what stands in the way.
    """
    tenant, store = books.tenant, books.store
    ending = ledger.record(tenant, job_id(job), store)
    if ending is None:
        return _asked_for(job, books)
    if outbox.undelivered(tenant, job, store) is not None:
        if not outbox.redeliver(
            tenant, job, store=store, sink=books.sink, limits=books.limits
        ):
            raise Conflict("its events are refused still: see `guise jobs show`")
        return Retried(job, "told")
    if not outbox.told(tenant, job, store):
        if not books.deliver(ending):
            raise Unavailable("its events cannot be delivered now")
        return Retried(job, "told")
    if ending.expired or ending.outcome == ledger.ERASED:
        raise Gone("nothing of the job is left to run again")
    if ending.outcome != ledger.FAILED:
        raise Conflict(
            f"the job was {ending.outcome}: only a failed one runs again; a new one "
            "takes a new id or key"
        )
    return _run_again(job, books)


def _asked_for(job: str, books: Books) -> Retried:
    intake.load(books.tenant, job, books.store)
    if ledger.held(books.tenant, job, books.store, books.limits):
        raise Conflict("somebody works on the job now")
    ask(job, books)
    return Retried(job, "asked")


def _run_again(job: str, books: Books) -> Retried:
    failed = intake.load(books.tenant, job, books.store)
    new = next_id(job)
    ending = ledger.record(books.tenant, new, books.store)
    if ending is not None:
        raise Conflict(f"it ran again as {new}, which was {ending.outcome}")
    fresh = intake.renew(failed, new, books.tenant, books.store)
    _require_inputs(fresh, books)
    with suppress(Conflict, Unavailable):  # somebody is at it; or the sweeper asks
        _asked_for(new, books)
    return Retried(new, "accepted", retries=job)


def _require_inputs(fresh: Accepted, books: Books) -> None:
    """Return once its inputs are there to stay, or end the job and raise `Gone`.

    Pinned first, looked at afterwards; see `retiring`.
    """
    retiring.wait(books.store, seconds_max=2 * books.limits.sweep_seconds_max)
    try:
        for key in fresh.inputs:
            books.store.head(Key(key))
    except NotFound as missing:
        detail = "its images are kept no longer"
        operation = fresh.request.operation
        end_unreached(fresh.job, operation, Gone(detail), books)
        raise Gone(detail) from missing


def next_id(job: str) -> str:
    """Return the id under which a failed job runs again: `j` is `j-r1`, then `j-r2`."""
    again = _AGAIN.fullmatch(job)
    stem, number = (again[1], int(again[2])) if again else (job, 0)
    following = f"-r{number + 1}"
    if len(stem) + len(following) > _ID_CHARACTERS_MAX:
        stem = hashlib.sha256(stem.encode()).hexdigest()[:40]
    return stem + following


def erase(job: str, books: Books) -> None:
    """Erase what the job made and was given, for ever; the erasure is audited.

    What stays is a record that says so, and an input that a job needs which has not
    ended.  Raises `NotFound`, or `Conflict` while the job has not ended.
    """
    tenant, store = books.tenant, books.store
    ending, generation = ledger.record_at(tenant, job_id(job), store)
    if ending is None:
        intake.load(tenant, job, store)
        raise Conflict("the job has not ended: cancel it first")
    if ending.outcome != ledger.ERASED:
        # The tombstone takes the place of the events: they must have been sent.
        if not outbox.told(tenant, job, store) and not books.deliver(ending):
            raise Unavailable(internal=f"{job}: its ending is not delivered yet")
        ending = entomb(_erased(ending, books), generation, books)
        if ending.outcome != ledger.ERASED:
            raise Unavailable(internal=f"{job}: its record changed meanwhile")
    tidy(ending, tenant=tenant, store=store)
    books.deliver(ending)


def _erased(ending: Record, books: Books) -> Record:
    bare = bared(ending)
    return closing(
        structs.replace(bare, outcome=ledger.ERASED, ended=events.now(), gate=None),
        books,
    )


def bared(ending: Record) -> Record:
    """Return a record without what it says of any picture or of its content."""
    kind = {"type": ending.problem["type"]} if ending.problem else None
    return structs.replace(
        ending, output=None, problem=kind, faces=[], counts=None, provenance=None
    )


def entomb(tombstone: Record, generation: int, books: Books) -> Record:
    """Write a tombstone over exactly that generation; return the record that stands.

    The mark comes first: what is still to be deleted and told, the sweeper sees to.
    """
    outbox.mark(books.tenant, tombstone.job, books.store)
    try:
        ledger.replace(tombstone, generation, tenant=books.tenant, store=books.store)
    except Changed as error:
        winner = ledger.record(books.tenant, tombstone.job, books.store)
        if winner is None:
            raise Unavailable(internal="the record vanished") from error
        return winner  # another was faster: that one's tombstone stands
    return tombstone


prepare()
