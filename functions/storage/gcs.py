"""A store in a bucket of Google Cloud Storage.

An object's generation is Google's own: each write has a new one, and a condition
names exactly one (0: none).  Bytes are checked by their CRC-32C both ways.

What had no answer is tried again.  A conditional write that was done the first
time then finds itself there: each write carries a random word, by which it knows
itself from one with the same bytes.
"""

from __future__ import annotations

import io
import secrets
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from google.api_core import exceptions as google

from functions.problems import Changed, InvalidRequest, NotFound, TooLarge
from functions.storage.base import (
    PIECE_BYTES,
    Info,
    Object,
    Page,
    StoreDamaged,
    StoreMissing,
    is_key,
    pieces,
)
from functions.storage.gcs_client import Patience, client, tried
from functions.storage.gcs_stream import (
    CHUNK_BYTES,
    Checksum,
    Download,
    Session,
    checksum,
    chunks,
)
from functions.storage.protection import Protection
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.cloud.storage import Blob, Bucket

T = TypeVar("T")

WORD: Final = "guise-write"
"""The name of the metadata that tells one write from another."""
_TYPE: Final = "application/octet-stream"
_GENERATION_MAX: Final = 2**63 - 1
_PAGE_MAX: Final = 1000
_FIELDS: Final = "items(name,size,generation,updated),nextPageToken"
_PATIENCE: Final = Patience()


