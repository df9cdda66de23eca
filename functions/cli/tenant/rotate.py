"""What `guise tenant rotate` and `envelop` do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.cli.tenant.making import current
from functions.cli.terminal import busy, counted, print_json, say
from functions.problems import Conflict, Failed
from functions.tenant import OUTBOX, Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from functions.cli.tenant.place import Place
    from functions.envelopes import Envelopes
    from functions.storage.encrypted import EncryptedStore
    from functions.tenant import Key


def rotate(place: Place, name: str, *, destroy_old: bool) -> None:
    """Wrap every object's key under a new version of the tenant's.

    What a crash cuts off, the same command does again; a tenant that is suspended
    meanwhile keeps its keys, and this goes on.  Raises `Failed` where an object does
    not open: then no version is destroyed.
    """
    tenant = Tenant(name)
    with place.working(tenant):
        current(place, tenant)
        envelopes, store = enveloped(place, tenant)
        with busy("wrapping keys anew", quiet=place.json):
            newest = envelopes.rotate(tenant)
            found = store.rewrap()
        if found.damaged:
            raise Failed(
                f"{len(found.damaged)} do not open, first {found.damaged[0]!r}; "
                f"{found.done} are under version {newest}; no version is destroyed"
            )
        destroyed = store.retire(newest) if destroy_old else 0
        kept = envelopes.versions(tenant)[:-1]
    if place.json:
        told = {"tenant": tenant.id, "version": newest, "objects": found.done}
        print_json({**told, "destroyed": destroyed, "kept": kept})
        return
    objects = counted(found.done, "object")
    say(f"under version {newest} of the key of {tenant.id}: {objects}")
    if destroyed:
        older = counted(destroyed, "older version")
        say(f"destroyed: {older}; backups made under them do not open")
    if kept:
        say("older versions are kept, for backups; --destroy-old destroys them")


def envelop(place: Place, name: str) -> None:
    """Encrypt each object that lies in the tenant's folder as it is, then remove it.

    Cut off, it goes on where it was: an object is removed once its encrypted one is
    durable.  What was removed an SSD or a backup may keep.
    """
    from functions.storage.file import FileStore
    from functions.storage.resting import bare_keys

    tenant = Tenant(name)
    with place.working(tenant):
        current(place, tenant)
        folder = folder_of(place, tenant)
        store = _store(place, tenant, folder)
        bare = FileStore(folder)
        with busy("encrypting", quiet=place.json):
            _refuse_open(tenant, list(bare_keys(folder)))
            bare.sweep(0)  # half an object that a killed writer left lies open, too
            objects = 0
            # Who began before the spec said so may still bring one, as it is.
            while keys := list(bare_keys(folder)):
                for key in keys:
                    with bare.open(key) as stream:
                        store.put_from(key, stream)
                    bare.delete(key)
                    objects += 1
                bare.sweep(0)
    if place.json:
        print_json({"tenant": tenant.id, "objects": objects})
    else:
        say(f"encrypted: {counted(objects, 'object')} of {tenant.id}")


def _refuse_open(tenant: Tenant, keys: Sequence[Key]) -> None:
    """Raise `Conflict` if a job is open: its inputs are pinned as they are."""
    jobs = sum(key.startswith(OUTBOX) for key in keys)
    if jobs:
        raise Conflict(f"{jobs} jobs of {tenant.id} are under way, or not told of yet")


def enveloped(place: Place, tenant: Tenant) -> tuple[Envelopes, EncryptedStore]:
    """Return the tenant's keys and store, or raise `Conflict` where it has none."""
    from functions.storage.encrypted import EncryptedStore

    store = place.stores(tenant).of(tenant)
    if not isinstance(store, EncryptedStore):
        raise Conflict(_why_bare(place, tenant))
    return envelopes_of(place, tenant), store


def _why_bare(place: Place, tenant: Tenant) -> str:
    """Return why a tenant has no key of ours, and what to do, in words."""
    from functions.storage import locate

    if locate.folder_of(place.store_of(tenant)) is None:
        return (
            f"the data of {tenant.id} lies in a bucket, and no key of it is ours: "
            "rotate or destroy the bucket's own key, in its KMS"
        )
    return (
        f"the data of {tenant.id} is not encrypted by us (its isolation.data is 0), so "
        "there is no key to rotate or destroy. To have one: "
        f"`guise tenant edit {tenant.id} --set isolation.data=1`, then "
        f"`guise tenant envelop {tenant.id}`"
    )


def refuse_misfit(place: Place, tenant: Tenant, store: EncryptedStore) -> None:
    """Raise `Conflict` where keys and objects are not of each other.

    What is destroyed would be somewhere else than what it was to open.
    """
    if not envelopes_of(place, tenant).versions(tenant):
        raise Conflict(
            f"there are no keys of {tenant.id} in {place.envelopes}: set "
            "GUISE_ENVELOPES to where they lie"
        )
    if stranger := store.stranger():
        raise Conflict(
            f"the keys of {tenant.id} in {place.envelopes} have no name for "
            f"{stranger}: it lies under others, or is none of {tenant.id}'s"
        )


def envelopes_of(place: Place, tenant: Tenant) -> Envelopes:
    """Return the keys as they are on the disk, nothing of them remembered."""
    from functions.envelopes import open_envelopes

    if not place.envelopes:
        raise Conflict("GUISE_ENVELOPES names no keys")
    return open_envelopes(place.envelopes, pinned=tenant)


def folder_of(place: Place, tenant: Tenant) -> Path:
    """Return the folder of the tenant's store, or raise `Conflict` if it is none."""
    from functions.storage import locate

    folder = locate.folder_of(place.store_of(tenant))
    if folder is None:
        raise Conflict(f"the data of {tenant.id} lies in no folder")
    return folder


def _store(place: Place, tenant: Tenant, folder: Path) -> EncryptedStore:
    from functions.storage.encrypted import EncryptedStore

    envelopes = envelopes_of(place, tenant)
    if not place.roster().read(tenant).isolation.data:
        raise Conflict(
            f"isolation.data of {tenant.id} is 0: "
            f"`guise tenant edit {tenant.id} --set isolation.data=1` first"
        )
    return EncryptedStore(folder, tenant, envelopes)
