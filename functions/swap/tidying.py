"""What an ended job leaves behind, and its inputs once it is erased.

An input that another job needs stays: a job that has not ended pins what it was
given, whoever else was given the same.  Its own erasure, or retention, takes it then.
Every step may be cut off and repeated; the list of inputs goes last.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from functions.problems import Changed, InvalidRequest, NotFound, TooLarge
from functions.swap import intake, ledger, outbox
from functions.tenant import RESULTS, Key

if TYPE_CHECKING:
    from functions.storage import Store
    from functions.swap.intake import Pinned
    from functions.swap.ledger import Record
    from functions.tenant import Tenant


def tidy(ending: Record, *, tenant: Tenant, store: Store) -> None:
    """Delete what the ended job left and does not need; may be repeated.

    The outputs of attempts that do not count; what came along with a call that
    was refused; and of an erased or expired job everything but the record that says so.
    Of an erased one, what it was given goes too.
    """
    job = ending.job
    kept = {tenant.record(job)}
    if ending.output is not None:
        kept.add(Key(ending.output.key))
    for info in store.list(Key(f"{RESULTS}{job}/")).objects:
        if info.key not in kept:
            store.delete(info.key)
    if ending.outcome == ledger.ERASED:
        _forget_inputs(job, tenant, store)
    elif ending.outcome == ledger.REFUSED or ending.expired:
        forget_received(tenant, job, store)
    if ending.outcome == ledger.ERASED or ending.expired:
        store.delete(tenant.claim(job))
        store.delete(tenant.request(job))
        store.delete(tenant.webhook(job))
        store.delete(tenant.pinned(job))


def forget_received(tenant: Tenant, job: str, store: Store) -> None:
    """Delete the images that came along with the call for `job`."""
    for info in store.list(tenant.received_folder(job)).objects:
        store.delete(info.key)


def pins(tenant: Tenant, store: Store) -> frozenset[str]:
    """Return every input that a job of the tenant's still needs."""
    found: set[str] = set()
    for job, _ in outbox.pending(store):
        try:
            if ledger.record(tenant, job, store) is None:
                found.update(intake.load(tenant, job, store).inputs)
        except (NotFound, InvalidRequest, ledger.Broken):
            continue  # never accepted, no job's mark, or for the sweeper to end
    return frozenset(found)


def _forget_inputs(job: str, tenant: Tenant, store: Store) -> None:
    """Delete what an erased job was given, named by the tenant or sent along."""
    try:
        given = intake.load(tenant, job, store).inputs
    except (NotFound, ledger.Broken):  # gone already; nobody can tell what it was
        given = {}
    received = store.list(tenant.received_folder(job)).objects
    if not given and not received:
        return
    needed = pins(tenant, store)
    for key, pinned in given.items():
        if key not in needed:
            _delete(Key(key), pinned, store)
    for info in received:
        if info.key not in needed:
            store.delete(info.key)


def _delete(key: Key, pinned: Pinned, store: Store) -> None:
    """Delete an input if it is still what was pinned, and not another picture."""
    with suppress(NotFound, TooLarge, Changed):
        info = store.head(key)
        if info.generation != pinned.generation:
            # The same bytes written again are the same picture.
            data = store.get(key, bytes_max=pinned.size).data
            if hashlib.sha256(data).hexdigest() != pinned.sha256:
                return
        store.delete_if_match(key, info.generation)
