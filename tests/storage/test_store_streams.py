"""What every store promises of streams, asked of each of them."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import pytest

from functions.problems import Changed, NotFound, TooLarge
from functions.tenant import Key
from tests.storage.sources import Broken, Counted, digest_of

if TYPE_CHECKING:
    from functions.storage import Store

A = Key("uploads/a.jpg")
MIB = 1024 * 1024
LARGE = 64 * MIB
SIZES = (0, 1, MIB - 1, MIB, 5 * MIB, 5 * MIB + 1, 8 * MIB, 16 * MIB, 17 * MIB + 3)


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_is_kept_as_it_came(store: Store, size: int) -> None:
    """Around every size at which a store may begin another piece."""
    source = Counted(size)
    generation = store.put_from(A, source)
    assert store.head(A).size == size
    assert store.head(A).generation == generation > 0
    with store.open(A) as stream:
        assert digest_of(stream) == source.digest()


def test_64_mib_pass_in_pieces_both_ways(store: Store) -> None:
    """Nobody asks the source for more than a few pieces at a time."""
    source = Counted(LARGE)
    store.put_from(A, source)
    assert source.largest <= 8 * MIB
    with store.open(A) as stream:
        assert digest_of(stream) == source.digest()


def test_a_stream_may_give_less_than_it_is_asked_for(store: Store) -> None:
    """As a socket does; what counts is that it ends with nothing."""
    source = Counted(3 * MIB, step=99_991)
    store.put_from(A, source)
    assert hashlib.sha256(store.get(A).data).digest() == source.digest()


@pytest.mark.parametrize("size", [4, 20 * MIB])
def test_a_stream_over_its_limit_leaves_what_was_there(store: Store, size: int) -> None:
    """And one of exactly that size passes."""
    store.put(A, b"old")
    with pytest.raises(TooLarge):
        store.put_from(A, Counted(size), bytes_max=size - 1)
    assert store.get(A).data == b"old"
    store.put_from(A, Counted(size), bytes_max=size)
    assert store.head(A).size == size


@pytest.mark.parametrize("size", [1, 20 * MIB])
def test_a_stream_that_breaks_leaves_what_was_there(store: Store, size: int) -> None:
    """The fault is the source's own, and no store's."""
    with pytest.raises(FileNotFoundError):
        store.put_from(A, Broken(size))
    with pytest.raises(NotFound):
        store.head(A)
    assert store.list(Key("")).objects == ()


@pytest.mark.parametrize("size", [1, 20 * MIB])
def test_a_stream_is_written_if_there_is_none(store: Store, size: int) -> None:
    """Generation 0 says: absent."""
    generation = store.put_from(A, Counted(size), generation=0)
    with pytest.raises(Changed):
        store.put_from(A, io.BytesIO(b"two"), generation=0)
    with pytest.raises(Changed):
        store.put_from(A, Counted(size), generation=0)
    assert store.head(A).generation == generation


@pytest.mark.parametrize("size", [1, 20 * MIB])
def test_a_stream_is_written_over_what_one_saw(store: Store, size: int) -> None:
    """And over nothing else."""
    first = store.put(A, b"one")
    second = store.put_from(A, Counted(size), generation=first)
    with pytest.raises(Changed):
        store.put_from(A, Counted(size + 1), generation=first)
    assert store.head(A).generation == second
    assert store.head(A).size == size
    store.delete(A)
    with pytest.raises(Changed):
        store.put_from(A, Counted(size), generation=second)


def test_a_sweep_takes_nothing_that_somebody_wrote(store: Store) -> None:
    """Nor what is being written."""
    store.put(A, b"one")
    store.put_from(Key("uploads/b.mp4"), Counted(9 * MIB))
    assert store.sweep() == 0
    assert len(store.list(Key("")).objects) == 2
