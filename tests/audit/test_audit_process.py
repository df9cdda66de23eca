"""The function as it is deployed: gunicorn, a socket, files, and kill -9."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.store import Selection, Store, note_of, select_entries, size_of
from functions.auth import jwks_document
from functions.keys import FileKeys
from functions.problems import NoReceipt
from functions.sink import HttpAuditor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.sink import Receipt

HEAVY = {
    "boto3",
    "cloudevents",
    "cryptography",
    "cv2",
    "google",
    "numpy",
    "onnxruntime",
    "sqlalchemy",
}
GUNICORN = (
    *("--worker-class", "gthread", "--threads", "16", "--timeout", "0"),
    *("--log-level", "critical"),
)
APP = "functions.audit.app:create_app()"


def test_importing_the_app_imports_nothing_heavy() -> None:
    """What the first event needs is loaded on a thread, after the socket is served."""
    code = "import functions.audit.app, sys; print(*sys.modules)"
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert HEAVY.isdisjoint(out.split())


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    """Return the keys of a deployment: audit's own and a tenant's."""
    made = FileKeys(tmp_path / "keys")
    made.create("audit")
    made.create("events/acme")
    issuer = made.create("tokens")
    (tmp_path / "jwks.json").write_text(json.dumps(jwks_document(issuer)))
    return made


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Yield a socket as the activator opens it: it outlives every function."""
    with socket.socket() as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind(("127.0.0.1", 0))
        made.listen(128)
        yield made


@contextmanager
def serving(listener: socket.socket, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the function on a socket; kill what is left of it at the end."""
    settings = {
        "GUISE_DATABASE": f"sqlite:///{folder}/audit.db",
        "GUISE_KEYS": f"{folder}/keys",
        "GUISE_JWKS": f"{folder}/jwks.json",
        "GUISE_ISSUER": "guise",
        "GUISE_PROFILE": "development",
    }
    bind = ["--bind", f"fd://{listener.fileno()}", "--no-control-socket"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *bind, *GUNICORN, APP],
        env=os.environ | settings,
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 the arbiter and its worker, all at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def started(keys: FileKeys, name: str) -> events.Event:
    event = events.Event(
        id=name,
        source=events.swap_source("acme"),
        type=events.SWAP_STARTED,
        time=events.now(),
        tenant="acme",
        data={"job": name},
    )
    return events.sign(event, keys.signer("events/acme"))


def test_a_sleeping_function_answers_its_first_event_with_a_receipt(
    tmp_path: Path,
    keys: FileKeys,
) -> None:
    """The client that the worker uses gets a receipt from a process not yet up."""
    event = started(keys, "first")
    with listening() as listener, serving(listener, tmp_path) as process:
        auditor = HttpAuditor(url_of(listener))
        receipt = auditor.receipt(event, timeout=30)
        assert auditor.receipt(event, timeout=30) == receipt
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert receipt.index == 0
    verify_log(tmp_path, keys, [("first", receipt)])


def test_a_full_load_then_a_graceful_end_loses_nothing(
    tmp_path: Path,
    keys: FileKeys,
) -> None:
    """Whoever was accepted before SIGTERM gets a receipt that is in the log."""
    acks: list[tuple[str, Receipt]] = []
    with (
        listening() as listener,
        serving(listener, tmp_path) as process,
        callers(listener, keys, acks),
    ):
        wait_for(acks, 40)
        process.terminate()
        assert process.wait(timeout=30) == 0
    verify_log(tmp_path, keys, acks)


def test_kill_9_between_acks_leaves_every_ack_in_the_log(
    tmp_path: Path,
    keys: FileKeys,
) -> None:
    """An acknowledged event is durable, at whatever moment the process dies."""
    acks: list[tuple[str, Receipt]] = []
    dice = random.Random(9)  # noqa: S311  # when to kill, not a secret
    with listening() as listener, callers(listener, keys, acks):
        for round_ in range(1, 6):
            with serving(listener, tmp_path):
                wait_for(acks, 15 * round_)
                time.sleep(dice.uniform(0, 0.03))
    verify_log(tmp_path, keys, acks)


@contextmanager
def callers(
    listener: socket.socket,
    keys: FileKeys,
    acks: list[tuple[str, Receipt]],
) -> Iterator[None]:
    """Post events from four threads, each again until it has a receipt."""
    stop = threading.Event()
    auditor = HttpAuditor(url_of(listener))

    def call(prefix: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            event = started(keys, f"{prefix}-{number}")
            while not stop.is_set():
                try:
                    acks.append((event.id, auditor.receipt(event, timeout=1)))
                    break
                except NoReceipt:
                    time.sleep(0.01)

    threads = [threading.Thread(target=call, args=(f"c{each}",)) for each in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wait_for(acks: list[tuple[str, Receipt]], number: int) -> None:
    deadline = time.monotonic() + 30
    while len(acks) < number and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(acks) >= number


def verify_log(
    folder: Path,
    keys: FileKeys,
    acks: list[tuple[str, Receipt]],
) -> None:
    """Check the whole log offline, and that each ack is where it says."""
    store = Store.open(f"sqlite:///{folder}/audit.db")
    with store.reading("acme") as db:
        size = size_of(db, "acme")
        note = note_of(db, "acme", size)
        entries = select_entries(db, Selection("acme"), size)
    store.close()
    known = log_verifiers("acme", keys)
    leaves = [entry.leaf for entry in entries]
    verify_entries(leaves, note, known)
    assert [entry.index for entry in entries] == list(range(size))
    ids = [json.loads(leaf)["id"] for leaf in leaves]
    assert len(set(ids)) == size
    for name, receipt in acks:
        assert ids[receipt.index] == name
        assert entries[receipt.index].leaf_hash.hex() == receipt.leaf_hash
        covered = int(receipt.checkpoint.split("\n")[1])
        verify_entries(leaves[:covered], receipt.checkpoint, known)


def test_health_is_up_without_a_database(tmp_path: Path, keys: FileKeys) -> None:
    """A database that does not open takes away receipts, not the process."""
    (tmp_path / "audit.db").mkdir()
    with listening() as listener, serving(listener, tmp_path):
        host, port = listener.getsockname()
        connection = http.client.HTTPConnection(host, port, timeout=30)
        for path, status in (("/health/ready", 204), ("/metrics", 200)):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
        connection.close()
        auditor, event = HttpAuditor(url_of(listener)), started(keys, "x")
        with pytest.raises(NoReceipt, match="503"):
            auditor.receipt(event, timeout=30)
