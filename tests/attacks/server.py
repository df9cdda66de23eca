"""The door as a cluster runs it: the manifest's gunicorn at a socket, and raw bytes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Final

import knative
from functions.auth import SWAP_READ, SWAP_WRITE, issue_token, jwks_document
from functions.keys import FileKeys, events_key
from functions.local import manifests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ISSUER: Final = "https://id.example"
CRLF: Final = b"\r\n"
_START_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A door that listens, and a good token of acme's and of another tenant's."""

    port: int
    token: str
    other: str
    log: Path

    def connect(self) -> socket.socket:
        """Return a fresh connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, raw: bytes) -> bytes:
        """Send bytes as they are; return all that comes until the server is done."""
        with self.connect() as made:
            with suppress(OSError):  # it may have hung up before the end
                made.sendall(raw)
                made.shutdown(socket.SHUT_WR)
            return rest(made)

    def ask(self, *lines: str, target: str = "/v1/swaps", body: bytes = b"") -> bytes:
        """Send a GET with a good token and more header lines, as they are."""
        head = [f"GET {target} HTTP/1.1", "Host: door", *lines]
        if not any("authorization" in line.lower() for line in lines):
            head.append(f"Authorization: Bearer {self.token}")
        raw = "".join(f"{line}\r\n" for line in [*head, "Connection: close"])
        return self.send(raw.encode("latin-1") + CRLF + body)


def answered(made: socket.socket) -> int:
    """Read one whole answer, in however many pieces it comes; return its status."""
    answer = HTTPResponse(made)
    answer.begin()
    answer.read()
    return answer.status


def rest(made: socket.socket) -> bytes:
    """Return what comes on a connection until its end."""
    found = b""
    with suppress(ConnectionError):
        while data := made.recv(65_536):
            found += data
    return found


def statuses(answer: bytes) -> list[int]:
    """Return the status of each answer on a connection, in their order."""
    lines = [line for line in answer.split(CRLF) if line.startswith(b"HTTP/1.")]
    return [int(line.split()[1]) for line in lines]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve the door by its manifest; a store in a folder, nobody behind it."""
    keys = FileKeys(folder / "keys")
    issuer = keys.create("tokens")
    (folder / "jwks.json").write_text(json.dumps(jwks_document(issuer)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = "http://127.0.0.1:9"
    tenants = folder / "tenants"
    tenants.mkdir()
    for tenant in ("acme", "umbra"):
        (tenants / f"{tenant}.yaml").write_text(f"id: {tenant}\n")
        keys.create(events_key(tenant))
    settings = {
        "GUISE_STORE": f"file://{folder}/store/{{tenant}}",
        "GUISE_TENANTS": str(tenants),
        "GUISE_KEYS": f"{folder}/keys",
        "GUISE_JWKS": f"{folder}/jwks.json",
        "GUISE_ISSUER": ISSUER,
        "GUISE_WORKER_URL": nobody,
        "GUISE_AUDIT_URL": nobody,
        "K_SINK": nobody,
        "PORT": str(port),
    }
    values = {"tenant": "acme", "prefix": ""}
    found = manifests.read(knative.folder() / manifests.TENANT, values).services
    [door] = [each for each in found if each.name == "door"]
    log = folder / "door.log"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *door.args],
            env=os.environ | settings,
            stdout=file,
            stderr=file,
        ) as process,
    ):
        try:
            server = Server(port, _token(keys), _token(keys, "umbra"), log)
            _await(server)
            yield server
        finally:
            process.terminate()


def _token(keys: FileKeys, tenant: str = "acme") -> str:
    claims = {
        "iss": ISSUER,
        "aud": "guise",
        "sub": "ann",
        "tenant": tenant,
        "scope": f"{SWAP_READ} {SWAP_WRITE}",
        "exp": int(time.time()) + 3600,
    }
    return issue_token(keys.signer("tokens"), claims)


def _await(server: Server) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            if statuses(server.ask()) == [200]:
                return
        time.sleep(0.05)
    raise TimeoutError(server.log.read_text())
