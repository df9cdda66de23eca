"""A store in a folder outlives its writers: killed, racing, or out of disk.

As it is, and encrypted.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from functions.envelopes import Envelopes
from functions.problems import NotFound
from functions.storage.encrypted import EncryptedStore
from functions.storage.file import TEMPORARY, FileStore
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from pathlib import Path

    from functions.storage import Store

A = Key("results/j/job.json")
SIZE = 200_000

PRELUDE = """
import sys
from pathlib import Path
from functions.envelopes import Envelopes
from functions.problems import Changed, Unavailable
from functions.storage.encrypted import EncryptedStore
from functions.storage.file import FileStore
from functions.tenant import Tenant
root = Path(sys.argv[1])
stores = {
    "file": lambda: FileStore(root),
    "encrypted": lambda: EncryptedStore(
        root, Tenant("acme"), Envelopes(root.with_name("keys"))
    ),
}
store = stores[root.name]()
"""

# Each object is one byte, over and over: half of one would show.
OVERWRITE = """
print("ready", flush=True)
for number in range(1_000_000):
    store.put("results/j/job.json", bytes([number % 256]) * 200_000)
"""

COUNT = """
seen = store.get("results/j/job.json")
number, generation = int(seen.data), seen.generation
print("ready", flush=True)
while True:
    number += 1
    generation = store.put_if_match(
        "results/j/job.json", b"%d" % number, generation
    )
    print(number, flush=True)
"""

INCREMENT = """
for _ in range(25):
    while True:
        seen = store.get("results/j/job.json")
        try:
            store.put_if_match(
                "results/j/job.json", b"%d" % (int(seen.data) + 1), seen.generation
            )
        except Changed:
            continue
        break
"""

COMMIT = """
won = 0
for number in range(20):
    try:
        store.put_if_absent(f"results/{number}/job.json", sys.argv[2].encode())
    except Changed:
        continue
    won += 1
print(won)
"""

FILL_UP = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in (
    lambda: store.put("results/j/job.json", b"x" * 200_000),
    lambda: store.put_if_absent("results/new/job.json", b"x" * 200_000),
):
    try:
        write()
    except Unavailable as problem:
        print("unavailable", problem.detail)
store.put("results/small/job.json", b"x" * 90_000)
"""


@pytest.fixture(params=["file", "encrypted"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the folder of a store; its name says of which kind."""
    return tmp_path / str(request.param)


def opened(root: Path) -> Store:
    """Return the store in a folder."""
    if root.name == "file":
        return FileStore(root)
    return EncryptedStore(root, Tenant("acme"), Envelopes(root.with_name("keys")))


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process that runs `script` with a store at the first argument."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


def killed(script: str, root: Path, after: float) -> list[str]:
    """Kill a writer after some seconds of writing; return the lines it wrote."""
    with start(script, root) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        time.sleep(after)
        writer.kill()
        return writer.stdout.read().split("\n")[:-1]


@pytest.mark.parametrize("seed", range(4))
def test_killing_a_writer_leaves_the_old_object_or_the_new(
    root: Path, seed: int
) -> None:
    """Never half of one, whenever the signal comes."""
    moments = random.Random(seed)  # noqa: S311  # moments, not secrets
    store = opened(root)
    store.put(A, bytes([7]) * SIZE)
    for _ in range(3):
        killed(OVERWRITE, root, moments.uniform(0, 0.05))
        data = store.get(A).data
        assert len(data) == SIZE
        assert len(set(data)) == 1
    left = list((root / TEMPORARY).iterdir())
    assert [info.key for info in store.list(Key("")).objects] == [A]
    assert store.sweep() == 0  # somebody might still be writing them
    for path in left:
        os.utime(path, (0, 0))
    assert store.sweep() == len(left) <= 3
    assert store.get(A).data == data


def test_what_a_killed_writer_was_told_is_done_is_done(root: Path) -> None:
    """The object is the last one acknowledged, or the one under way."""
    store = opened(root)
    store.put(A, b"0")
    for _ in range(4):
        before = int(store.get(A).data)
        acknowledged = int([str(before), *killed(COUNT, root, 0.05)][-1])
        assert int(store.get(A).data) - acknowledged in (0, 1)


def test_four_processes_lose_no_increment(root: Path) -> None:
    """A conditional write holds between processes as it does between threads."""
    store = opened(root)
    store.put(A, b"0")
    writers = [start(INCREMENT, root) for _ in range(4)]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    for writer in writers:
        writer.communicate()
    assert store.get(A).data == b"100"


def test_of_four_processes_that_commit_one_wins_each_job(root: Path) -> None:
    """And each winner finds its own commit."""
    writers = [start(COMMIT, root, name) for name in "abcd"]
    won = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    store = opened(root)
    commits = [store.get(Key(f"results/{n}/job.json")).data for n in range(20)]
    assert sum(won) == 20
    assert [commits.count(name.encode()) for name in "abcd"] == won


def test_a_full_disk_leaves_the_old_object_and_nothing_else(root: Path) -> None:
    """The writer is told to try again, not why; what is small still fits."""
    store = opened(root)
    store.put(A, b"old")
    writer = start(FILL_UP, root)
    assert writer.communicate(timeout=60)[0] == "unavailable \nunavailable \n"
    assert writer.wait() == 0
    assert store.get(A).data == b"old"
    assert list((root / TEMPORARY).iterdir()) == []
    with pytest.raises(NotFound):
        store.get(Key("results/new/job.json"))
    assert store.head(Key("results/small/job.json")).size == 90_000
