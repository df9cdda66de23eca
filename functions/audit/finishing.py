"""Erasures that whoever began them did not end: killed after the entry, say.

The entry says that the job is erased, and its private rows are there still.  Who asked
may never ask again.  So a function that starts looks at the newest entries of each log
for such jobs, a moment later, when nobody waits for it, and erases them.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from functions.problems import Problem

if TYPE_CHECKING:
    from functions.audit.log import Log
    from functions.keys import KeyProvider

logger = logging.getLogger(__name__)

ENTRIES: Final = 10_000
"""How far back it looks in each log: past all that a day brings but to the busiest."""
_LATER_SECONDS: Final = 5.0
"""After the first request, which a cold function was started for."""


def begin(log: Log, keys: KeyProvider, *, after: float = _LATER_SECONDS) -> None:
    """Have `finish` done on a thread, `after` so many seconds."""
    timer = threading.Timer(after, _quietly, (log, keys))
    timer.daemon = True
    timer.start()


def _quietly(log: Log, keys: KeyProvider) -> None:
    try:
        finish(log, keys)
    except Exception:  # the next start looks again
        logger.exception("looking for erasures that were cut off")


def finish(log: Log, keys: KeyProvider) -> int:
    """Erase what is private of every such job; return how many there were.

    Raises `Unavailable` without the database.
    """
    from functions.audit import private

    with log.store.committing() as db:
        tenants = private.tenants(db)
    done = 0
    for tenant in tenants:
        with log.store.searching(tenant) as db:
            jobs = private.begun(db, tenant, ENTRIES)
        for job in jobs:
            done += _erased(log, keys, tenant, job)
    return done


def _erased(log: Log, keys: KeyProvider, tenant: str, job: str) -> bool:
    from functions.audit.erasing import erase

    try:
        erase(log, keys, tenant, job, actor="")
    except Problem:  # the others have their turn
        logger.exception("an erasure of %s is not finished", tenant)
        return False
    logger.warning("%s of %s: its erasure was cut off, and is finished", job, tenant)
    return True
