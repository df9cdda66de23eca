"""An encrypted store gives what was written, where it was written, or nothing."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.envelopes import Envelopes
from functions.problems import (
    Changed,
    Failed,
    Gone,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from functions.storage.base import StoreDamaged, StoreDenied
from functions.storage.encrypted import EncryptedStore
from functions.storage.envelope import HEADER_BYTES, SLOT_BYTES, Header, Wrapping
from functions.storage.opaque import is_opaque
from functions.storage.sealing import SEGMENT_BYTES, START_BYTES, TAG_BYTES, opened
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

ACME, GLOBEX = Tenant("acme"), Tenant("globex")
A, B = Key("uploads/a.jpg"), Key("uploads/b.jpg")
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 40
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
FIRST = SEGMENT_BYTES - START_BYTES - TAG_BYTES
"""How many bytes the first segment holds; each further one START_BYTES more."""
BORDERS = (0, 1, FIRST, FIRST + SEGMENT_BYTES - TAG_BYTES)


@pytest.fixture
def envelopes(tmp_path: Path) -> Envelopes:
    return Envelopes(tmp_path / "keys")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "acme"


@pytest.fixture
def store(root: Path, envelopes: Envelopes) -> EncryptedStore:
    return EncryptedStore(root, ACME, envelopes)


def files(root: Path) -> list[Path]:
    """Return the files of objects, in no order that means anything."""
    found = (Path(place) / name for place, _, names in os.walk(root) for name in names)
    return [path for path in found if is_opaque(path.name)]


def only(root: Path) -> Path:
    (path,) = files(root)
    return path


def written(store: EncryptedStore, root: Path, key: Key, data: bytes) -> Path:
    """Write an object and return its file."""
    before = set(files(root))
    store.put(key, data)
    (path,) = set(files(root)) - before
    return path


def refused(store: EncryptedStore, key: Key) -> bool:
    """Return whether the object does not open; what opened would be a failure."""
    with pytest.raises(StoreDamaged):
        store.get(key)
    with pytest.raises(StoreDamaged), store.open(key) as stream:
        stream.read()
    return True


class TestDisk:
    """Whoever has the disk and no key."""

    def test_nothing_of_a_tenant_is_to_be_found_in_its_folder(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """No picture's beginning, no name, no job's id, no JSON."""
        job = "k0123456789abcdef0123456789abcdef"
        store.put(Key(f"uploads/{job}/passport of Grace.jpg"), JPEG)
        store.put(Key(f"results/{job}/1.png"), PNG)
        store.put(
            ACME.record(job), b'{"outcome": "completed", "job": "%s"}' % job.encode()
        )
        store.put(ACME.request("my-job"), b'{"operation": "swap"}')
        with suppress(ZeroDivisionError):  # who dies leaves half a write
            store.put_from(ACME.upload("uploads/half.jpg"), _Dying(JPEG * 300))
        searched = 0
        for place, folders, names in os.walk(root):
            for name in [*folders, *names]:
                _no_trace(name.encode(), job)
            for name in names:
                data = Path(place, name).read_bytes()
                _no_trace(data, job)
                searched += len(data)
        assert searched > 2 * len(JPEG)

    def test_the_same_bytes_are_never_the_same_twice(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """Not under two names, and not written again."""
        first = written(store, root, A, JPEG).read_bytes()
        second = written(store, root, B, JPEG).read_bytes()
        store.put(A, JPEG)
        third = min(files(root), key=lambda path: path.read_bytes() == second)
        parts = [data[HEADER_BYTES:] for data in (first, second, third.read_bytes())]
        assert len(set(parts)) == 3
        assert all(len(data) == len(parts[0]) for data in parts)

    def test_a_name_tells_its_length_in_32s_alone(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """And the same part is called otherwise in another folder."""
        for name in ("a", "b" * 32, "x/a"):
            store.put(Key(name), b"")
        names = [path.name for path in files(root)]
        assert len({len(name) for name in names}) == 1
        assert len(set(names)) == 3
        assert len(written(store, root, Key("c" * 33), b"").name) > len(names[0])

    def test_a_name_too_long_for_a_file_is_in_pieces(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """512 bytes in one part; a listing finds it, and its folder's name."""
        long = "n" * 512
        store.put(Key(long), b"file")
        deep = Key("d" * 400 + "/" + "e" * 111)
        store.put(deep, b"deep")
        assert [info.key for info in store.list(Key("")).objects] == [deep, long]
        assert store.get(Key(long)).data == b"file"
        assert [i.key for i in store.list(Key("d" * 400 + "/")).objects] == [deep]
        assert (
            max(
                len(name)
                for _, folders, names in os.walk(root)
                for name in [*folders, *names]
            )
            <= 255
        )

    def test_what_is_not_ours_is_passed_over(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """Names that were never encrypted, and some that only look so."""
        store.put(A, b"one")
        folder = only(root).parent
        (root / "notes.txt").write_bytes(b"x")
        (folder / ("A" * 64)).write_bytes(b"x")
        (folder / ("B" * 64 + "~")).mkdir()
        (folder / ("C" * 240 + "~")).write_bytes(b"x")
        (folder / ("D" * 64)).symlink_to("/etc/passwd")
        assert [info.key for info in store.list(Key("")).objects] == [A]

    @pytest.mark.parametrize("plant", ["link", "pipe", "folder"])
    def test_what_is_planted_in_an_objects_place_is_no_object(
        self, store: EncryptedStore, root: Path, tmp_path: Path, plant: str
    ) -> None:
        """It leads nowhere, blocks nobody, and a write puts an object there again."""
        store.put(B, PNG)
        path = written(store, root, A, JPEG)
        path.rename(tmp_path / "elsewhere")
        if plant == "link":
            path.symlink_to(tmp_path / "elsewhere")
        elif plant == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        with pytest.raises(NotFound):
            store.get(A)
        assert [info.key for info in store.list(Key("")).objects] == [B]
        assert store.rewrap().damaged == ()
        if plant == "folder":
            path.rmdir()
        store.put(A, JPEG)
        assert store.get(A).data == JPEG

    @pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", ".tmp/x", "a\0b"])
    def test_what_is_no_key_has_no_name(self, store: EncryptedStore, key: str) -> None:
        """Encrypted it would be one."""
        store.put(A, b"one")
        with pytest.raises(InvalidRequest):
            store.put(Key(key), b"x")
        with pytest.raises(InvalidRequest):
            store.get(Key(key))


TRACES = (
    JPEG[:10],
    PNG[:8],
    b'{"outcome"',
    b'{"operation"',
    b"Grace",
    b".json",
    b"uploads",
    b"results",
    b"my-job",
    b"completed",
)


def _no_trace(data: bytes, job: str) -> None:
    for trace in (*TRACES, job.encode()):
        assert trace not in data, trace
    # Three bytes are there by chance, once in 16 MiB; here are some 100 KiB.
    assert data.count(b"\xff\xd8\xff") <= 2


class _Dying(io.BytesIO):
    """Gives what it has, then dies."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size) or bytes(1 // 0)


class TestTampering:
    """Whoever writes to the disk, and has no key."""

    def test_every_byte_of_a_header_that_means_anything_is_held_to(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """A byte of the slot that is not in use is as one that was torn: no harm."""
        path = written(store, root, A, JPEG)
        data = path.read_bytes()
        spare = HEADER_BYTES - SLOT_BYTES
        for place in range(HEADER_BYTES):
            path.write_bytes(_flipped(data, place))
            if place < spare:
                assert refused(store, A), place
            else:
                assert store.get(A).data == JPEG, place

    def test_every_byte_of_what_is_sealed_is_held_to(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """Salt, nonce, text and tag."""
        path = written(store, root, A, b"a few bytes")
        data = path.read_bytes()
        for place in range(HEADER_BYTES, len(data)):
            path.write_bytes(_flipped(data, place))
            assert refused(store, A), place

    def test_a_byte_anywhere_in_many_segments_is_held_to(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """Sampled: a prime apart, and at the borders."""
        path = written(store, root, A, os.urandom(3 * SEGMENT_BYTES))
        data = bytearray(path.read_bytes())
        borders = range(HEADER_BYTES, len(data), SEGMENT_BYTES)
        near = {b + d for b in borders for d in (-1, 0, 1)} & {*range(len(data))}
        near -= {*range(HEADER_BYTES - SLOT_BYTES, HEADER_BYTES)}
        for place in sorted(near | {*range(HEADER_BYTES, len(data), 220_009)}):
            _flip_in(path, place)
            with pytest.raises(StoreDamaged):
                store.get(A)
            _flip_in(path, place)
        assert store.get(A).data

    def test_an_object_cut_off_does_not_open(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """At the border of each segment, a byte beside it, and within the header."""
        path = written(store, root, A, os.urandom(3 * SEGMENT_BYTES))
        size = path.stat().st_size
        borders = [HEADER_BYTES + n * SEGMENT_BYTES for n in range(4)]
        near = {b + d for b in borders for d in (-1, 0, 1) if b + d < size}
        for length in sorted(
            {0, 8, 16, 511, *near, size - 1, size - TAG_BYTES}, reverse=True
        ):
            os.truncate(path, length)
            assert refused(store, A), length

    def test_an_object_with_something_behind_it_does_not_open(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """A byte, or the last segment again."""
        path = written(store, root, A, os.urandom(2 * SEGMENT_BYTES))
        data = path.read_bytes()
        for more in (b"\0", data[HEADER_BYTES + SEGMENT_BYTES :]):
            path.write_bytes(data + more)
            assert refused(store, A)

    def test_segments_change_no_places(self, store: EncryptedStore, root: Path) -> None:
        """Nor does one of another object fit."""
        first = written(store, root, A, os.urandom(3 * SEGMENT_BYTES))
        second = written(store, root, B, os.urandom(3 * SEGMENT_BYTES))
        data, other = first.read_bytes(), second.read_bytes()
        one = slice(HEADER_BYTES + SEGMENT_BYTES, HEADER_BYTES + 2 * SEGMENT_BYTES)
        two = slice(HEADER_BYTES + 2 * SEGMENT_BYTES, HEADER_BYTES + 3 * SEGMENT_BYTES)
        swapped = bytearray(data)
        swapped[one], swapped[two] = data[two], data[one]
        first.write_bytes(swapped)
        assert refused(store, A)
        first.write_bytes(data[: one.start] + other[one] + data[one.stop :])
        assert refused(store, A)

    def test_an_object_opens_nowhere_else(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """Copied to another name, which it would answer to."""
        first = written(store, root, A, JPEG)
        second = written(store, root, B, PNG)
        shutil.copy2(first, second)
        assert refused(store, B)
        assert store.get(A).data == JPEG

    def test_a_header_opens_no_other_body(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """Not even of the same object, as it was before."""
        path = written(store, root, A, JPEG)
        before = path.read_bytes()
        store.put(A, PNG + bytes(len(JPEG) - len(PNG)))
        path.write_bytes(path.read_bytes()[:HEADER_BYTES] + before[HEADER_BYTES:])
        assert refused(store, A)

    def test_an_object_is_no_other_tenants(
        self, store: EncryptedStore, root: Path, envelopes: Envelopes, tmp_path: Path
    ) -> None:
        """Not even where the tenants had the same keys."""
        store.put(A, JPEG)
        shutil.copytree(tmp_path / "keys/acme", tmp_path / "keys/globex")
        shutil.copytree(root, tmp_path / "globex")
        thief = EncryptedStore(tmp_path / "globex", GLOBEX, envelopes)
        assert refused(thief, A)

    def test_another_tenants_keys_open_nothing(
        self, store: EncryptedStore, root: Path, envelopes: Envelopes
    ) -> None:
        """Not a name, and so no object."""
        store.put(A, JPEG)
        envelopes.make(GLOBEX)
        thief = EncryptedStore(root, GLOBEX, envelopes)
        assert thief.list(Key("")).objects == ()
        with pytest.raises(NotFound):
            thief.get(A)

    def test_an_object_that_is_damaged_is_listed_and_can_be_deleted(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """Erasing does not fail for it."""
        written(store, root, A, JPEG).write_bytes(b"x")
        (info,) = store.list(Key("")).objects
        assert (info.key, info.size) == (A, 0)
        assert store.head(A) == info
        store.delete_if_match(A, info.generation)
        assert store.list(Key("")).objects == ()

    def test_the_time_is_the_objects_own_and_not_the_files(
        self, store: EncryptedStore, root: Path
    ) -> None:
        """A backup that is played back changes no generation."""
        path = written(store, root, A, JPEG)
        before = store.head(A)
        os.utime(path, (1, 1))
        assert store.head(A) == before == store.list(Key("")).objects[0]


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


def _flip_in(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 0x01]))


class TestSizes:
    """Around the borders of segments."""

    @pytest.mark.parametrize("border", BORDERS)
    @pytest.mark.parametrize("beside", [-1, 0, 1])
    def test_sizes_at_the_borders_of_segments_come_back(
        self, store: EncryptedStore, border: int, beside: int
    ) -> None:
        """As bytes, as a stream, and as the size that head and listing tell."""
        data = os.urandom(max(0, border + beside))
        store.put(A, data)
        store.put_from(B, io.BytesIO(data))
        assert store.get(A).data == store.get(B).data == data
        with store.open(A) as stream:
            assert stream.read() == data
        assert store.head(A).size == len(data)
        assert {info.size for info in store.list(Key("")).objects} == {len(data)}

    @given(size=st.integers(0, 3 * SEGMENT_BYTES), step=st.integers(1, SEGMENT_BYTES))
    @settings(max_examples=25, deadline=None)
    def test_any_size_comes_back_in_any_steps(
        self, tmp_path_factory: pytest.TempPathFactory, size: int, step: int
    ) -> None:
        """Whatever the reader's steps are."""
        root = tmp_path_factory.mktemp("sizes")
        store = EncryptedStore(root / "acme", ACME, Envelopes(root / "keys"))
        data = os.urandom(size)
        store.put_from(A, io.BytesIO(data))
        with store.open(A) as stream:
            found = b"".join(iter(lambda: stream.read(step), b""))
        assert found == data
        assert store.head(A).size == size


class TestKeys:
    """Where the keys are not what they were."""

    def test_reading_makes_no_keys(
        self, store: EncryptedStore, root: Path, tmp_path: Path
    ) -> None:
        """Events that name tenants nobody has heard of leave nothing behind."""
        with pytest.raises(NotFound):
            store.get(A)
        with pytest.raises(NotFound):
            store.head(A)
        assert store.list(Key("")).objects == ()
        assert store.list(Key("uploads/")).objects == ()
        store.delete(A)
        store.delete_if_match(A, 0)
        with pytest.raises(Changed):
            store.delete_if_match(A, 1)
        assert not (tmp_path / "keys").exists()
        assert not root.exists()

    def test_objects_whose_keys_are_elsewhere_get_no_new_ones(
        self, store: EncryptedStore, root: Path, tmp_path: Path
    ) -> None:
        """A folder of keys that is not mounted is no tenant without objects."""
        store.put(A, JPEG)
        elsewhere = EncryptedStore(root, ACME, Envelopes(tmp_path / "other"))
        for act in (
            lambda: elsewhere.put(B, b"x"),
            lambda: elsewhere.get(A),
            lambda: elsewhere.list(Key("")),
        ):
            with pytest.raises(StoreDenied):
                act()
        assert not (tmp_path / "other/acme").exists()

    def test_after_its_keys_are_shredded_nothing_opens_or_is_written(
        self, store: EncryptedStore, envelopes: Envelopes
    ) -> None:
        """Not in this process, which had them in memory."""
        store.put(A, JPEG)
        assert store.get(A).data == JPEG
        envelopes.shred(ACME)
        for act in (
            lambda: store.get(A),
            lambda: store.head(A),
            lambda: store.list(Key("")),
            lambda: store.put(A, b"new"),
            lambda: store.put(B, b"new"),
            lambda: store.delete(A),
        ):
            with pytest.raises(Gone):
                act()

    def test_an_object_under_a_version_that_is_gone_is_damaged(
        self, store: EncryptedStore, envelopes: Envelopes
    ) -> None:
        """And says so in the log, where who mends it looks."""
        store.put(A, JPEG)
        envelopes.rotate(ACME)
        envelopes.retire(ACME, 1)
        with pytest.raises(StoreDamaged, match="no key '1'"):
            store.get(A)

    def test_a_disk_that_fails_is_not_an_object_that_is_damaged(
        self, envelopes: Envelopes
    ) -> None:
        """Whoever reads learns to try again, and nobody is told of tampering."""

        class Failing(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise Unavailable(internal="the disk")

        envelopes.make(ACME)
        key = _key_of_nothing()
        with (
            pytest.raises(Unavailable, match="the disk") as caught,
            opened(key, Failing(), b"", "a") as stream,
        ):
            stream.read()
        assert not isinstance(caught.value, StoreDamaged)

    def test_a_header_that_cannot_be_read_is_to_be_tried_again(
        self, store: EncryptedStore
    ) -> None:
        """As any of the disk's failures."""
        store.put(A, JPEG)
        with pytest.raises(Unavailable) as caught:
            store._unwrapped(A, -1)
        assert not isinstance(caught.value, StoreDamaged)

    def test_the_file_store_below_takes_no_object_without_a_header(
        self, store: EncryptedStore
    ) -> None:
        """Nothing gets there past its key."""
        store.put(A, JPEG)
        with pytest.raises(Unavailable):
            store._files.put(B, b"as it is")
        assert [info.key for info in store.list(Key("")).objects] == [A]

    def test_keys_that_cannot_be_read_are_our_failure(
        self, store: EncryptedStore, tmp_path: Path
    ) -> None:
        """Not the object's."""
        store.put(A, JPEG)
        (tmp_path / "keys/acme/1.key").write_bytes(b"too short\n")
        with pytest.raises(Failed) as caught:
            store.get(A)
        assert not isinstance(caught.value, StoreDamaged)


def _key_of_nothing() -> bytes:
    from functions.storage.sealing import new_key

    return new_key()


def test_the_format_is_tinks_as_published(
    store: EncryptedStore, root: Path, envelopes: Envelopes
) -> None:
    """A reader of another hand, on another library, opens what we wrote.

    developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming
    """
    data = os.urandom(2 * SEGMENT_BYTES + 5)
    path = written(store, root, A, data)
    sealed = path.read_bytes()
    header = Header.parse(sealed[:HEADER_BYTES], "a")
    wrapping = Wrapping("acme", A)
    found = wrapping.unwrap(header, lambda version: envelopes.key(ACME, version))
    assert found is not None
    key = _raw(found[1])
    assert b"".join(_plain(sealed[HEADER_BYTES:], key, wrapping.object)) == data


def _raw(keyset: bytes) -> bytes:
    """Return the 32 bytes of the one key in a keyset of tink's."""
    from tink.proto import aes_gcm_hkdf_streaming_pb2, tink_pb2

    (one,) = tink_pb2.Keyset.FromString(keyset).key
    value = one.key_data.value
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey.FromString(value)
    return bytes(key.key_value)


def _plain(sealed: bytes, key: bytes, bound: bytes) -> Iterator[bytes]:
    length, salt, prefix = sealed[0], sealed[1:33], sealed[33:40]
    assert length == START_BYTES
    cipher = AESGCM(HKDF(SHA256(), 32, salt, bound).derive(key))
    starts = [START_BYTES, *range(SEGMENT_BYTES, len(sealed), SEGMENT_BYTES)]
    ends = [*starts[1:], len(sealed)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        last = bytes([end == len(sealed)])
        nonce = prefix + number.to_bytes(4, "big") + last
        yield cipher.decrypt(nonce, sealed[start:end], None)
