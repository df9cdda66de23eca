"""The function as it is deployed: gunicorn, a socket, files, and kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.auth import jwks_document
from functions.billing.ledger import Ledger, Selection
from functions.keys import FileKeys
from functions.sink import post_event
from tests.billing.house import usage_data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    *("--log-level", "critical", "--no-control-socket"),
)
APP = "functions.billing.app:create_app()"
EVENTS = 12


def test_importing_the_app_imports_nothing_heavy() -> None:
    """What the first event needs is loaded on a thread, after the socket is served."""
    code = "import functions.billing.app, sys; print(*sys.modules)"
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert HEAVY.isdisjoint(out.split())


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    """Return the keys of a deployment."""
    made = FileKeys(tmp_path / "keys")
    made.create("events/acme")
    issuer = made.create("tokens")
    (tmp_path / "jwks.json").write_text(json.dumps(jwks_document(issuer)))
    return made


@contextmanager
def serving(listener: socket.socket, folder: Path) -> Iterator[None]:
    """Run the function on a socket, and kill -9 all of it at the end."""
    settings = {
        "GUISE_DATABASE": f"sqlite:///{folder}/billing.db",
        "GUISE_KEYS": f"{folder}/keys",
        "GUISE_JWKS": f"{folder}/jwks.json",
        "GUISE_ISSUER": "guise",
    }
    bind = ("--bind", f"fd://{listener.fileno()}")
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *bind, *GUNICORN, APP],
        env=os.environ | settings,
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_what_was_acknowledged_before_kill_9_is_counted_once(
    tmp_path: Path,
    keys: FileKeys,
) -> None:
    """Each process is killed after its acks, and each event comes again after it."""
    signer = keys.signer("events/acme")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1/tenants/acme/events"
        for last in (EVENTS // 2, EVENTS):
            with serving(listener, tmp_path):
                for each in range(last):
                    event = events.Event(
                        id=f"u{each}",
                        source=events.swap_source("acme"),
                        type=events.USAGE_RECORDED,
                        subject="acme",
                        time="2026-01-01T00:00:00Z",
                        tenant="acme",
                        data=usage_data(),
                    )
                    signed = events.sign(event, signer)
                    assert post_event(url, signed, timeout=30).status == 204
    ledger = Ledger.open(f"sqlite:///{tmp_path}/billing.db")
    assert ledger.sums(Selection("acme", 0, 2**53))[0].sum.events == EVENTS
    ledger.close()
