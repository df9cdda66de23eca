"""A disk that is full: nothing is half written, and all is done once there is room."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.crash.driver import ROOT, Crowd, Machine, rest
from tests.crash.faults import fill, make_room
from tests.storage import proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("crash")

JOBS = 60
ALONE = ("unshare", "--user", "--map-root-user", "--mount")
WRITER = """
import sys
from pathlib import Path
from functions.local.queue import Queue
from functions.problems import Unavailable
from functions.storage.file import FileStore
from functions.tenant import Key
from tests.swap.house import finalized

root = Path(sys.argv[1])
store, queue = FileStore(root / "store"), Queue(root / "broker.db")
for n, _ in enumerate(sys.stdin):
    try:
        store.put(Key("uploads/a"), str(n).encode() * 9_000)
        said = "stored"
    except Unavailable:
        said = "full"
    try:
        queue.put(finalized(f"requests/{n}.json"), ["t"])
        said += " taken"
    except Unavailable:
        said += " full"
    left = len(list((root / "store" / ".tmp").glob("*")))
    print(said, left, store.get(Key("uploads/a")).data[:1].decode(), flush=True)
"""


def test_a_process_that_may_write_nothing_says_so_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    """EFBIG in a store and in SQLite: what was there stays; room is enough to go on."""
    words = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, cwd=ROOT, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def said() -> str:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            return child.stdout.readline().strip()

        assert said() == "stored taken 0 0"
        fill((child.pid,))
        assert said() == "full full 0 0"
        assert said() == "full full 0 0"
        make_room(child.pid)
        assert said() == "stored taken 0 3"
        child.stdin.close()


def _denied() -> bool:
    return bool(subprocess.run([*ALONE, "true"], check=False).returncode)


def test_a_job_may_run_out_of_room_at_any_page(tmp_path: Path) -> None:
    """ENOSPC, with a page more each time: store, log, ledger and queue go on."""
    if shutil.which(ALONE[0]) is None or _denied():
        pytest.skip("nobody may have a namespace of their own here")
    words = [sys.executable, "-m", "tests.crash.full", str(tmp_path), str(JOBS)]
    done = subprocess.run(
        [*ALONE, *words], capture_output=True, check=False, cwd=ROOT, text=True
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["found"] == []
    # The first found no room, the last all that it needed, and some got halfway.
    assert (seen["statuses"][0], seen["statuses"][-1]) == (503, 204)
    assert (seen["completed"], seen["bills"]) == (JOBS, JOBS)
    assert seen["owed"]
    assert 0 < seen["taken"] < JOBS


@contextmanager
def stack(home: Path) -> Iterator[tuple[Machine, Crowd]]:
    """Yield a real stack, and a crowd that has asked nothing of it yet."""
    home.mkdir()
    (home / "models").symlink_to(ROOT / ".guise" / "models")
    with proxy.to("") as way:
        machine = Machine(home, way)
        machine.start()
        try:
            yield machine, Crowd(machine, 0)
        finally:
            machine.end(signal.SIGINT)


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nothing_is_done_on_a_full_disk_and_all_of_it_after(tmp_path: Path) -> None:
    """Of a real stack: it neither ends nor forgets what it cannot write down."""
    with stack(tmp_path / "home") as (machine, crowd):
        crowd.one_more()
        rest(machine, crowd)
        before = machine.pid
        fill((machine.pid,))
        crowd.one_more()
        time.sleep(1.5)
        assert not crowd.settled()
        assert not (machine.store / "results" / "upload-2").exists()
        make_room(machine.pid)
        until(crowd.settled)
        assert machine.pid == before
        assert machine.process is not None
        assert machine.process.poll() is None


def test_what_a_dropped_sink_did_not_take_is_told_when_it_is_back(
    tmp_path: Path,
) -> None:
    """Of a real stack: the job is done, its ending waits in the outbox."""
    with stack(tmp_path / "home") as (machine, crowd):
        machine.way.goes(proxy.hanging_up)
        crowd.one_more()
        until((machine.store / "results" / "upload-1" / "job.json").exists)
        time.sleep(1.0)
        assert [each.name for each in (machine.store / "outbox").iterdir()] == [
            "upload-1"
        ]
        machine.way.goes(proxy.hanging_up, times=0)
        until(crowd.settled)