class GcsStore:
    """A `Store` in `bucket`, all of whose objects' names begin with `prefix`.

    `prefix` is empty or ends with a slash.  `endpoint` is empty for Google itself.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint: str = "",
        patience: Patience = _PATIENCE,
    ) -> None:
        self._name = bucket
        self._prefix = prefix
        self._endpoint = endpoint
        self._patience = patience
        self._asked: dict[str, Any] = {"timeout": patience.timeout, "retry": None}
        self._is_there = False

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        """Return the object, or raise `NotFound` or `TooLarge`."""
        # One byte over the limit is enough to know.
        step = CHUNK_BYTES if bytes_max is None else min(CHUNK_BYTES, bytes_max + 1)
        found = bytearray()
        with self._download(key, step) as body:
            for chunk in body.chunks():
                found += chunk
                if bytes_max is not None and len(found) > bytes_max:
                    raise TooLarge(f"{key} is over {bytes_max} bytes")
            return Object(bytes(found), body.generation)

    @contextmanager
    def open(self, key: Key) -> Iterator[BinaryIO]:
        """Yield a stream of the object's bytes, or raise `NotFound`."""
        with io.BufferedReader(self._download(key), PIECE_BYTES) as stream:
            yield stream

    def head(self, key: Key) -> Info:
        """Return what is known of the object, or raise `NotFound`."""
        blob = self._found(key)
        return Info(key, blob.size or 0, blob.generation, blob.updated.timestamp())

    def put(self, key: Key, data: bytes) -> int:
        """Write the object whatever was there."""
        return self._put(key, data, None)

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Write the object if there is none, or raise `Changed`."""
        return self._put(key, data, 0)

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        """Write over exactly `generation` (0: none), or raise `Changed`."""
        return self._put(key, data, generation)

    def put_from(
        self,
        key: Key,
        stream: BinaryIO,
        *,
        bytes_max: int | None = None,
        generation: int | None = None,
    ) -> int:
        """Write all that `stream` gives as one object, in chunks if it is large."""
        found = chunks(pieces(key, stream, bytes_max))
        first, is_whole = next(found)
        if is_whole:
            return self._put(key, first, generation)
        return self._send(key, chain([(first, False)], found), generation)

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""
        try:
            self._call(key, lambda _: self._blob(key).delete(**self._asked))
        except NotFound:
            return

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`.

        Where the answer was lost, that it is gone is all that can be known, and
        `Changed`: of several who would delete it none wins who did not.
        """
        if generation == 0:
            self._expect_none(key)
            return
        _expect_possible(key, generation)
        try:
            self._call(
                key,
                lambda _: self._blob(key).delete(
                    if_generation_match=generation, **self._asked
                ),
            )
        except NotFound as error:
            raise Changed(internal=f"{key} is gone") from error

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        count = min(limit, _PAGE_MAX)
        # Google begins with what is called so; we begin after it.
        begun = self._prefix + cursor
        start = begun if cursor else None
        try:
            blobs = tried(
                f"{self._name}/",
                self._patience,
                lambda _: self._listed(prefix, start, count + 2),
            )
        except NotFound as error:
            raise StoreMissing(internal=f"no bucket {self._name}") from error
        self._is_there = True
        found = [blob for blob in blobs if not cursor or blob.name != begun]
        last = found[count - 1].name if len(found) > count else ""
        infos = tuple(self._infos(found[:count]))
        return Page(infos, last.removeprefix(self._prefix))

    def sweep(self) -> int:
        """Return that nothing is left to do.

        Google itself gives up an upload that nobody finished within a week, and
        lists none.
        """
        return 0

    def protection(self) -> Protection:
        """Return how the bucket keeps things.

        It takes the permission storage.buckets.get; without it raises `StoreDenied`.
        """

        def look(_again: bool) -> Bucket:  # noqa: FBT001
            bucket = self._bucket
            bucket.reload(**self._asked)
            return bucket

        try:
            found = tried(f"{self._name}/", self._patience, look)
        except NotFound as error:
            raise StoreMissing(internal=f"no bucket {self._name}") from error
        kept_seconds = found.soft_delete_policy.retention_duration_seconds
        keeps = ["soft deletion"] if kept_seconds else []
        keeps += ["versions"] if found.versioning_enabled else []
        return Protection(found.default_kms_key_name or "", " and ".join(keeps))

    @property
    def _bucket(self) -> Bucket:
        return client(self._endpoint).bucket(self._name)

    def _blob(self, key: Key) -> Blob:
        return self._bucket.blob(self._object(key))

    def _object(self, key: Key) -> str:
        """Return the object's name in the bucket: the last door before it."""
        if not is_key(key):
            raise InvalidRequest(internal=f"{key!r} is no key")
        return self._prefix + key

    def _call(self, key: Key, request: Callable[[bool], T]) -> T:
        """Ask for something about one object."""
        return self._sure(lambda: tried(key, self._patience, request))

    def _sure(self, request: Callable[[], T]) -> T:
        """Return what `request` does; be sure why it finds nothing."""
        try:
            answer = request()
        except NotFound:
            self._look_for_bucket()
            raise
        self._is_there = True
        return answer

    def _look_for_bucket(self) -> None:
        """Raise `StoreMissing` if there is no bucket: a 404 does not say which.

        To list is what we may do; to ask about a bucket itself, others may.
        """
        if not self._is_there:
            self.list(Key(""), limit=1)

    def _download(self, key: Key, chunk_bytes: int = CHUNK_BYTES) -> Download:
        place = self._bucket, self._object(key)
        return self._sure(lambda: Download(key, place, self._patience, chunk_bytes))

    def _found(self, key: Key) -> Blob:
        def look(_again: bool) -> Blob:  # noqa: FBT001
            blob = self._blob(key)
            blob.reload(**self._asked)
            return blob

        return self._call(key, look)

    def _listed(self, prefix: str, begun: str | None, count: int) -> Sequence[Blob]:
        found = client(self._endpoint).list_blobs(
            self._name,
            prefix=self._prefix + prefix,
            start_offset=begun,
            page_size=min(count, _PAGE_MAX),
            fields=_FIELDS,
            **self._asked,
        )
        return tuple(islice(found, count))

    def _put(self, key: Key, data: bytes, generation: int | None) -> int:
        if len(data) > CHUNK_BYTES:
            return self.put_from(key, io.BytesIO(data), generation=generation)
        _expect_possible(key, generation)
        word = secrets.token_hex(16)

        def write(again: bool) -> Blob:  # noqa: FBT001
            blob = self._blob(key)
            blob.metadata = {WORD: word}
            try:
                blob.upload_from_string(
                    data,
                    content_type=_TYPE,
                    checksum="crc32c",
                    if_generation_match=generation,
                    **self._asked,
                )
            except google.PreconditionFailed:
                if not again:
                    raise
                return self._itself(key, word)
            return blob

        written = self._call(key, write)
        return self._checked(key, written.generation, written.crc32c, checksum(data))

    def _send(
        self, key: Key, parts: Iterator[tuple[bytes, bool]], generation: int | None
    ) -> int:
        _expect_possible(key, generation)
        word = secrets.token_hex(16)

        def begin(_again: bool) -> str:  # noqa: FBT001
            blob = self._blob(key)
            blob.metadata = {WORD: word}
            url: str = blob.create_resumable_upload_session(
                content_type=_TYPE, if_generation_match=generation, **self._asked
            )
            return url

        url = self._call(key, begin)
        total = Checksum()
        with Session(key, url, self._patience) as session:
            for part, is_last in parts:
                total.update(part)
                answer = session.send(part, is_last=is_last)
        return self._checked(
            key, int(answer["generation"]), answer["crc32c"], str(total)
        )

    def _itself(self, key: Key, word: str) -> Blob:
        """Return what is there if `word` says that it is ours, or raise `Changed`."""
        blob = self._blob(key)
        blob.reload(**self._asked)
        if (blob.metadata or {}).get(WORD) != word:
            raise Changed(internal=f"{key}: somebody else's generation is there")
        return blob

    def _checked(self, key: Key, generation: int, there: str, sent: str) -> int:
        """Return the generation, or take back what is not what was sent."""
        if there != sent:
            self.delete_if_match(key, generation)
            raise StoreDamaged(internal=f"{key}: {there} is there, not {sent}")
        return generation

    def _expect_none(self, key: Key) -> None:
        try:
            self.head(key)
        except NotFound:
            return
        raise Changed(internal=f"{key} is there")

    def _infos(self, found: Sequence[Blob]) -> Iterator[Info]:
        for blob in found:
            key = blob.name.removeprefix(self._prefix)
            if is_key(key):
                updated = blob.updated.timestamp()
                yield Info(Key(key), blob.size or 0, blob.generation, updated)


def _expect_possible(key: Key, generation: int | None) -> None:
    if generation is not None and not 0 <= generation <= _GENERATION_MAX:
        raise Changed(internal=f"{key}: {generation} was never a generation here")
