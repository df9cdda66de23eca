"""A cut of power while a key is wrapped anew loses no object.

Until it is told to (`fdatasync`), a kernel may write to the disk in any order, or not
at all: what is there after a cut is what was there at the last such call, and any of
the writes since.
"""

from __future__ import annotations

import os
import sys
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from functions.envelopes import Envelopes
from functions.storage.encrypted import EncryptedStore
from functions.storage.opaque import is_opaque
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ACME = Tenant("acme")
A = Key("uploads/a.jpg")


class Disk:
    """What may be on the disk of one file, told by the calls that were made of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.synced = self.seen = path.read_bytes()
        self.unsynced: list[tuple[int, bytes]] = []
        self.states = {self.synced}

    def told(self, _: Any, event: str, called: Any) -> None:
        """Be told of every call that ends, as a profiler is."""
        if event != "c_return":
            return
        if called in {os.fdatasync, os.fsync}:
            self.synced, self.unsynced = self.path.read_bytes(), []
        elif called is os.pwrite:
            now = self.path.read_bytes()
            self.unsynced.append(difference(self.seen, now))
            self.seen = now
        self.states |= set(self.after_a_cut())

    def after_a_cut(self) -> Iterator[bytes]:
        """Yield all that may be there if the power is cut now."""
        for count in range(len(self.unsynced) + 1):
            for some in combinations(self.unsynced, count):
                found = bytearray(self.synced)
                for at, data in some:
                    found[at : at + len(data)] = data
                yield bytes(found)


def difference(before: bytes, after: bytes) -> tuple[int, bytes]:
    """Return what one write changed, and where; the length stays."""
    assert len(before) == len(after)
    changed = [at for at in range(len(after)) if before[at] != after[at]]
    return changed[0], after[changed[0] : changed[-1] + 1]


def watched(disk: Disk, work: Callable[[], object]) -> None:
    """Work while the disk is told of every call into the system."""
    before = sys.getprofile()
    sys.setprofile(disk.told)
    try:
        work()
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("rotations", [1, 2])
def test_an_object_opens_whenever_the_power_is_cut(
    tmp_path: Path, rotations: int
) -> None:
    """Whichever writes came to the disk; once it is done, the new key is there alone.

    An odd rotation wraps the key into the second slot, an even one into the first.
    """
    envelopes = Envelopes(tmp_path / "keys")
    store = EncryptedStore(tmp_path / "acme", ACME, envelopes)
    store.put(A, b"a face")
    for _ in range(rotations - 1):
        envelopes.rotate(ACME)
        store.rewrap()
    found = (each for each in tmp_path.rglob("*") if is_opaque(each.name))
    (path,) = (each for each in found if each.is_file())
    newest = envelopes.rotate(ACME)
    disk = Disk(path)
    watched(disk, store.rewrap)
    assert len(disk.states) >= 3  # the old slot, both, the new one
    for state in disk.states:
        path.write_bytes(state)
        assert store.get(A).data == b"a face"
    assert disk.synced == disk.seen
    path.write_bytes(disk.synced)
    assert store.retire(newest) > 0
    assert store.get(A).data == b"a face"
