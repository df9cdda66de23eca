"""What every store promises, asked of each of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.problems import Changed, NotFound, TooLarge
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.storage import Store

A = Key("uploads/a.jpg")
RACERS = 20


def race(attempt: Callable[[int], object]) -> list[int]:
    """Run `attempt` in 20 threads at once; return who was not told `Changed`."""
    start = threading.Barrier(RACERS)

    def run(number: int) -> bool:
        start.wait()
        try:
            attempt(number)
        except Changed:
            return False
        return True

    with ThreadPoolExecutor(RACERS) as threads:
        won = list(threads.map(run, range(RACERS)))
    return [number for number, first in enumerate(won) if first]


def keys(store: Store, prefix: str = "", limit: int = 1000) -> list[str]:
    """Return every key under `prefix`, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = store.list(Key(prefix), cursor=cursor, limit=limit)
        assert len(page.objects) <= limit
        found += [info.key for info in page.objects]
        cursor = page.cursor
        if not cursor:
            return found


def test_what_was_put_is_what_one_gets(store: Store) -> None:
    """Bytes and generation."""
    generation = store.put(A, b"one\0two")
    assert store.get(A).data == b"one\0two"
    assert store.get(A).generation == generation > 0


def test_an_empty_object_is_an_object(store: Store) -> None:
    """No bytes are not the same as nothing."""
    store.put(A, b"")
    assert store.get(A).data == b""
    assert store.head(A).size == 0


def test_a_stream_gives_the_same_bytes(store: Store) -> None:
    """In pieces, for what is too large to hold."""
    store.put(A, b"x" * 100_000)
    with store.open(A) as stream:
        assert stream.read(10) == b"x" * 10
        assert len(stream.read()) == 99_990


def test_an_error_while_streaming_is_the_readers_own(store: Store) -> None:
    """The store does not take it for one of its own."""
    store.put(A, b"x")
    with pytest.raises(FileNotFoundError), store.open(A):
        raise FileNotFoundError


def test_the_head_tells_size_generation_and_time(store: Store) -> None:
    """Without the bytes."""
    before = time.time()
    generation = store.put(A, b"four")
    info = store.head(A)
    assert (info.key, info.size, info.generation) == (A, 4, generation)
    assert before - 1 <= info.updated <= time.time() + 1


@pytest.mark.parametrize("key", ["uploads/a.jpg", "uploads/b/c/d", "b"])
def test_what_is_not_there_is_not_found(store: Store, key: str) -> None:
    """By any reader, and whether or not there is something near it."""
    store.put(Key("uploads/b/other"), b"")
    for read in (store.get, store.head):
        with pytest.raises(NotFound):
            read(Key(key))
    with pytest.raises(NotFound), store.open(Key(key)):
        pytest.fail("there is nothing to read")


def test_an_object_over_its_limit_is_too_large(store: Store) -> None:
    """And one of exactly that size is not."""
    store.put(A, b"four")
    assert store.get(A, bytes_max=4).data == b"four"
    assert store.get(A, bytes_max=10**15).data == b"four"
    with pytest.raises(TooLarge):
        store.get(A, bytes_max=3)


def test_other_bytes_have_another_generation(store: Store) -> None:
    """Even in many writes within one tick of the clock."""
    generations = [store.put(A, b"%d" % number) for number in range(40)]
    assert len(set(generations)) == 40
    assert min(generations) > 0
    assert store.head(A).generation == generations[-1]


def test_a_key_that_comes_back_has_a_new_generation(store: Store) -> None:
    """Whoever holds the old one does not hold the new object."""
    first = store.put(A, b"one")
    store.delete(A)
    second = store.put_if_absent(A, b"two")
    assert second != first
    with pytest.raises(Changed):
        store.put_if_match(A, b"three", first)


def test_put_if_absent_writes_once(store: Store) -> None:
    """The second is told, and changes nothing."""
    generation = store.put_if_absent(A, b"one")
    with pytest.raises(Changed):
        store.put_if_absent(A, b"two")
    assert store.get(A).data == b"one"
    assert store.head(A).generation == generation


def test_put_if_match_writes_over_what_one_saw(store: Store) -> None:
    """And over nothing else."""
    first = store.put(A, b"one")
    second = store.put_if_match(A, b"two", first)
    assert second != first
    with pytest.raises(Changed):
        store.put_if_match(A, b"three", first)
    assert store.get(A).data == b"two"


def test_put_if_match_makes_nothing_new(store: Store) -> None:
    """What was deleted in between stays deleted."""
    generation = store.put(A, b"one")
    store.delete(A)
    with pytest.raises(Changed):
        store.put_if_match(A, b"two", generation)
    with pytest.raises(NotFound):
        store.get(A)


