"""To rotate a tenant's key rewrites no object, loses none, and may end at any line."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functions.envelopes import Envelopes
from functions.problems import NotFound
from functions.storage.base import StoreDamaged
from functions.storage.encrypted import EncryptedStore
from functions.storage.envelope import (
    EMPTY,
    HEADER_BYTES,
    SLOT_BYTES,
    TORN,
    Header,
    Slot,
    offset,
)
from functions.storage.opaque import is_opaque
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

ACME = Tenant("acme")
A = Key("uploads/a.jpg")
OBJECTS = 60
KILLS = 25

ROTATE = """
import sys
from pathlib import Path
from functions.envelopes import Envelopes
from functions.storage.encrypted import EncryptedStore
from functions.tenant import Tenant
root, acme = Path(sys.argv[1]), Tenant("acme")
envelopes = Envelopes(root / "keys")
store = EncryptedStore(root / "acme", acme, envelopes)
print("ready", flush=True)
while True:
    newest = envelopes.rotate(acme)
    found = store.rewrap()
    assert not found.damaged, found
    store.retire(newest)
    print(newest, flush=True)
"""

WRITE = """
import sys
from pathlib import Path
from functions.envelopes import Envelopes
from functions.storage.encrypted import EncryptedStore
from functions.tenant import Key, Tenant
root = Path(sys.argv[1])
store = EncryptedStore(root / "acme", Tenant("acme"), Envelopes(root / "keys"))
print("ready", flush=True)
number = 0
while True:
    number += 1
    store.put(Key(f"jobs/{number % 20}"), b"%d" % number * 1000)
"""


@pytest.fixture
def envelopes(tmp_path: Path) -> Envelopes:
    return Envelopes(tmp_path / "keys")


@pytest.fixture
def store(tmp_path: Path, envelopes: Envelopes) -> EncryptedStore:
    return EncryptedStore(tmp_path / "acme", ACME, envelopes)


def files(root: Path) -> Iterator[Path]:
    for place, _, names in os.walk(root / "acme"):
        yield from (Path(place, name) for name in names if is_opaque(name))


def header(path: Path) -> Header:
    return Header.parse(path.read_bytes()[:HEADER_BYTES], path.name)


def versions(root: Path) -> set[int]:
    """Return every version that any object's key is wrapped under."""
    slots = (slot for path in files(root) for slot in header(path).slots)
    return {slot.version for slot in slots if slot.holds}


