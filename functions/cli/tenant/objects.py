"""What `guise tenant put`, `get` and `ls` do."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, BinaryIO, Final

from functions.cli.tenant.making import current
from functions.cli.terminal import busy, harmless, print_json, say
from functions.problems import Conflict, InvalidRequest
from functions.storage.base import PIECE_BYTES
from functions.tenant import (
    CONSENTS,
    GATE,
    KEY_BYTES_MAX,
    REQUESTS,
    RETENTION,
    UPLOADS,
    WEBHOOKS,
    Key,
    Tenant,
    job_of_request,
)

if TYPE_CHECKING:
    from pathlib import Path

    from functions.cli.tenant.place import Place
    from functions.storage import Store

_POLICIES: Final = (GATE, RETENTION, WEBHOOKS)


def put(place: Place, name: str, source: Path, text: str) -> None:
    """Write what a file holds as an object that a tenant itself may write.

    Raises `InvalidRequest` for any other: those are Guise's own, and some signed.
    """
    tenant = Tenant(name)
    key = _tenants_own(tenant, text)
    store = _store(place, tenant)
    with source.open("rb") as stream, busy("writing", quiet=place.json):
        generation = store.put_from(key, stream)
        size = stream.tell()
    if place.json:
        told = {"tenant": tenant.id, "key": key, "bytes": size}
        print_json({**told, "generation": str(generation)})
    else:
        say(f"{harmless(key, KEY_BYTES_MAX)} of {tenant.id}: {size} bytes")


def get(place: Place, name: str, text: str, out: Path | None) -> None:
    """Write an object to standard output, or as a file of its owner's alone.

    The file is there once the object is whole.
    """
    tenant = Tenant(name)
    with _store(place, tenant).open(Key(text)) as stream:
        if out is None:
            shutil.copyfileobj(stream, sys.stdout.buffer, PIECE_BYTES)
            sys.stdout.buffer.flush()
        else:
            _save(stream, out)


def ls(place: Place, name: str, prefix: str) -> None:
    """Print how large each object is, and what it is called, in order."""
    store, cursor = _store(place, Tenant(name)), ""
    while True:
        page = store.list(Key(prefix), cursor=cursor)
        for info in page.objects:
            if place.json:
                print_json({"key": info.key, "bytes": info.size})
            else:
                say(f"{info.size:>12} {harmless(info.key, KEY_BYTES_MAX)}")
        cursor = page.cursor
        if not cursor:
            return


def _store(place: Place, tenant: Tenant) -> Store:
    """Return the store of a tenant that there is still, or raise `Conflict`."""
    spec = current(place, tenant)
    if not spec.living:
        raise Conflict(f"{tenant.id} is {spec.state}: nothing of it is read or written")
    return place.stores(tenant).of(tenant)


def _tenants_own(tenant: Tenant, text: str) -> Key:
    if text.startswith(UPLOADS):
        return tenant.upload(text)
    if text.startswith(CONSENTS):
        return tenant.consent(text)
    if text.startswith(REQUESTS):
        return tenant.request(job_of_request(text))
    if text in _POLICIES:
        return Key(text)
    raise InvalidRequest(
        f"a tenant writes {UPLOADS}…, {CONSENTS}…, {REQUESTS}<job>.json, "
        f"{', '.join(_POLICIES)}; the rest is for Guise to write"
    )


def _save(stream: BinaryIO, out: Path) -> None:
    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
            shutil.copyfileobj(stream, file, PIECE_BYTES)
        fresh.replace(out)
    finally:
        fresh.unlink(missing_ok=True)
