"""Retention: what a tenant's uploads and results are kept for, and their end.

What has ended longer ago loses its output, its pinned request and everything else
but the record that says how it ended.  Each such end is audited.  An upload that an
unfinished job pins stays, however old.

Ages are by the store's clock alone: what it says of each object, held against the
time it gives a mark that is written at the start.  A sweeper with a wrong clock
deletes nothing early.  Every step may be cut off and repeated.

A look announces itself before it reads who pins what: see `retiring`.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, structs

from functions import events
from functions.problems import (
    Changed,
    Failed,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unavailable,
)
from functions.settings import DAYS_MAX
from functions.structs import prepare
from functions.swap import intake, ledger, outbox, retiring
from functions.swap.journal import end_unreached
from functions.swap.records import bared, entomb
from functions.swap.tidying import pins, tidy
from functions.tenant import (
    JOBS,
    REQUESTS,
    RESULTS,
    RETENTION,
    SWEPT,
    UPLOADS,
    job_of_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.roster import Retention
    from functions.settings import Limits
    from functions.storage import Info, Store
    from functions.swap.journal import Books
    from functions.swap.ledger import Record
    from functions.tenant import Key

log = logging.getLogger(__name__)

REASON: Final = "retention"
_DAY_SECONDS: Final = 86_400
_POLICY_BYTES_MAX: Final = 65_536

_Days = Annotated[int, Meta(ge=1, le=DAYS_MAX)]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `policy/retention.json`: days, each the operator's if left out.

    `uploads_days` is since the upload, `results_days` since the job's end.
    """

    uploads_days: _Days | None = None
    results_days: _Days | None = None


class Unreadable(Failed):
    """The tenant's policy cannot be read: nothing is deleted."""


@dataclass(slots=True)
class Retired:
    """What one look did; `more` says that there was no time for all."""

    jobs: int = 0
    uploads: int = 0
    given_up: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    """One look: until when it may take, and what counts as too old (epoch)."""

    books: Books
    deadline: float
    uploads_before: float
    results_before: float
    pins: frozenset[str]

    def over(self, done: Retired) -> bool:
        """Return whether it has done or taken as much as it may."""
        work = done.jobs + done.uploads + done.given_up
        done.more = (
            work >= self.books.limits.sweep_jobs_max or time.monotonic() > self.deadline
        )
        return done.more


def policy(
    store: Store, limits: Limits, cap: Retention | None = None
) -> tuple[int, int]:
    """Return for how many days uploads and results are kept, or raise `Unreadable`.

    `cap` is the operator's word on this tenant, whose own may be less and never more.
    """
    try:
        data = store.get(RETENTION, bytes_max=_POLICY_BYTES_MAX).data
        said = msgspec.convert(events.strict_json(data), Policy)
    except NotFound:
        said = Policy()
    except (InvalidRequest, TooLarge, msgspec.ValidationError) as fault:
        raise Unreadable(internal=f"{RETENTION} is no policy: {fault}") from fault
    return (
        _days(said.uploads_days, cap.uploads_days if cap else None, limits),
        _days(said.results_days, cap.results_days if cap else None, limits),
    )


def _days(said: int | None, cap: int | None, limits: Limits) -> int:
    if cap is None:
        return said or limits.retention_days
    return min(said or cap, cap)


def apply(books: Books) -> Retired:
    """Delete what is kept no longer, as far as one look may go.

    Raises `Unreadable`.
    """
    uploads_days, results_days = policy(books.store, books.limits, books.retention)
    now = _now(books.store)
    done = Retired()
    with retiring.announced(books.store, now):
        look = _Look(
            books,
            time.monotonic() + books.limits.sweep_seconds_max,
            uploads_before=now - uploads_days * _DAY_SECONDS,
            results_before=now - results_days * _DAY_SECONDS,
            pins=pins(books.tenant, books.store),
        )
        for step in (_jobs, _requests, _strays, _uploads):
            step(look, done)
            if done.more:
                break
    return done


def _now(store: Store) -> float:
    """Return the store's own time, seconds since the epoch."""
    store.put(SWEPT, uuid.uuid4().hex.encode())
    return store.head(SWEPT).updated


def _old(prefix: Key, before: float, store: Store) -> Iterator[Info]:
    cursor = ""
    while True:
        page = store.list(prefix, cursor=cursor)
        yield from (info for info in page.objects if info.updated < before)
        cursor = page.cursor
        if not cursor:
            return


def _jobs(look: _Look, done: Retired) -> None:
    """End the time of jobs that were accepted; the others have no pinned request."""
    books = look.books
    for info in _old(JOBS, look.results_before, books.store):
        if look.over(done):
            return
        job = info.key.removeprefix(JOBS).partition("/")[0]
        if info.key == f"{JOBS}{job}/request.json":
            _job(job, look, done)