def start(code: str, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_to_rotate_wraps_every_key_anew_and_rewrites_nothing(
    store: EncryptedStore, envelopes: Envelopes, tmp_path: Path
) -> None:
    """Bodies, files, generations and times stay; the old version opens nothing."""
    for number in range(OBJECTS):
        store.put(Key(f"uploads/{number}"), b"%d" % number * 1000)
    before = {info.key: info for info in store.list(Key("")).objects}
    bodies = {path: path.read_bytes()[HEADER_BYTES:] for path in files(tmp_path)}
    inodes = {path: path.stat().st_ino for path in bodies}
    newest = envelopes.rotate(ACME)
    found = store.rewrap()
    assert (found.done, found.already, found.damaged) == (OBJECTS, 0, ())
    assert versions(tmp_path) == {newest} == {2}
    assert {path: path.read_bytes()[HEADER_BYTES:] for path in bodies} == bodies
    assert {path: path.stat().st_ino for path in bodies} == inodes
    assert {info.key: info for info in store.list(Key("")).objects} == before
    assert store.retire(newest) == 1
    assert envelopes.versions(ACME) == [2]
    assert store.get(Key("uploads/7")).data == b"7" * 1000


def test_to_rotate_again_finds_nothing_to_do(
    store: EncryptedStore, envelopes: Envelopes
) -> None:
    """What is under the newest version is left alone."""
    store.put(A, b"x")
    assert store.rewrap().already == 1
    envelopes.rotate(ACME)
    assert store.rewrap().done == 1
    assert store.rewrap().already == 1


@pytest.mark.parametrize("cut", ["torn", "both", "cleared half"])
def test_a_rewrap_that_was_cut_off_leaves_an_object_that_opens(
    store: EncryptedStore, envelopes: Envelopes, tmp_path: Path, cut: str
) -> None:
    """Wherever it was; and the next rotation finishes it."""
    store.put(A, b"one")
    envelopes.rotate(ACME)
    (path,) = files(tmp_path)
    old = path.read_bytes()
    store.rewrap()
    new = path.read_bytes()
    first, second = offset(0), offset(1)
    half = SLOT_BYTES // 2
    states = {
        "torn": old[:second] + new[second : second + half] + old[second + half :],
        "both": old[:second] + new[second:],
        "cleared half": new[: first + half] + old[first + half : second] + new[second:],
    }
    path.write_bytes(states[cut])
    assert store.get(A).data == b"one"
    assert store.rewrap().done == 1
    assert header(path).slots.count(EMPTY) == 1
    assert versions(tmp_path) == {2}
    assert store.get(A).data == b"one"


def test_an_object_that_does_not_open_keeps_every_version(
    store: EncryptedStore, envelopes: Envelopes, tmp_path: Path
) -> None:
    """It is named, and the others are wrapped anew."""
    store.put(A, b"one")
    (path,) = files(tmp_path)
    store.put(Key("uploads/b.jpg"), b"two")
    path.write_bytes(b"nothing of ours" * 100)
    envelopes.rotate(ACME)
    found = store.rewrap()
    assert (found.done, found.damaged) == (1, (A,))


def test_an_object_that_is_deleted_meanwhile_is_passed_over(
    store: EncryptedStore, envelopes: Envelopes
) -> None:
    """It needs no key."""

    class Deleting(EncryptedStore):
        def keys(self) -> Iterator[Key]:
            for key in super().keys():  # noqa: SIM118  # it is no dictionary
                self.delete(key)
                yield key

    store.put(A, b"one")
    root = store._root
    assert Deleting(root, ACME, envelopes).rewrap().done == 0


def test_whoever_reads_during_a_rewrap_sees_one_of_the_two(
    store: EncryptedStore, envelopes: Envelopes
) -> None:
    """Thousands of readers' looks, while the key is wrapped again and again."""
    store.put(A, b"one")
    done = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not done.is_set():
            seen.append(store.get(A).data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(60):
            envelopes.rotate(ACME)
            assert store.rewrap().done == 1
    finally:
        done.set()
        reader.join()
    assert len(seen) > 50
    assert set(seen) == {b"one"}


def test_whoever_read_the_header_before_its_key_was_retired_looks_again(
    store: EncryptedStore, envelopes: Envelopes, tmp_path: Path
) -> None:
    """Between the look and the key, another process rotated all the way."""

    class Overtaken(Envelopes):
        is_overtaken = False

        def key(self, tenant: Tenant, version: int) -> bytes:
            if not self.is_overtaken:
                self.is_overtaken = True
                newest = envelopes.rotate(ACME)
                assert store.rewrap().done == 1
                assert store.retire(newest) == 1
            return super().key(tenant, version)

    store.put(A, b"one")
    late = EncryptedStore(tmp_path / "acme", ACME, Overtaken(tmp_path / "keys"))
    assert late.get(A).data == b"one"


def test_a_version_waits_for_who_writes_under_it(
    store: EncryptedStore, envelopes: Envelopes
) -> None:
    """A slow upload that began before lands before the old version is retired."""
    store.put(Key("uploads/first"), b"x")
    begun, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            begun.set()
            go_on.wait(10)
            return super().read(size)

    writer = threading.Thread(target=lambda: store.put_from(A, Slow(b"slow")))
    rotated: list[int] = []
    rotator = threading.Thread(target=lambda: rotated.append(envelopes.rotate(ACME)))
    writer.start()
    begun.wait(10)
    rotator.start()
    time.sleep(0.1)
    assert rotated == []
    store.put(Key("uploads/new"), b"under the newest")  # waits for nobody
    go_on.set()
    rotator.join(10)
    writer.join(10)
    assert rotated == [2]
    assert store.rewrap().done == 2
    store.retire(2)
    assert store.get(A).data == b"slow"
    assert store.get(Key("uploads/new")).data == b"under the newest"


def test_killed_anywhere_a_rotation_leaves_every_object_readable(
    tmp_path: Path,
) -> None:
    """By kill -9, at a random moment of rotations without end, beside a writer."""
    chance = random.Random(8)  # noqa: S311  # when to kill
    store = EncryptedStore(tmp_path / "acme", ACME, Envelopes(tmp_path / "keys"))
    objects = {Key(f"uploads/{n}"): os.urandom(n * 37) for n in range(OBJECTS)}
    for key, data in objects.items():
        store.put(key, data)
    store.put_from(Key("uploads/large"), io.BytesIO(bytes(3 * 2**20)))
    writer = start(WRITE, tmp_path)
    halfway = 0
    try:
        for _ in range(KILLS):
            with start(ROTATE, tmp_path) as rotator:
                time.sleep(chance.uniform(0.0, 0.15))
                rotator.kill()
            fresh = EncryptedStore(
                tmp_path / "acme", ACME, Envelopes(tmp_path / "keys")
            )
            for key, data in objects.items():
                assert fresh.get(key).data == data
            with fresh.open(Key("uploads/large")) as stream:
                assert stream.read() == bytes(3 * 2**20)
            for info in fresh.list(Key("jobs/")).objects:
                assert fresh.get(info.key).data
            halfway += len(Envelopes(tmp_path / "keys").versions(ACME)) > 1
    finally:
        writer.kill()
        writer.communicate()
    assert halfway > 0
    envelopes = Envelopes(tmp_path / "keys")
    newest = envelopes.rotate(ACME)
    assert store.rewrap().damaged == ()
    store.retire(newest)
    assert versions(tmp_path) == {newest}
    assert all(store.get(key).data == data for key, data in objects.items())


def test_a_slot_that_is_torn_says_nothing() -> None:
    """Whatever length it claims."""
    assert Slot.parse(b"\xff" * SLOT_BYTES) == TORN
    assert Slot.parse(Slot(3, b"abc").pack()) == Slot(3, b"abc")
    assert Slot.parse(b"\0\0\0\1\0\1ab".ljust(SLOT_BYTES, b"\0")) == TORN


@pytest.mark.parametrize(
    "data", [b"", b"guise", b"x" * 512, b"guise\0\2" + b"\0" * 505]
)
def test_what_has_no_header_of_this_format_is_damaged(data: bytes) -> None:
    """Also one of a format to come: it is not guessed at."""
    with pytest.raises(StoreDamaged, match="format 1"):
        Header.parse(data, "it")


def test_amending_what_is_not_there_is_not_found(store: EncryptedStore) -> None:
    """A key may be wrapped anew of objects alone."""
    store.put(A, b"x")
    with pytest.raises(NotFound):
        store._rewrap(Key("uploads/none"))
