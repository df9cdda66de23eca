"""No picture is in a file but those of the tenant's store: there is no temp folder.

So none is left over either, whatever a job dies of; what a store's own writes leave
half done, its sweep takes away.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from functions.storage import open_store
from tests.attacks.server import Server, serving
from tests.engine.neural import packs
from tests.integration.production import REQUEST, Cluster, cluster
from tests.integration.stack import COLLINS, HOPPER, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE: Final = "/nonexistent/tmp"
TELLS: Final = """
import os, sys

def tell(event, args):
    if event == "open" and isinstance(args[2], int):
        if args[2] & (os.O_WRONLY | os.O_RDWR):
            os.write(2, f"WRITES {args[0]}\\n".encode())

sys.addaudithook(tell)
"""
"""A process that imports this says which files it opens for writing (PEP 578)."""
OPERATIONS: Final = {
    "swap": REQUEST,
    "png": REQUEST | {"options": {"format": "png"}},
    "webp": REQUEST | {"options": {"format": "webp"}},
    "anonymize": {"operation": "anonymize", "target": REQUEST["target"]},
    "detect": {"operation": "detect", "target": REQUEST["target"]},
    "refused": REQUEST | {"faces": {"index": 60}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pack = packs.imported(tmp_path_factory.mktemp("pack"), halved=True)
    with cluster(tmp_path_factory.mktemp("files"), pack) as made:
        made.accept("non-commercial-licence")
        made.accept("no-content-gate")
        yield made


def test_a_worker_writes_into_the_store_alone(place: Cluster, tmp_path: Path) -> None:
    """Every operation, format and refusal; a library that wants /tmp would fail."""
    (tmp_path / "sitecustomize.py").write_text(TELLS)
    environ = {"PYTHONPATH": str(tmp_path), "TMPDIR": NOWHERE}
    with place.worker(**environ) as worker:
        for job, request in OPERATIONS.items():
            wanted = "refused" if job == "refused" else "completed"
            assert worker.record(job, request)["outcome"] == wanted
        lines = worker.log.read_text().splitlines()
    written = {line.split()[1] for line in lines if line.startswith("WRITES ")}
    # A file store opens folders, and files by their names in them: see `storage.file`.
    named = {path for path in written if path.startswith("/")}
    assert written - named  # so it does tell
    # Gunicorn's own heartbeat, and the names of threads.
    known = ("/tmp/wgunicorn-", "/proc/", "/dev/null")  # noqa: S108  # not by us
    assert {path for path in named if not path.startswith(known)} == set()


def test_a_worker_killed_in_the_middle_leaves_no_picture(place: Cluster) -> None:
    """Outside the store nothing; inside it what the next sweep takes away."""
    before = set(_files(place.root) - _files(place.store))
    with place.worker() as worker:
        assert worker.record("before")["outcome"] == "completed"
        running = threading.Thread(target=worker.run, args=("killed",))
        running.start()
        until((place.store / "jobs" / "killed" / "claim.json").exists)
        [child] = psutil.Process(worker.process.pid).children()
        os.kill(child.pid, signal.SIGKILL)
        running.join()
    new = _files(place.root) - _files(place.store) - before
    assert not [path for path in new if _is_picture(path)]
    open_store(f"file://{place.store}").sweep()
    left = [path for path in _files(place.store) if _is_picture(path)]
    known = ("uploads", "results")
    assert all(path.relative_to(place.store).parts[0] in known for path in left)


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _is_picture(path: Path) -> bool:
    data = path.read_bytes()
    return any(each.read_bytes()[1000:1100] in data for each in (COLLINS, HOPPER)) or (
        data[:3] == b"\xff\xd8\xff"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return the door's real gunicorn."""
    with serving(tmp_path_factory.mktemp("door")) as made:
        yield made


def test_a_picture_on_its_way_in_lies_in_no_file(server: Server) -> None:
    """Half of a large upload has come: no file of the process holds any of it."""
    [child] = [
        own
        for each in psutil.Process().children()
        if "gunicorn" in each.cmdline()
        for own in each.children()
    ]
    before = _open_files(child.pid)
    with server.connect() as made:
        made.sendall(_half_of_an_upload(server, megabytes=4))
        time.sleep(1)
        assert _open_files(child.pid) - before == set()
        made.shutdown(socket.SHUT_RDWR)


def _half_of_an_upload(server: Server, megabytes: int) -> bytes:
    named = 'Content-Disposition: form-data; name="source"; filename="a.jpg"'
    head = (
        "POST /v1/swaps HTTP/1.1\r\nHost: door\r\n"
        f"Authorization: Bearer {server.token}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {2 * megabytes << 20}\r\n\r\n"
    )
    return f"{head}--b\r\n{named}\r\n\r\n".encode() + os.urandom(megabytes << 20)


def _open_files(pid: int) -> set[str]:
    """Return the files that a process has open, also those without a name by now."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(each.readlink())
        except OSError:  # closed meanwhile
            continue
        if target.startswith("/") and not target.startswith("/dev/"):
            found.add(target)
    return found
