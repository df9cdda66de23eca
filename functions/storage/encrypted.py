"""A store in a folder that tells whoever has the disk alone nothing of its objects.

Each object is encrypted under a key of its own, which is wrapped under the tenant's
(see `envelope`, `sealing`), and called by a name that is encrypted (see `opaque`).
All is bound to the tenant and the key: an object copied to another place does not
open there.  What the disk still shows: how many objects there are in how many
folders, how large each is, when it was written, and how long its name is, in 32s.
That an older state of the same object is put in its place, it does not show either.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final

from functions.envelopes import KeyMissing
from functions.problems import Changed, Gone, NotFound, TooLarge, Unavailable
from functions.storage.base import (
    Info,
    Object,
    Page,
    StoreDamaged,
    StoreDenied,
    pieces,
)
from functions.storage.envelope import (
    EMPTY,
    HEADER_BYTES,
    Header,
    Wrapping,
    rewrapped,
)
from functions.storage.file import FileStore
from functions.storage.opaque import Opaque, files_in, is_opaque
from functions.storage.sealing import new_key, opened, plain_bytes, sealed
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from functions.envelopes import Envelopes
    from functions.tenant import Tenant

log = logging.getLogger(__name__)

_BLANK: Final = bytes(HEADER_BYTES)
_LOOKS: Final = 2


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What became of a tenant's objects: how many are under the newest key."""

    done: int
    already: int
    damaged: tuple[Key, ...]


