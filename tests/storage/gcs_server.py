"""A server of Google's JSON API for objects, as far as a store needs it.

`python tests/storage/gcs_server.py BUCKET` prints its port and serves until ended.
It is written from Google's reference of the API and held against Google's own
storage-testbench (`docs/stores.md`).  What matters here it enforces: generations,
also of an upload in chunks when it is finished; checksums that came along; and
nothing is to be seen of an upload before it is whole.
"""

from __future__ import annotations

import base64
import email
import hashlib
import json
import re
import secrets
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MESSAGES = {
    "notFound": (404, "No such object"),
    "noBucket": (404, "The specified bucket does not exist."),
    "conditionNotMet": (412, "At least one of the pre-conditions did not hold."),
    "requestedRangeNotSatisfiable": (416, "The requested range cannot be satisfied."),
    "invalid": (400, "Provided CRC32C does not match what was calculated."),
    "forbidden": (403, "Nobody does not have storage.objects access."),
    "authError": (401, "Invalid Credentials"),
    "rateLimitExceeded": (429, "The rate of change is over the limit."),
    "userRateLimitExceeded": (403, "User Rate Limit Exceeded"),
    "backendError": (503, "Backend Error"),
    "internalError": (500, "We encountered an internal error."),
    "badRequest": (400, "Bad Request"),
    "gone": (410, "Start the upload over."),
}


class Refusal(Exception):
    """An answer that is an error, by Google's name of its reason."""


@dataclass(frozen=True)
class Stored:
    """One generation of an object."""

    data: bytes
    generation: int
    updated: str
    metadata: Mapping[str, str]

    @cached_property
    def crc32c(self) -> str:
        return base64.b64encode(
            google_crc32c.value(self.data).to_bytes(4, "big")
        ).decode()

    @cached_property
    def md5(self) -> str:
        digest = hashlib.md5(self.data, usedforsecurity=False).digest()
        return base64.b64encode(digest).decode()


@dataclass
class Upload:
    """An upload in chunks that is not finished."""

    bucket: str
    resource: dict[str, Any]
    condition: str | None
    data: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None


@dataclass
class Service:
    """The buckets, and what is to go wrong."""

    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What a bucket says of itself, besides its name."""
    requests: list[str] = field(default_factory=list)
    refusals: deque[str] = field(default_factory=deque)
    """Reasons for which the next requests are refused, whatever they are."""
    keeps: int = 2**62
    """How much of a chunk is kept; the rest is to be sent again."""
    silent_of_checksums: bool = False
    endpoint: str = ""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self._generation = 0

    def fail(self) -> None:
        """Refuse if it is time to."""
        if self.refusals:
            raise Refusal(self.refusals.popleft())

    def bucket(self, name: str) -> str:
        """Make a bucket, and return its name."""
        self.buckets[name] = {}
        return name

    def objects(self, bucket: str) -> dict[str, Stored]:
        """Return what is in a bucket."""
        if bucket not in self.buckets:
            raise Refusal("noBucket")
        return self.buckets[bucket]

    def found(self, bucket: str, name: str, query: Mapping[str, str]) -> Stored:
        """Return the generation that is asked for, or the one there is."""
        stored = self.objects(bucket).get(name)
        wanted = query.get("generation")
        if stored is None or (wanted and int(wanted) != stored.generation):
            raise Refusal("notFound")
        self.expect(stored, query.get("ifGenerationMatch"))
        return stored

    def expect(self, stored: Stored | None, condition: str | None) -> None:
        """Refuse unless `condition` holds."""
        generation = stored.generation if stored else 0
        if condition is not None and int(condition) != generation:
            raise Refusal("conditionNotMet")

    def write(
        self, bucket: str, resource: dict[str, Any], data: bytes, condition: str | None
    ) -> dict[str, Any]:
        """Make a new generation if the condition holds and the checksum is right."""
        with self.lock:
            objects, name = self.objects(bucket), resource["name"]
            self.expect(objects.get(name), condition)
            self._generation = max(self._generation + 1, time.time_ns() // 1000)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            stored = Stored(
                data,
                self._generation,
                now.replace("+00:00", "Z"),
                resource.get("metadata", {}),
            )
            if resource.get("crc32c", stored.crc32c) != stored.crc32c:
                raise Refusal("invalid")
            objects[name] = stored
        return described(bucket, name, stored)

    def delete(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        """Delete the object if the condition holds."""
        with self.lock:
            self.found(bucket, name, query)
            del self.objects(bucket)[name]

    def listed(self, bucket: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of objects in the order of their names' UTF-8."""
        with self.lock:
            objects = dict(self.objects(bucket))
        start = max(query.get("startOffset", ""), query.get("pageToken", ""))
        prefix, count = query.get("prefix", ""), int(query.get("maxResults", "1000"))
        names = sorted(n for n in objects if n.startswith(prefix) and n >= start)
        items = [described(bucket, name, objects[name]) for name in names[:count]]
        page = {"kind": "storage#objects", "items": items}
        return page | ({"nextPageToken": names[count]} if len(names) > count else {})


