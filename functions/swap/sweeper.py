"""The sweeper: finishes what somebody who died had begun.

It goes by the marks in `outbox/`, which stand from a job's acceptance until its
events are delivered, so a tenant with nothing open costs one listing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from functions.problems import NotFound, Problem
from functions.swap import intake, ledger
from functions.swap.dispatch import requested

if TYPE_CHECKING:
    from functions.swap.journal import Books

log = logging.getLogger(__name__)

_ORPHAN_SECONDS = 3600


def sweep(books: Books) -> int:
    """Deliver and restart what is due for one tenant; return how many jobs were."""
    due = [job for job, age in ledger.pending(books.store) if _sweep(job, age, books)]
    return len(due)


def _sweep(job: str, age_seconds: float, books: Books) -> bool:
    try:
        return _finish(job, age_seconds, books)
    except Problem:
        log.exception("sweeping %s of %s", job, books.tenant.id)  # the next may do
        return False


def _finish(job: str, age_seconds: float, books: Books) -> bool:
    ending = ledger.record(books.tenant, job, books.store)
    if ending is not None:
        ledger.tidy(ending, tenant=books.tenant, store=books.store)
        return books.deliver(ending)
    if age_seconds < books.limits.claim_seconds:
        return False  # whoever accepted it is about to start it
    try:
        intake.load(books.tenant, job, books.store)
    except NotFound:
        if age_seconds > _ORPHAN_SECONDS:  # never came to be accepted
            ledger.forget_received(books.tenant, job, books.store)
            books.store.delete(books.tenant.outbox(job))
        return False
    if ledger.held(books.tenant, job, books.store, books.limits):
        return False
    # The mark made new: the job is asked for once a claim's time, however long the
    # queue before the worker is.
    ledger.mark(books.tenant, job, books.store)
    # A new id each time: a broker that dropped the first must not drop this one.
    event = requested(job, books, str(time.time_ns()))
    books.sink.deliver(event, timeout=books.limits.delivery_ms_max / 1000)
    return True