def _job(job: str, look: _Look, done: Retired) -> None:
    books = look.books
    tenant, store = books.tenant, books.store
    try:
        ending, generation = ledger.record_at(tenant, job, store)
        if ending is None:
            done.given_up += _give_up(job, books)
        elif _is_due(ending, look):
            done.jobs += expire(ending, generation, books)
    except (InvalidRequest, ledger.Broken):
        return  # no job of ours, or one for the sweeper to note
    except Unavailable:  # this one, perhaps for long: the others have their turn
        log.warning("%s of %s is not expired now", job, tenant.id, exc_info=True)


def _give_up(job: str, books: Books) -> bool:
    """End a job that for all that time nobody could bring to its end."""
    if ledger.held(books.tenant, job, books.store, books.limits):
        return False
    operation = intake.load(books.tenant, job, books.store).request.operation
    end_unreached(job, operation, Failed(), books)
    return True


def _is_due(ending: Record, look: _Look) -> bool:
    """Return whether the job has ended long enough ago, is told, and is not needed."""
    tenant, store = look.books.tenant, look.books.store
    if store.head(tenant.record(ending.job)).updated >= look.results_before:
        return False
    folder = tenant.received_folder(ending.job)
    if any(key.startswith(folder) for key in look.pins):
        return False  # a retry of it is under way
    return outbox.told(tenant, ending.job, store)


def expire(ending: Record, generation: int, books: Books) -> bool:
    """Leave of an ended and told job the record alone; return whether it was us."""
    if not ending.expired and ending.outcome != ledger.ERASED:
        tombstone = _tombstone(ending, books)
        ending = entomb(tombstone, generation, books)
        if ending != tombstone:
            return False  # erased or expired by somebody else, who goes on
    tidy(ending, tenant=books.tenant, store=books.store)
    books.deliver(ending)
    return True


def _tombstone(ending: Record, books: Books) -> Record:
    data: dict[str, Any] = {
        "job": ending.job,
        "attempt": ending.attempt,
        "operation": ending.operation,
        "outcome": "expired",
        "reason": REASON,
    }
    # An id of its own: the tenant may still erase the job, which is another event.
    told = books.signed(ending.job, events.SWAP_ERASED, data, REASON)
    return structs.replace(
        bared(ending),
        expired=events.now(),
        events=[events.as_dict(told)],
    )


def _requests(look: _Look, done: Retired) -> None:
    """Delete requests that never came to be accepted."""
    tenant, store = look.books.tenant, look.books.store
    for info in _old(REQUESTS, look.results_before, store):
        if look.over(done):
            return
        try:
            pinned = tenant.pinned(job_of_request(info.key))
        except InvalidRequest:
            continue  # nothing of ours
        if not _exists(pinned, store):
            _delete(info, store)


def _strays(look: _Look, done: Retired) -> None:
    """Delete outputs that no record counts: somebody died between two writes."""
    tenant, store = look.books.tenant, look.books.store
    for info in _old(RESULTS, look.results_before, store):
        if look.over(done):
            return
        job = info.key.removeprefix(RESULTS).partition("/")[0]
        try:
            if info.key != tenant.record(job) and not _exists(
                tenant.pinned(job), store
            ):
                _delete(info, store)
        except InvalidRequest:
            continue  # nothing of ours


def _uploads(look: _Look, done: Retired) -> None:
    """Delete uploads that nobody pins, once audit has been told how many."""
    store = look.books.store
    due: list[Info] = []
    for info in _old(UPLOADS, look.uploads_before, store):
        if info.key not in look.pins:
            due.append(info)
        if len(due) >= look.books.limits.sweep_jobs_max:
            done.more = True
            break
    # Again: jobs have come since the look began.
    needed = pins(look.books.tenant, store)
    due = [info for info in due if info.key not in needed]
    if not due:
        return
    _tell(len(due), look)
    for info in due:
        done.uploads += _delete(info, store)


def _tell(number: int, look: _Look) -> None:
    """Put on record that `number` uploads go.  Raises `Unavailable`: then none goes."""
    books = look.books
    data = {"reason": REASON, "uploads": number}
    event = books.signed(REASON, events.SWAP_ERASED, data, uuid.uuid4().hex)
    books.sink.deliver(event, timeout=books.limits.delivery_ms_max / 1000)


def _exists(key: Key, store: Store) -> bool:
    try:
        store.head(key)
    except NotFound:
        return False
    return True


def _delete(info: Info, store: Store) -> bool:
    """Delete exactly what was seen; return whether it was there."""
    try:
        store.delete_if_match(info.key, info.generation)
    except Changed:
        return False
    except Unavailable:  # the next look finds it again
        log.warning("%s is not deleted now", info.key, exc_info=True)
        return False
    return True


prepare()