def described(bucket: str, name: str, stored: Stored) -> dict[str, Any]:
    """Return the resource of an object; 64-bit numbers are text."""
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "generation": str(stored.generation),
        "metageneration": "1",
        "size": str(len(stored.data)),
        "crc32c": stored.crc32c,
        "md5Hash": stored.md5,
        "metadata": dict(stored.metadata),
        "timeCreated": stored.updated,
        "updated": stored.updated,
    }


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets: 40 ms each time
    service: Service

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name
        """Say nothing."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.query = {k: v[0] for k, v in parse_qs(url.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.service.requests.append(f"{self.command} {self.path}")
        kind, parts = route(url.path)
        try:
            self.service.fail()
            getattr(self, f"_{self.command.lower()}_{kind}")(*parts)
        except Refusal as refusal:
            self._refuse(str(refusal))

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815  # their names

    def _get_bucket(self, bucket: str) -> None:
        self.service.objects(bucket)
        said = self.service.resources.get(bucket, {})
        self._json({"kind": "storage#bucket", "name": bucket} | said)

    def _get_list(self, bucket: str) -> None:
        self._json(self.service.listed(bucket, self.query))

    def _get_object(self, bucket: str, name: str) -> None:
        stored = self.service.found(bucket, name, self.query)
        self._json(described(bucket, name, stored))

    def _delete_object(self, bucket: str, name: str) -> None:
        self.service.delete(bucket, name, self.query)
        self._send(204)

    def _get_media(self, bucket: str, name: str) -> None:
        stored = self.service.found(bucket, name, self.query)
        headers = {"X-Goog-Generation": str(stored.generation)}
        if not self.service.silent_of_checksums:
            headers["X-Goog-Hash"] = f"crc32c={stored.crc32c},md5={stored.md5}"
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._send(200, stored.data, "application/octet-stream", headers)
            return
        start, size = int(asked[1]), len(stored.data)
        if start >= size:
            raise Refusal("requestedRangeNotSatisfiable")
        end = min(int(asked[2] or size), size - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        data = stored.data[start : end + 1]
        self._send(206, data, "application/octet-stream", headers)

    def _post_upload(self, bucket: str) -> None:
        condition = self.query.get("ifGenerationMatch")
        if self.query["uploadType"] == "multipart":
            resource, data = related(self.headers["Content-Type"], self.body)
            self._json(self.service.write(bucket, resource, data, condition))
            return
        self.service.objects(bucket)
        name = secrets.token_hex(16)
        resource = json.loads(self.body)
        self.service.uploads[name] = Upload(bucket, resource, condition)
        host = f"http://{self.headers['Host']}"
        self._send(200, headers={"Location": f"{host}{self.path}&upload_id={name}"})

    def _put_upload(self, _bucket: str) -> None:
        upload = self.service.uploads.get(self.query["upload_id"])
        if upload is None:
            raise Refusal("gone")
        if upload.done is None:
            self._keep(upload)
        if upload.done is not None:
            self._json(upload.done)
            return
        kept = len(upload.data)
        self._send(308, headers={"Range": f"bytes=0-{kept - 1}"} if kept else {})

    def _keep(self, upload: Upload) -> None:
        asked = re.fullmatch(
            r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", self.headers["Content-Range"]
        )
        if asked is None or len(upload.data) < int(asked[1] or 0):
            raise Refusal("badRequest")
        if asked[1]:
            new = self.body[len(upload.data) - int(asked[1]) :]
            upload.data += new[: self.service.keeps]
        if asked[2] == str(len(upload.data)):
            checksum = self.headers.get("X-Goog-Hash", "").removeprefix("crc32c=")
            resource = upload.resource | ({"crc32c": checksum} if checksum else {})
            data = bytes(upload.data)
            upload.done = self.service.write(
                upload.bucket, resource, data, upload.condition
            )
            upload.data.clear()

    def _delete_upload(self, _bucket: str) -> None:
        self.service.uploads.pop(self.query["upload_id"], None)
        self._send(499)

    def _json(self, document: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(document).encode(), "application/json")

    def _refuse(self, reason: str) -> None:
        status, message = _MESSAGES[reason]
        reason = "notFound" if reason == "noBucket" else reason
        errors = [{"message": message, "domain": "global", "reason": reason}]
        error = {"code": status, "message": message, "errors": errors}
        self._json({"error": error}, status)

    def _send(
        self,
        status: int,
        data: bytes = b"",
        kind: str = "text/plain",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status, "Answered")
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def route(path: str) -> tuple[str, list[str]]:
    """Return what a path is of, and the names in it."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    match parts:
        case ["storage", "v1", "b", bucket]:
            return "bucket", [bucket]
        case ["storage", "v1", "b", bucket, "o"]:
            return "list", [bucket]
        case ["storage", "v1", "b", bucket, "o", name]:
            return "object", [bucket, name]
        case ["download", "storage", "v1", "b", bucket, "o", name]:
            return "media", [bucket, name]
        case ["upload", "storage", "v1", "b", bucket, "o"]:
            return "upload", [bucket]
    raise Refusal("badRequest")


def related(kind: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the resource and the bytes in a `multipart/related` body."""
    boundary = email.message_from_string(f"Content-Type: {kind}").get_boundary()
    assert boundary is not None
    line = b"--" + boundary.encode()
    _, resource, data, _ = body.split(line, 3)
    head, _, data = data.partition(b"\r\n\r\n")
    assert head
    return json.loads(resource.partition(b"\r\n\r\n")[2]), data[: -len(b"\r\n")]


class Server(ThreadingHTTPServer):
    """A socket that a crowd may connect to at once."""

    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving() -> Iterator[Service]:
    """Yield a service, served on a port of its own."""
    service = Service()
    handler = type("Bound", (Handler,), {"service": service})
    with Server(("127.0.0.1", 0), handler) as server:
        service.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield service
        server.shutdown()
        thread.join()


if __name__ == "__main__":
    with serving() as served:
        served.bucket(sys.argv[1])
        print(urlsplit(served.endpoint).port, flush=True)  # noqa: T201  # what is asked
        threading.Event().wait()
