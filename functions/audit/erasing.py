"""Erasing what is private of a job, and the signed statement that it was done.

The log stays as it is: without the salt its commitments say nothing about any image.
In this order, and each step may be cut off and repeated:

1. an entry says that the job is erased: the tenant's own, or one of audit's;
2. in one transaction record key, sidecars and index rows go, and the statement comes;
3. the database's files keep nothing of them, as far as that is ours to say.

Only then is the statement answered; asked again, the same one is.  Whoever commits
an entry looks for the statement first, under the same lock, and adds nothing to a
job that has one.

A job that only expired in the tenant's store is not erased, and can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions import events
from functions.audit import private
from functions.audit.bundle import SIGNING_KEY
from functions.audit.leaf import ERASURES, erased
from functions.audit.notes import parse_origin
from functions.audit.tiles import origin, sign_note
from functions.problems import NotFound

if TYPE_CHECKING:
    from functions.audit.log import Log
    from functions.audit.store import Store
    from functions.keys import KeyProvider

STATEMENT: Final = "guise erasure statement v1"


def erase(log: Log, keys: KeyProvider, tenant: str, job: str, *, actor: str) -> str:
    """Erase what is private of a job, for ever; return the signed statement.

    `actor` is who asks, for the entry of audit's own.  Raises `NotFound` where the
    log knows no such job, and `Unavailable`: then it is to be asked for again.
    """
    place = _recorded(log.store, tenant, job) or _record(log, tenant, job, actor)
    with log.store.erasing(tenant) as db:
        text = private.statement(db, tenant, job)
        private.delete(db, tenant, job)
        if not text:
            now = events.now()
            text = _signed(tenant, job, now, place, keys)
            private.state(db, tenant, job, events.milliseconds(now), text)
    return text


def _recorded(store: Store, tenant: str, job: str) -> tuple[int, int] | None:
    """Return the epoch and index of the entry that says it, if there is one.

    Raises `NotFound` for a job that the log does not know.
    """
    with store.reading(tenant) as db:
        found = private.lines(db, tenant, job, ERASURES)
        known = private.is_known(db, tenant, job)
        text = private.statement(db, tenant, job)
    for line in found:
        if line.erases():
            return line.epoch, line.index
    if text:  # its entries' time was over
        return _place(text)
    if not known:
        raise NotFound("the log knows no such job")
    return None


def _record(log: Log, tenant: str, job: str, actor: str) -> tuple[int, int]:
    receipt = log.append(erased(tenant, job, actor)).receipt
    _, epoch = parse_origin(receipt.checkpoint.partition("\n")[0])
    return epoch, receipt.index


def _place(text: str) -> tuple[int, int]:
    _, name, _, _, entry, *_ = text.split("\n")
    return parse_origin(name)[1], int(entry.removeprefix("entry "))


def _signed(
    tenant: str, job: str, now: str, place: tuple[int, int], keys: KeyProvider
) -> str:
    epoch, index = place
    name = origin(tenant, epoch)
    text = f"{STATEMENT}\n{name}\njob {job}\nat {now}\nentry {index}\n"
    return sign_note(text, name, keys.signer(SIGNING_KEY))
