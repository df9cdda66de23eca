"""A server of S3's protocol: moto's, made to keep what it lacks of S3's promises.

`python tests/storage/s3_server.py` prints its port and serves until it is ended.
What is added to moto:

* a condition and the write that it guards are one step, whoever comes between;
* the completion of an upload in parts minds `If-Match`;
* a body is checked against the checksum that came with it.

And for buckets named `old-…` something is taken away: as with MinIO's last free
releases, a deletion there minds no condition.
"""

from __future__ import annotations

import base64
import io
import sys
import threading
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from moto.backends import get_backend
from moto.moto_server import werkzeug_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from collections.abc import Iterable

ACCOUNT = "123456789012"
_CHANGES = frozenset({"PUT", "POST", "DELETE"})


class Quiet(WSGIRequestHandler):
    """Keeps connections open, and says nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002  # its name
        pass


class Strict:
    """The WSGI application."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in _CHANGES:
            answer: Iterable[bytes] = self._inner(environ, start)
            return answer
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        with self._lock:
            if refused := self._refused(environ, body):
                return refused(environ, start)
            # Not a generator: all of it happens here, under the lock.
            return list(self._inner(environ, start))

    def _refused(self, environ: dict[str, Any], body: bytes) -> Response | None:
        query = parse_qs(environ["QUERY_STRING"])
        if not self._is_intact(environ, body) and "uploadId" not in query:
            return problem(400, "BadDigest")
        if "partNumber" in query and not self._is_intact(environ, body):
            return problem(400, "BadDigest")
        path = environ["PATH_INFO"].encode("latin-1").decode()
        _, bucket, key = (*path.split("/", 2), "")[:3]
        if environ["REQUEST_METHOD"] == "DELETE" and bucket.startswith("old-"):
            environ.pop("HTTP_IF_MATCH", None)
        expected = environ.get("HTTP_IF_MATCH")
        if environ["REQUEST_METHOD"] == "POST" and "uploadId" in query and expected:
            there = get_backend("s3")[ACCOUNT]["aws"].get_object(bucket, key)
            if there is None:
                return problem(404, "NoSuchKey")
            if there.etag != expected:
                return problem(412, "PreconditionFailed")
        return None

    def _is_intact(self, environ: dict[str, Any], body: bytes) -> bool:
        expected = environ.get("HTTP_X_AMZ_CHECKSUM_CRC32")
        found = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        return expected in (None, found)


def problem(status: int, code: str) -> Response:
    """Return an answer as S3 words its refusals."""
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return Response(head + text, status, content_type="application/xml")


def main() -> None:
    """Serve on a free port of this machine until ended."""
    inner = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)
    server = make_server(
        "127.0.0.1", 0, Strict(inner), threaded=True, request_handler=Quiet
    )
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
