"""Large objects by the chunk: a session to send, and a stream that checks itself."""

from __future__ import annotations

import base64
import io
import logging
import re
from typing import TYPE_CHECKING, Any, Final

import google_crc32c
import requests
from google.api_core import exceptions as google

from functions.problems import NotFound, Problem
from functions.storage.base import (
    PIECE_BYTES,
    StoreBusy,
    StoreDamaged,
    StoreUnreachable,
)
from functions.storage.gcs_client import tried, wait, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from google.cloud.storage import Blob, Bucket

    from functions.storage.gcs_client import Patience

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 8 * PIECE_BYTES
"""A multiple of 256 KiB, as a session asks of every chunk but the last."""
_RANGE: Final = re.compile(r"bytes=0-([0-9]+)")
_MORE: Final = requests.codes.permanent_redirect
_DONE: Final = (requests.codes.ok, requests.codes.created)
_LOST: Final = -1
_GONE: Final = (requests.codes.not_found, requests.codes.gone)


class Checksum:
    """The CRC-32C of what has passed so far."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        """Take `data` in."""
        self._value = google_crc32c.extend(self._value, data)

    def __str__(self) -> str:
        """Return it as Google writes it: base64 of four bytes, the highest first."""
        return base64.b64encode(self._value.to_bytes(4, "big")).decode()


def checksum(data: bytes) -> str:
    """Return the CRC-32C of `data` as Google writes it."""
    found = Checksum()
    found.update(data)
    return str(found)


class Download(io.RawIOBase):
    """One generation of an object, fetched a chunk at a time.

    The first chunk says which generation it is of, and what the CRC-32C of the
    whole is; the rest is asked for by that generation, and the last read checks.
    A chunk that breaks off is fetched again.  Raises `NotFound` when it is made.
    """

    def __init__(
        self,
        what: str,
        place: tuple[Bucket, str],
        patience: Patience,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        super().__init__()
        self._what = what
        self._bucket, self._name = place
        self._patience = patience
        self._chunk_bytes = chunk_bytes
        self._offset = 0
        self._sum = Checksum()
        blob, self._chunk = tried(what, patience, lambda _: self._first())
        self.generation = int(blob.generation)
        self._expected: str = blob.crc32c
        self._left = memoryview(self._chunk)

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  # as RawIOBase has it
        """Read up to as many bytes as there is room; 0 is the end."""
        if not self._left:
            self._left = memoryview(self._next())
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def chunks(self) -> Iterator[bytes]:
        """Yield all of it, chunk by chunk as they come."""
        while self._chunk:
            yield self._chunk
            self._next()

    def _next(self) -> bytes:
        """Take the chunk there is into account, and return the one after it."""
        self._offset += len(self._chunk)
        self._sum.update(self._chunk)
        is_last = len(self._chunk) < self._chunk_bytes
        self._chunk = b"" if is_last else self._fetched()
        if not self._chunk and str(self._sum) != self._expected:
            raise StoreDamaged(internal=f"{self._what}: its bytes are not its CRC-32C")
        return self._chunk

    def _fetched(self) -> bytes:
        blob = self._bucket.blob(self._name, generation=self.generation)
        try:
            return tried(self._what, self._patience, lambda _: self._fetch(blob))
        except NotFound as error:
            raise StoreUnreachable(
                internal=f"{self._what}: overwritten or deleted while it was read"
            ) from error

    def _first(self) -> tuple[Blob, bytes]:
        blob = self._bucket.blob(self._name)
        data = self._fetch(blob)
        if not blob.crc32c:  # nothing is in it, or whoever sent it did not say
            blob.reload(timeout=self._patience.timeout, retry=None)
        return blob, data

    def _fetch(self, blob: Blob) -> bytes:
        """Return the chunk at the offset, nothing at and after the end."""
        try:
            data: bytes = blob.download_as_bytes(
                start=self._offset,
                end=self._offset + self._chunk_bytes - 1,
                raw_download=True,
                checksum=None,  # the client has none for a part
                timeout=self._patience.timeout,
                retry=None,
            )
        except google.RequestRangeNotSatisfiable:
            return b""
        return data


class Session:
    """A resumable upload: sent chunk by chunk, and whole only after the last.

    A chunk of which no answer came is not sent anew: the service is asked how far
    it got.  Leaving with an error gives the upload up.
    """

    def __init__(self, what: str, url: str, patience: Patience) -> None:
        self._what = what
        self._url = url
        self._patience = patience
        self._http = requests.Session()  # the URL itself says who we are
        self._kept = 0
        self._sum = Checksum()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the connection, and of the upload if something went wrong."""
        with self._http:
            if kind is not None:
                self._give_up()

    def send(self, chunk: bytes, *, is_last: bool) -> dict[str, Any]:
        """Send the next chunk; return the object's resource after the last."""
        self._sum.update(chunk)
        start, end = self._kept, self._kept + len(chunk)
        total = end if is_last else None
        failures, is_asking = 0, False
        while self._kept < end or is_last:
            kept = self._kept
            try:
                rest = b"" if is_asking else chunk[kept - start :]
                if resource := self._asked(rest, total, is_asking=is_asking):
                    return resource
            except (StoreBusy, StoreUnreachable):
                failures += 1
                if failures == self._patience.tries:
                    raise
                wait(failures)
                is_asking = True
                continue
            if not start <= self._kept <= end:
                raise StoreUnreachable(internal=f"{self._what}: the upload is lost")
            failures = 0 if self._kept > kept else failures
            is_asking = False
        return {}

    def _asked(
        self, data: bytes, total: int | None, *, is_asking: bool
    ) -> dict[str, Any]:
        """Do `_put`, and be sure that something came of it."""
        kept = self._kept
        with wrapped(self._what):
            resource = self._put(data, total)
        if not resource and not is_asking and self._kept == kept:
            raise StoreUnreachable(internal=f"{self._what}: nothing of it is kept")
        return resource

    def _put(self, data: bytes, total: int | None) -> dict[str, Any]:
        """Send `data` after what is kept (or ask); return the resource once there."""
        span = f"{self._kept}-{self._kept + len(data) - 1}" if data else "*"
        size = "*" if total is None else str(total)
        headers = {"Content-Range": f"bytes {span}/{size}"}
        if total is not None:
            headers["X-Goog-Hash"] = f"crc32c={self._sum}"
        answer = self._http.put(
            self._url,
            data=data,
            headers=headers,
            timeout=self._patience.timeout,
            allow_redirects=False,
        )
        if answer.status_code == _MORE:
            found = _RANGE.fullmatch(answer.headers.get("Range", ""))
            self._kept = int(found[1]) + 1 if found else 0
            return {}
        if answer.status_code in _DONE:
            resource: dict[str, Any] = answer.json()
            return resource
        if answer.status_code in _GONE:
            self._kept = _LOST
            return {}
        raise google.from_http_response(answer)  # type: ignore[no-untyped-call]

    def _give_up(self) -> None:
        try:
            with wrapped(self._what):
                self._http.delete(self._url, timeout=self._patience.timeout)
        except Problem:  # why it is given up matters more
            log.warning("%s: an upload is left for a week", self._what, exc_info=True)


def chunks(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield what comes in pieces as chunks of one size, and whether each is the last.

    There is always one, if only an empty one.
    """
    chunk = bytearray()
    for piece in pieces:
        chunk += piece
        while len(chunk) > CHUNK_BYTES:
            yield bytes(chunk[:CHUNK_BYTES]), False
            del chunk[:CHUNK_BYTES]
    yield bytes(chunk), True