def test_to_match_no_generation_is_to_find_nothing(store: Store) -> None:
    """Generation 0 says: absent."""
    store.put_if_match(A, b"one", 0)
    with pytest.raises(Changed):
        store.put_if_match(A, b"two", 0)
    with pytest.raises(Changed):
        store.delete_if_match(A, 0)
    assert store.get(A).data == b"one"


def test_deleting_twice_is_deleting_once(store: Store) -> None:
    """A retry finds nothing and is content."""
    store.put(A, b"one")
    store.delete(A)
    store.delete(A)
    store.delete(Key("never/was"))
    store.delete_if_match(A, 0)
    with pytest.raises(NotFound):
        store.head(A)


def test_delete_if_match_deletes_what_one_saw(store: Store) -> None:
    """And nothing newer."""
    first = store.put(A, b"one")
    second = store.put(A, b"two")
    with pytest.raises(Changed):
        store.delete_if_match(A, first)
    assert store.get(A).data == b"two"
    store.delete_if_match(A, second)
    with pytest.raises(Changed):
        store.delete_if_match(A, second)


def test_of_20_who_put_if_absent_one_wins(store: Store) -> None:
    """And what is there is the winner's."""
    won = race(lambda number: store.put_if_absent(A, b"%d" % number))
    assert len(won) == 1
    assert store.get(A).data == b"%d" % won[0]


def test_of_20_who_put_if_match_one_wins(store: Store) -> None:
    """And what is there is the winner's."""
    seen = store.put(A, b"before")
    won = race(lambda number: store.put_if_match(A, b"%d" % number, seen))
    assert len(won) == 1
    assert store.get(A).data == b"%d" % won[0]


def test_of_20_who_delete_if_match_one_wins(store: Store) -> None:
    """The others learn that it is gone."""
    seen = store.put(A, b"before")
    assert len(race(lambda _: store.delete_if_match(A, seen))) == 1


def test_20_who_simply_put_get_20_generations(store: Store) -> None:
    """No two of them share one, and what is there has the one it was given."""
    given_out: dict[int, bytes] = {}

    def write(number: int) -> None:
        data = b"%d" % number
        given_out[store.put(A, data)] = data

    assert len(race(write)) == RACERS
    assert len(given_out) == RACERS
    found = store.get(A)
    assert found.data == given_out[found.generation]


def test_no_increment_is_lost(store: Store) -> None:
    """Read, add one, put if it still matches; else again."""
    store.put(A, b"0")

    def increment(_: int) -> None:
        while True:
            seen = store.get(A)
            with suppress(Changed):
                store.put_if_match(A, b"%d" % (int(seen.data) + 1), seen.generation)
                return

    race(increment)
    assert store.get(A).data == b"%d" % RACERS


@pytest.mark.parametrize(
    "key",
    [
        "uploads/with some spaces.jpg",
        "uploads/Ännchen ☂ 顔.webp",
        "uploads/100%.png",
        "uploads/1+1=2 %2B %20.png",
        "uploads/-rf *",
        "uploads/a?b#c&d=e;'\"`$(x)",
        "uploads/" + "é" * 120,
        "a",
        "a/b/c/d/e/f/g",
    ],
)
def test_a_key_is_taken_as_it_is(store: Store, key: str) -> None:
    """Spaces, Unicode, and what a shell or a URL would make much of."""
    store.put(Key(key), b"x")
    assert store.get(Key(key)).data == b"x"
    assert keys(store) == [key]
    store.delete(Key(key))
    assert keys(store) == []


def test_objects_come_in_key_order(store: Store) -> None:
    """Of whole keys: a slash sorts after a hyphen and a full stop."""
    names = ["a/b", "a.b", "a-b", "a0", "B", "é", "z", "a/a/z", "a/a-"]
    for name in names:
        store.put(Key(name), b"")
    assert keys(store) == sorted(names)
    assert keys(store, limit=1) == sorted(names)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["a/b/1", "a/b/2", "a/bc/3", "ab/4"]),
        ("a", ["a/b/1", "a/b/2", "a/bc/3", "ab/4"]),
        ("a/", ["a/b/1", "a/b/2", "a/bc/3"]),
        ("a/b", ["a/b/1", "a/b/2", "a/bc/3"]),
        ("a/b/", ["a/b/1", "a/b/2"]),
        ("a/b/1", ["a/b/1"]),
        ("a/b/1/", []),
        ("b", []),
        ("b/c/", []),
    ],
)
def test_a_prefix_is_of_the_text_not_the_folder(
    store: Store, prefix: str, expected: list[str]
) -> None:
    """As in a bucket."""
    for name in ("a/b/1", "a/b/2", "a/bc/3", "ab/4"):
        store.put(Key(name), b"")
    assert keys(store, prefix) == expected


