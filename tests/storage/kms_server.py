"""A server of Google Cloud KMS's REST API, as far as a ring needs it.

Written from the API's reference (cloud.google.com/kms/docs/reference/rest/v1):
`cryptoKeys.encrypt`, `.decrypt`, `.updatePrimaryVersion`; `cryptoKeyVersions.create`,
`.list`, `.destroy`.  What matters here it enforces: additional authenticated data,
checksums that came along, states of versions.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/guise-{tenant}"
_PATH = re.compile(
    r"/v1/(?P<key>projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/:]+)"
    r"(?:/cryptoKeyVersions(?:/(?P<version>\d+))?)?(?::(?P<verb>\w+))?"
)


class Refusal(Exception):
    """An answer that is an error: status and message."""


@dataclass
class CryptoKey:
    """A key's versions, their states, and which is primary."""

    versions: dict[str, AESGCM] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    primary: str = "1"

    def create(self) -> str:
        number = str(len(self.versions) + 1)
        self.versions[number] = AESGCM(AESGCM.generate_key(256))
        self.states[number] = "ENABLED"
        return number


@dataclass
class Service:
    """What is there, what was asked, and what is to go wrong."""

    endpoint: str = ""
    keys: dict[str, CryptoKey] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    faults: list[Any] = field(default_factory=list)
    """In place of the next answers: a status, it and a body, or what changes one."""
    page: int = 1_000

    def key(self, tenant: str) -> str:
        """Make a tenant's key, and return its name."""
        name = KEY.replace("{tenant}", tenant)
        self.keys[name] = CryptoKey()
        self.keys[name].create()
        return name

    def answer(self, method: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
        parts = urlsplit(url)
        match = _PATH.fullmatch(parts.path)
        if match is None:
            raise Refusal(404, "no such method")
        name, version, verb = match["key"], match["version"], match["verb"]
        self.asked.append(f"{method} {verb or 'cryptoKeyVersions'}")
        key = self.keys.get(name)
        if key is None:
            raise Refusal(404, f"{name} not found.")
        if verb == "encrypt":
            return _encrypt(name, key, body)
        if verb == "decrypt":
            return _decrypt(key, body)
        if verb == "updatePrimaryVersion":
            key.primary = body["cryptoKeyVersionId"]
            return {"name": name}
        if verb == "destroy":
            key.states[version] = "DESTROY_SCHEDULED"
            return self._version(name, version)
        if method == "POST":
            return self._version(name, key.create())
        return self._listed(name, parse_qs(parts.query).get("pageToken", ["0"])[0])

    def _listed(self, name: str, token: str) -> dict[str, Any]:
        numbers = list(self.keys[name].versions)
        start = int(token)
        found = numbers[start : start + self.page]
        more = str(start + self.page) if start + self.page < len(numbers) else ""
        listed = [self._version(name, number) for number in found]
        return {"cryptoKeyVersions": listed, "nextPageToken": more}

    def _version(self, name: str, number: str) -> dict[str, Any]:
        state = self.keys[name].states[number]
        return {"name": f"{name}/cryptoKeyVersions/{number}", "state": state}


def checksum(data: bytes) -> str:
    return str(google_crc32c.value(data))


def _checked(body: dict[str, Any], name: str) -> bytes:
    data = base64.b64decode(body.get(name, ""), validate=True)
    if checksum(data) != body.get(f"{name}Crc32c"):
        raise Refusal(400, f"The checksum in field {name}_crc32c did not match.")
    return data


def _encrypt(name: str, key: CryptoKey, body: dict[str, Any]) -> dict[str, Any]:
    data, bound = (
        _checked(body, n) for n in ("plaintext", "additionalAuthenticatedData")
    )
    if key.states[key.primary] != "ENABLED":
        raise Refusal(400, "The primary version is not enabled.")
    nonce = os.urandom(12)
    sealed = key.versions[key.primary].encrypt(nonce, data, bound)
    text = int(key.primary).to_bytes(4, "big") + nonce + sealed
    return {
        "name": f"{name}/cryptoKeyVersions/{key.primary}",
        "ciphertext": base64.b64encode(text).decode(),
        "ciphertextCrc32c": checksum(text),
        "verifiedPlaintextCrc32c": True,
        "verifiedAdditionalAuthenticatedDataCrc32c": True,
        "protectionLevel": "SOFTWARE",
    }


def _decrypt(key: CryptoKey, body: dict[str, Any]) -> dict[str, Any]:
    text, bound = (
        _checked(body, n) for n in ("ciphertext", "additionalAuthenticatedData")
    )
    number = str(int.from_bytes(text[:4], "big"))
    if key.states.get(number) != "ENABLED":
        raise Refusal(
            400, f"version {number} is not enabled, current state is: DESTROYED."
        )
    try:
        data = key.versions[number].decrypt(text[4:16], text[16:], bound)
    except InvalidTag:
        raise Refusal(400, "Decryption failed: the ciphertext is invalid.") from None
    return {
        "plaintext": base64.b64encode(data).decode(),
        "plaintextCrc32c": checksum(data),
        "usedPrimary": number == key.primary,
    }


def _refuse(fault: Any) -> None:
    if isinstance(fault, int):
        raise Refusal(fault, "as was asked for")


@contextmanager
def serving() -> Iterator[Service]:
    """Yield a service whose endpoint answers."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(size) or b"{}")
            fault = service.faults.pop(0) if service.faults else None
            try:
                _refuse(fault)
                if isinstance(fault, tuple):
                    self._send(*fault)
                    return
                found = service.answer(method, self.path, body)
                if fault is not None:
                    fault(found)
                self._send(200, json.dumps(found).encode())
            except Refusal as refusal:
                status, message = refusal.args
                error = {"error": {"code": status, "message": message}}
                self._send(status, json.dumps(error).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    service.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
