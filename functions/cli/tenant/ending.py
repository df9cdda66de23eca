"""What `guise tenant suspend`, `resume` and `delete` do."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.cli.tenant.making import current, in_state, restated
from functions.cli.tenant.rotate import envelopes_of, refuse_misfit
from functions.cli.terminal import busy, counted, print_json, say
from functions.keys import events_key
from functions.problems import Conflict, InvalidRequest, NotFound
from functions.tenant import OUTBOX, Key, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functions.cli.tenant.place import Place
    from functions.roster import Change, Spec
    from functions.roster.spec import State
    from functions.storage import Store

EVERYTHING: Final = Key("")
_PASSES_MAX: Final = 10


def suspend(place: Place, name: str) -> None:
    """Let nothing new begin; what there is can be read, erased and billed."""
    _turn(place, Tenant(name), "active", "suspended", "suspended")


def resume(place: Place, name: str) -> None:
    """Let new things begin again."""
    _turn(place, Tenant(name), "suspended", "active", "resumed")


def delete(place: Place, name: str, *, yes: bool) -> None:
    """Delete everything of a suspended tenant but its log and its bills, for good.

    What a crash leaves, the same command deletes; so what a shredded one left, which
    nobody can read.  The keys of its objects are for `shred` to destroy.  Raises
    `Conflict` for one that is active, or of which a job is under way or not yet told.
    """
    tenant = Tenant(name)
    with place.working(tenant):
        spec = current(place, tenant)
        refuse_active(spec)
        store = _store(place, spec)
        kept = _keys_kept(place, tenant, store)
        stays = _stays(place, spec, kept)
        if not yes:
            raise InvalidRequest(
                f"this deletes {_taken(tenant, store)}, for good; {stays}: say --yes"
                + (", or first `guise tenant shred`, which ends them" if kept else "")
            )
        before = spec.state == "deleted" or place.is_cleared(tenant)
        _end(place, tenant, store)
        with busy("deleting", quiet=place.json):
            objects = empty(store) if store else 0
            files = _clear_folder(place, tenant, everything=store is None)
        place.key_provider().destroy(events_key(tenant.id))
        if store is None and not before:
            place.mark_cleared(tenant)
    if place.json:
        state = spec.state if store is None else "deleted"
        told = {"tenant": tenant.id, "state": state, "objects": objects}
        print_json({**told, "files": files, "before": before, "keys_kept": kept})
        return
    when = "was deleted before" if before else "is deleted"
    if store is None:
        went = f"{counted(files, 'file')} that no key opens"
    else:
        went = f"{counted(objects, 'object')}, and the key of its events"
    say(f"{tenant.id} {when}: {went}")
    say(f"{stays}; nobody is ever called so again")


def _taken(tenant: Tenant, store: Store | None) -> str:
    """Return what a deletion takes, in words."""
    if store is None:
        return f"the files of {tenant.id}, which no key opens"
    return f"every object of {tenant.id}, and the key that signs its events"


def _keys_kept(place: Place, tenant: Tenant, store: Store | None) -> list[int]:
    """Return the versions of the key that the tenant's objects lie under."""
    from functions.storage.encrypted import EncryptedStore

    encrypted = isinstance(store, EncryptedStore)
    return envelopes_of(place, tenant).versions(tenant) if encrypted else []


def _stays(place: Place, spec: Spec, kept: Sequence[int]) -> str:
    """Return what a deletion does not take, in words."""
    if spec.state == "shredded":
        return "its log and its bills stay"
    text = "its log, its bills and what audit keeps privately of its jobs stay"
    if kept:
        text += (
            f"; so do the keys of its objects, in {place.envelopes}: a backup of its "
            "store opens with them"
        )
    return text


def refuse_active(spec: Spec) -> None:
    """Raise `Conflict` for a tenant that is to be suspended before it ends."""
    if spec.state == "active":
        raise Conflict(f"{spec.id} is active: suspend it first")


def _end(place: Place, tenant: Tenant, store: Store | None) -> None:
    """Put it on record that a tenant is deleted, and in its spec, unless they are.

    Between the first look and this it may have been resumed, and have begun a job.
    """
    with place.changing(tenant):
        spec = current(place, tenant)
        refuse_active(spec)
        if spec.state == "suspended" and store:
            _refuse_open(tenant, store)
            _state(place, spec, "deleted", "deleted")
        bury(place, current(place, tenant))


