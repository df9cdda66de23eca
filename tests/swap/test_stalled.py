"""A worker that is stopped past the end of its claim, and goes on: SIGSTOP, SIGCONT."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.settings import Limits
from functions.storage.file import FileStore
from functions.swap import ledger
from functions.swap.dispatch import requested
from functions.swap.sweeper import sweep
from functions.tenant import Key
from tests.swap.house import ACME, SWAP, House, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a child that ends with the block, stopped or not."""
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("where", ["working", "stored"])
def test_a_stopped_holder_that_goes_on_overwrites_and_sends_nothing(
    tmp_path: Path, where: str
) -> None:
    """The second attempt is the result; of the first no output and no event is left."""
    folder = tmp_path / "acme"
    house = House(Limits(claim_seconds=1), opener=lambda _: FileStore(folder))
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = str(house.post(SWAP, Prefer="respond-async").json["job"])  # type: ignore[index]
    house.sink.taken.clear()
    words = [sys.executable, "-m", "tests.swap.stalled", str(folder), job, where]
    with started(words) as stalled:
        until(Path(f"{folder}.stalled").exists)
        stalled.send_signal(signal.SIGSTOP)
        until(lambda: not ledger.held(ACME, job, house.store, house.limits))
        assert house.send(requested(job, house.books)).status_code == 204
        committed = house.store.get(ACME.record(job))
        Path(f"{folder}.go").touch()
        stalled.send_signal(signal.SIGCONT)
        assert stalled.stdout is not None
        said = json.loads(stalled.stdout.read())
        assert stalled.wait(30) == 0
    assert said["status"] == 204
    assert house.store.get(ACME.record(job)) == committed
    record = ledger.record(ACME, job, house.store)
    assert record is not None
    assert (record.outcome, record.attempt) == ("completed", 2)
    found = house.store.list(Key(f"results/{job}/")).objects
    assert {each.key for each in found} == {
        ACME.record(job),
        ACME.output(job, 2, "png"),
    }
    # Before it stores anything it asks whether the job is still its own; after that
    # it loses the commit, and repeats the winner's words: no second ending or bill.
    assert said["sent"] == ([] if where == "working" else record.events)
    assert [events.as_dict(each) for each in house.sink.taken] == record.events
    assert sweep(house.books).later == 0