def test_a_page_says_where_to_go_on(store: Store) -> None:
    """And the last one that there is no more, also when it is just full."""
    for number in range(6):
        store.put(Key(f"outbox/{number}"), b"")
    first = store.list(Key("outbox/"), limit=4)
    assert len(first.objects) == 4
    second = store.list(Key("outbox/"), cursor=first.cursor, limit=2)
    assert [info.key for info in second.objects] == ["outbox/4", "outbox/5"]
    assert second.cursor == ""


def test_pages_go_on_where_what_they_ended_with_is_gone(store: Store) -> None:
    """A sweeper deletes what it lists."""
    for number in range(9):
        store.put(Key(f"outbox/{number}/job.json"), b"")
    seen = []
    cursor = ""
    for _ in range(5):
        page = store.list(Key("outbox/"), cursor=cursor, limit=2)
        seen += [info.key for info in page.objects]
        for info in page.objects:
            store.delete(info.key)
        cursor = page.cursor
    assert cursor == ""
    assert len(seen) == 9
    assert keys(store) == []


def test_a_listing_tells_what_the_head_tells(store: Store) -> None:
    """No second request is needed."""
    store.put(A, b"four")
    assert store.list(Key("")).objects == (store.head(A),)


def test_listing_while_others_write_and_delete_never_fails(store: Store) -> None:
    """It shows what was there all the time, and no key twice."""
    for number in range(0, 40, 2):
        store.put(Key(f"jobs/{number:02d}/claim.json"), b"")
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            for number in range(1, 40, 8):
                key = Key(f"jobs/{number:02d}/claim.json")
                store.put(key, b"")
                store.delete(key)

    with ThreadPoolExecutor(1) as thread:
        disturbing = thread.submit(disturb)
        try:
            listings = [keys(store, "jobs/", limit=7) for _ in range(30)]
        finally:
            done.set()
        disturbing.result()
    for listing in listings:
        assert max(Counter(listing).values()) == 1
        assert len([key for key in listing if int(key[5:7]) % 2 == 0]) == 20


# Files and folders never share a name here, which only a bucket could hold.
NAMES = st.lists(
    st.sampled_from(["a", "b", "a-", "é", "顔", " "]), min_size=1, max_size=3
).map(lambda parts: "/".join(parts) + ".x")


@given(names=st.sets(NAMES, max_size=12), limit=st.integers(1, 5), data=st.data())
@settings(max_examples=25)
def test_pages_hold_every_key_once_in_order(
    new_store: Callable[[], Store],
    names: set[str],
    limit: int,
    data: st.DataObject,
) -> None:
    """Whatever the keys, the prefix and the size of the pages."""
    store = new_store()
    for name in names:
        store.put(Key(name), b"")
    prefix = data.draw(st.sampled_from(["", *sorted({n[:2] for n in names})]))
    if prefix.startswith(("/", ".")):
        prefix = ""
    assert keys(store, prefix, limit) == sorted(
        n for n in names if n.startswith(prefix)
    )


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "absent", "match", "stale", "delete", "delete match"]),
        st.sampled_from(["a", "b/c"]),
    ),
    max_size=12,
)


@given(OPERATIONS)
@settings(max_examples=30)
def test_a_store_behaves_as_a_dictionary_would(
    new_store: Callable[[], Store], operations: list[tuple[str, str]]
) -> None:
    """A model of a few lines foretells the outcome of every operation."""
    store = new_store()
    model: dict[str, tuple[bytes, int]] = {}
    for number, (operation, name) in enumerate(operations):
        key, data = Key(name), b"%d" % number
        _, seen = model.get(name, (b"", 0))
        match operation:
            case "put":
                model[name] = data, store.put(key, data)
            case "absent" if not seen:
                model[name] = data, store.put_if_absent(key, data)
            case "absent":
                with pytest.raises(Changed):
                    store.put_if_absent(key, data)
            case "match":
                model[name] = data, store.put_if_match(key, data, seen)
            case "stale":
                with pytest.raises(Changed):
                    store.put_if_match(key, data, seen + 1)
            case "delete":
                store.delete(key)
                model.pop(name, None)
            case _:
                store.delete_if_match(key, seen)
                model.pop(name, None)
    assert keys(store) == sorted(model)
    for name, (data, generation) in model.items():
        found = store.get(Key(name))
        assert (found.data, found.generation) == (data, generation)