def bury(place: Place, spec: Spec) -> None:
    """Have file and tombstone say that a tenant has ended, as is on record."""
    path = place.path(spec.tenant)
    if place.roster().read(spec.tenant) != spec:  # it was put back
        place.put(spec.tenant, restated(path.read_bytes(), spec))
    place.entomb(spec)


def _store(place: Place, spec: Spec) -> Store | None:
    """Return the tenant's store, in which nothing is open; None for a shredded one's.

    Not even the names in that one can be read: it goes as a folder.  Raises `Conflict`
    while its keys are not destroyed, or are not those of its objects.
    """
    from functions.storage.encrypted import EncryptedStore

    tenant = spec.tenant
    if spec.state == "shredded":
        ring = envelopes_of(place, tenant)
        # The last that is destroyed, once audit has forgotten what it kept.
        signing = events_key(tenant.id)
        if ring.is_ended(tenant) and place.key_provider().is_destroyed(signing):
            return None
        raise Conflict(
            f"{tenant.id} is shredded, but for what was cut off: "
            f"`guise tenant shred {tenant.id} --yes` first"
        )
    store = place.stores(tenant).of(tenant)
    if spec.state == "suspended":  # else what lies there belongs to no job any more
        _refuse_open(tenant, store)
    if isinstance(store, EncryptedStore) and (
        spec.state == "suspended" or envelopes_of(place, tenant).versions(tenant)
    ):  # else it was deleted, and somebody has removed the ring since
        refuse_misfit(place, tenant, store)
    return store


def _turn(place: Place, tenant: Tenant, was: State, state: State, done: Change) -> None:
    with place.changing(tenant):
        spec = current(place, tenant)
        if spec.state != was:
            raise Conflict(f"{tenant.id} is {spec.state}, and not {was}")
        entry = _state(place, spec, state, done)
    if place.json:
        print_json({"tenant": tenant.id, "state": state, "entry": entry})
    else:
        say(f"{tenant.id} is {state}; entry {entry} of its log")


def _state(place: Place, spec: Spec, state: State, change: Change) -> int:
    """Put a tenant into a state once that is on record; return the log's entry."""
    after = in_state(spec, state)
    receipt = place.tell(change, after, spec)
    text = place.path(spec.tenant).read_bytes()
    place.put(spec.tenant, restated(text, after))
    return receipt.index


def _refuse_open(tenant: Tenant, store: Store) -> None:
    page = store.list(OUTBOX)
    if page.objects:
        many = f"{len(page.objects)}{' or more' if page.cursor else ''}"
        raise Conflict(
            f"{many} jobs of {tenant.id} are under way, or not told of yet: "
            f"let the stack run, or `guise jobs sweep --tenant {tenant.id}`"
        )


def empty(store: Store) -> int:
    """Delete every object; return how many there were."""
    deleted = 0
    for _ in range(_PASSES_MAX):
        keys = list(keys_of(store))
        if not keys:
            return deleted
        for key in keys:
            try:
                store.delete(key)
            except NotFound:
                continue  # somebody else's last act
            deleted += 1
    raise Conflict("somebody writes into the store all the time: nothing is finished")


def keys_of(store: Store, prefix: Key = EVERYTHING) -> Iterator[Key]:
    """Yield the key of every object under `prefix`."""
    cursor = ""
    while True:
        page = store.list(prefix, cursor=cursor)
        yield from (info.key for info in page.objects)
        cursor = page.cursor
        if not cursor:
            return


def files_of(folder: Path) -> Iterator[Path]:
    """Yield every file of a store but its own locks, which are empty."""
    from functions.storage.file import LOCKS

    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names):
            status = path.lstat()
            lock = path.parent == folder / LOCKS and not status.st_size
            if stat.S_ISREG(status.st_mode) and not lock:
                yield path


def _clear_folder(place: Place, tenant: Tenant, *, everything: bool) -> int:
    """Remove what a file store keeps beside objects: folders, marks, half a write.

    With `everything` the objects too, as files; returns how many files that were.
    """
    from functions.storage.file import FileStore
    from functions.storage.locate import folder_of, is_template

    folder = folder_of(place.store_of(tenant))
    if folder is None or not folder.exists():
        return 0
    files = sum(1 for _ in files_of(folder)) if everything else 0
    if is_template(place.store_url()):
        shutil.rmtree(folder)
    elif everything:
        _clear(folder)  # which is not ours to remove
    else:
        FileStore(folder).sweep(0)
    return files


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