class EncryptedStore:
    """A `Store` of `tenant` in the folder `root`, under the keys of `envelopes`."""

    def __init__(self, root: Path, tenant: Tenant, envelopes: Envelopes) -> None:
        self._root = root
        self._tenant = tenant
        self._envelopes = envelopes
        self._files = FileStore(root, layout=Opaque(self._names))

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        """Return the object, or raise `NotFound` or `TooLarge`."""
        with self._opened(key) as (stream, info):
            if bytes_max is not None and info.size > bytes_max:
                raise TooLarge(f"{key} is over {bytes_max} bytes")
            return Object(stream.read(), info.generation)

    @contextmanager
    def open(self, key: Key) -> Iterator[BinaryIO]:
        """Yield a stream of the object's bytes, or raise `NotFound`."""
        with self._opened(key) as (stream, _):
            yield stream

    def head(self, key: Key) -> Info:
        """Return what is known of the object, or raise `NotFound`."""
        return _plain(self._files.head(key))

    def put(self, key: Key, data: bytes) -> int:
        """Write the object whatever was there."""
        return self._write(key, (data,), expected=None)

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Write the object if there is none, or raise `Changed`."""
        return self._write(key, (data,), expected=0)

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        """Write over exactly `generation`, or raise `Changed`."""
        return self._write(key, (data,), expected=generation)

    def put_from(
        self,
        key: Key,
        stream: BinaryIO,
        *,
        bytes_max: int | None = None,
        generation: int | None = None,
    ) -> int:
        """Write all that `stream` gives as one object."""
        found = pieces(key, stream, bytes_max)
        return self._write(key, found, expected=generation)

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""
        with suppress(NotFound):
            self._files.delete(key)

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`."""
        try:
            self._files.delete_if_match(key, generation)
        except NotFound as error:  # there is no ring, hence nothing
            if generation:
                raise Changed(internal=f"{key} is gone") from error

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        page = self._files.list(prefix, cursor=cursor, limit=limit)
        return Page(tuple(map(_plain, page.objects)), page.cursor)

    def sweep(self, seconds: float | None = None) -> int:
        """Delete what a crash left in the temporary folder; see `FileStore.sweep`."""
        return self._files.sweep() if seconds is None else self._files.sweep(seconds)

    def rewrap(self) -> Rewrapped:
        """Wrap every object's key under the newest version of the tenant's.

        No object is rewritten: of each, some hundred bytes of its header are.  Cut
        off at any point, every object opens, and to do it again does the rest.
        """
        done, already, damaged = 0, 0, []
        for key in self.keys():
            try:
                if self._rewrap(key):
                    done += 1
                else:
                    already += 1
            except NotFound:  # deleted, while we were looking
                continue
            except StoreDamaged:
                log.exception("an object of %s does not open", self._tenant.id)
                damaged.append(key)
        return Rewrapped(done, already, tuple(damaged))

    def retire(self, newest: int) -> int:
        """Destroy every version of the tenant's key before `newest`; return how many.

        For who has rewrapped every object under `newest`, or a newer one.
        """
        older = [v for v in self._envelopes.versions(self._tenant) if v < newest]
        for version in older:
            self._envelopes.retire(self._tenant, version)
        return len(older)

    def keys(self) -> Iterator[Key]:
        """Yield every object's key, in order."""
        cursor = ""
        while True:
            page = self._files.list(Key(""), cursor=cursor)
            yield from (info.key for info in page.objects)
            cursor = page.cursor
            if not cursor:
                return

    def stranger(self) -> Path | None:
        """Return an object's file that these keys have no name for, if there is one."""
        layout = Opaque(self._names)
        found = list(files_in(self._root))  # before the names: what comes later is not
        named = {self._root.joinpath(*layout.parts(key)) for key in self.keys()}
        strangers = (each for each in found if each not in named and each.exists())
        return next(strangers, None)

    def may_open(self, file: int) -> bool:
        """Return whether there is a key that an open file's own key is wrapped under.

        Whatever the object's key is: for who cannot read the names any more.
        """
        header = Header.parse(_start(Key("-"), file), "a file")
        return any(slot.holds and self._has(slot.version) for slot in header.slots)

    def _has(self, version: int) -> bool:
        try:
            self._key(version)
        except (Gone, KeyMissing):
            return False
        return True

    def _rewrap(self, key: Key) -> bool:
        """Return whether the object's key was under an older version."""
        with (
            self._envelopes.writing(self._tenant) as kek,
            self._files.amending(key) as file,
        ):
            header, used, data_key = self._unwrapped(key, file)
            slot, spare = header.slots[used], header.slots[1 - used]
            if slot.version == kek.version and spare == EMPTY:
                return False
            if slot.version != kek.version:
                slot = self._wrapping(key).wrap(kek, data_key, header.time_ns)
            rewrapped(file, used, slot)
            return True

    @contextmanager
    def _opened(self, key: Key) -> Iterator[tuple[BinaryIO, Info]]:
        with self._files.reading(key) as (file, info):
            _, _, data_key = self._unwrapped(key, file.fileno())
            file.seek(HEADER_BYTES)
            bound = self._wrapping(key).object
            with opened(data_key, file, bound, key) as stream:
                yield stream, _plain(info)

    def _unwrapped(self, key: Key, file: int) -> tuple[Header, int, bytes]:
        """Return an open file's header, the slot that opens, and the data key in it.

        Who looks while the key is wrapped anew may see neither slot whole, once.
        """
        why: KeyMissing | None = None
        for _ in range(_LOOKS):
            header = Header.parse(_start(key, file), key)
            try:
                found = self._wrapping(key).unwrap(header, self._key)
            except KeyMissing as error:
                why = error
                continue
            if found is not None:
                return header, *found
        raise StoreDamaged(internal=f"{key}: its key does not open: {why}") from why

    def _write(self, key: Key, found: Iterable[bytes], *, expected: int | None) -> int:
        self._make_ring()
        wrapping, data_key = self._wrapping(key), new_key()
        body = sealed(data_key, found, wrapping.object)
        with self._envelopes.writing(self._tenant) as kek:

            def stamp(file: int, time_ns: int) -> None:
                slot = wrapping.wrap(kek, data_key, time_ns)
                os.pwrite(file, Header(time_ns, (slot, EMPTY)).pack(), 0)

            return self._files.write(
                key, chain((_BLANK,), body), expected=expected, stamp=stamp
            )

    def _wrapping(self, key: Key) -> Wrapping:
        return Wrapping(self._tenant.id, key)

    def _key(self, version: int) -> bytes:
        return self._envelopes.key(self._tenant, version)

    def _names(self) -> bytes:
        """Return the key of the names; `NotFound` where nothing was ever written."""
        try:
            return self._envelopes.names(self._tenant)
        except KeyMissing as error:
            self._refuse_orphans()
            raise NotFound("nothing was ever written here") from error

    def _make_ring(self) -> None:
        """Make the tenant's keys before the first object; never behind one."""
        if not self._envelopes.versions(self._tenant):
            self._refuse_orphans()
            self._envelopes.make(self._tenant)

    def _refuse_orphans(self) -> None:
        """Raise `StoreDenied` if there are objects: the keys are elsewhere, or lost."""
        with suppress(FileNotFoundError):
            if any(is_opaque(each.name) for each in self._root.iterdir()):
                raise StoreDenied(
                    internal=f"{self._root} holds objects of {self._tenant.id}, and "
                    "there are no keys for them: is GUISE_ENVELOPES another folder?"
                )


def _start(key: Key, file: int) -> bytes:
    try:
        return os.pread(file, HEADER_BYTES, 0)
    except OSError as error:
        raise Unavailable(internal=f"{key}: {error}") from error


def _plain(info: Info) -> Info:
    return replace(info, size=plain_bytes(info.size - HEADER_BYTES))
