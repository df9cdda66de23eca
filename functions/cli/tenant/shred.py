"""What `guise tenant shred` does: a tenant's keys end, and with them what they open.

In this order, and each step may be cut off and repeated:

1. that it is shredded is on record, in the tenant's own log, with a receipt;
2. its spec says so: nobody who asks the roster serves it any more;
3. every version of its keys is destroyed, and a tombstone stays;
4. what audit keeps beside its log is deleted: salts, digests, the index of images;
5. the key that signed its events is destroyed; the log still verifies;
6. every object is asked for, and none opens.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from functions.cli.tenant.ending import bury, files_of, keys_of, refuse_active
from functions.cli.tenant.making import current, in_state, restated
from functions.cli.tenant.rotate import (
    enveloped,
    envelopes_of,
    folder_of,
    refuse_misfit,
)
from functions.cli.terminal import busy, counted, print_json, say
from functions.keys import events_key
from functions.problems import Conflict, Failed, InvalidRequest, Problem
from functions.tenant import OUTBOX, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from functions.cli.tenant.place import Place
    from functions.roster import Spec
    from functions.storage.encrypted import EncryptedStore
    from functions.tenant import Key

JOBS_AT_ONCE: Final = 5_000
"""Of how many audit forgets in one transaction."""


def shred(
    place: Place, name: str, *, database: str, yes: bool, force: bool = False
) -> None:
    """Destroy every key of a suspended tenant, for good.

    What a crash leaves, the same command does.  Raises `Conflict` for one that is
    active, of which a job is open (unless `force`), or whose data is under no key of
    ours, and `Failed` if anything still opens.
    """
    tenant = Tenant(name)
    with place.working(tenant):
        spec = current(place, tenant)
        refuse_active(spec)
        if spec.state == "deleted":
            raise Conflict(
                f"{tenant.id} is deleted, and with it the key that would sign the "
                "record of this: who is to be shredded is shredded first; what keys of "
                f"its objects there are in {place.envelopes} are yours to remove"
            )
        if not yes:
            raise InvalidRequest(
                f"this destroys the keys of {tenant.id}: nothing that lies encrypted "
                "under them opens ever again, here or in a backup of the store; its "
                "log and its bills stay: say --yes"
            )
        url = _database(place, database)
        store = _store(place, spec)
        lost = _record(place, tenant, store, force=force)
        keys = list(store.keys()) if store else []  # every one: it is served no more
        destroyed = envelopes_of(place, tenant).shred(tenant)
        jobs = _forget(url, tenant)
        place.key_provider().destroy(events_key(tenant.id))
        with busy("trying every object", quiet=place.json):
            tried, files = attempt(place, tenant, keys)
    if place.json:
        told: dict[str, object] = {"tenant": tenant.id, "state": "shredded"}
        told["keys"] = destroyed
        told |= {"jobs": jobs, "tried": tried, "files": files, "lost": lost}
        print_json({**told, "before": spec.state == "shredded"})
        return
    when = "was shredded before" if spec.state == "shredded" else "is shredded"
    say(f"{tenant.id} {when}: {counted(destroyed, 'key')} destroyed")
    if lost:
        say(f"{counted(lost, 'accepted job')} will never end, in no log and on no bill")
    private = f"audit forgot what it kept privately of {counted(jobs, 'job')}"
    say(f"{private}; the log still verifies")
    named = counted(tried, "object")
    say(f"tried: {named} by name and {counted(files, 'file')}: none opens")
    say("not promised: what an SSD, a snapshot or a backup of the key folder keeps")


def _store(place: Place, spec: Spec) -> EncryptedStore | None:
    """Return the tenant's store; None where the names in it open no more."""
    if envelopes_of(place, spec.tenant).is_shredded(spec.tenant):
        return None
    _, store = enveloped(place, spec.tenant)
    refuse_misfit(place, spec.tenant, store)
    return store


def _record(
    place: Place, tenant: Tenant, store: EncryptedStore | None, *, force: bool
) -> int:
    """Put a tenant's end on record, then in its spec, unless they are.

    Returns how many jobs are lost by it; raises `Conflict` where some are, and that
    is not meant.  Since the first look the tenant may have been resumed.
    """
    with place.changing(tenant):
        spec = current(place, tenant)
        refuse_active(spec)
        jobs = _open_jobs(store) if store else 0
        if spec.state == "suspended":  # else it was cut off, after it was meant
            if jobs and not force:
                raise Conflict(
                    f"{jobs} jobs of {tenant.id} are under way, or not told of yet: "
                    f"let the stack run, or `guise jobs sweep --tenant {tenant.id}`; "
                    "with --force they end nowhere, in no log and on no bill"
                )
            after = in_state(spec, "shredded")
            place.tell("shredded", after, spec)
            place.put(tenant, restated(place.path(tenant).read_bytes(), after))
        bury(place, current(place, tenant))
        return jobs


def _open_jobs(store: EncryptedStore) -> int:
    """Return how many jobs' endings are not told yet: to who asked, log and bill."""
    return sum(1 for _ in keys_of(store, OUTBOX))


def _database(place: Place, named: str) -> str:
    """Return the URL of the log's database, or raise `InvalidRequest`: it is needed."""
    url = named or os.environ.get("GUISE_DATABASE", "")
    if not (url or place.is_local):
        raise InvalidRequest("say --database: audit's, where sidecars lie")
    here = place.folder.database_url("audit")
    return place.chosen(url, None if place.places is None else here, here)


def _forget(url: str, tenant: Tenant) -> int:
    """Delete everything private that audit has of a tenant; return of how many jobs.

    By parts, with pauses as long as each took: in SQLite only one writes at a time,
    and who waits for it asks now and then.
    """
    from functions.audit import private
    from functions.audit.store import Store

    jobs = 0
    with closing(Store.open(url)) as store:
        some = JOBS_AT_ONCE
        while some == JOBS_AT_ONCE:
            began = time.monotonic()
            with store.clearing(tenant.id) as db:
                some = private.delete_first(db, tenant.id, JOBS_AT_ONCE)
            jobs += some
            time.sleep(time.monotonic() - began)
        with store.erasing(tenant.id) as db:
            return jobs + private.delete_all(db, tenant.id)


def attempt(place: Place, tenant: Tenant, keys: Iterable[Key]) -> tuple[int, int]:
    """Return how many objects, by name and by file, were tried; `Failed` if one opens.

    With keys and a store opened for it, which remember nothing of before.
    """
    from functions.storage.encrypted import EncryptedStore

    folder = folder_of(place, tenant)
    envelopes = envelopes_of(place, tenant)
    store = EncryptedStore(folder, tenant, envelopes)
    if folder.is_dir():
        store.sweep(0)
    tried = 0
    for key in keys:
        tried += 1
        if _opens(store, key):
            raise Failed(f"{key} still opens")
    files = 0
    for path in files_of(folder):
        files += 1
        if _may_open(store, path):
            raise Failed(f"{path} may still open")
    return tried, files


def _may_open(store: EncryptedStore, path: Path) -> bool:
    """Return whether a file's key is wrapped under one there is; `Failed` if bare."""
    from functions.storage.base import StoreDamaged

    with path.open("rb") as file:
        try:
            return store.may_open(file.fileno())
        except StoreDamaged as error:
            raise Failed(
                f"{path} is no envelope: it lies there as it is; remove it"
            ) from error


def _opens(store: EncryptedStore, key: Key) -> bool:
    try:
        with store.open(key) as stream:
            stream.read(1)
    except Problem:
        return False
    return True
