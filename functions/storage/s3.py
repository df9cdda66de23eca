"""A store in a bucket of S3, or of what speaks its protocol (MinIO).

An object's generation is its ETag, read as a number.  Conditional writes are
S3's own: `If-None-Match: *` and `If-Match`, on single writes, on the completion
of those in parts, and on deletion.

The client tries again what had no answer.  A write that was done the first time
then finds itself there, and is told from somebody else's by its bytes.
"""

from __future__ import annotations

import io
import logging
import random
import secrets
import time
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from botocore.exceptions import ClientError

from functions.problems import Changed, InvalidRequest, NotFound, Problem, TooLarge
from functions.storage.base import (
    PIECE_BYTES,
    Info,
    Object,
    Page,
    StoreBusy,
    StoreMissing,
    is_key,
)
from functions.storage.s3_bucket import protection_of
from functions.storage.s3_client import Patience, client, code, retried, wrapped
from functions.storage.s3_stream import (
    PART_BYTES,
    Download,
    Parts,
    checksum,
    whole_etag,
)
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from functions.storage.protection import Protection

log = logging.getLogger(__name__)

_PAGE_MAX: Final = 1000
_CONFLICT: Final = "ConditionalRequestConflict"
_CONFLICTS_MAX: Final = 6
_CONFLICT_SECONDS: Final = 0.05
_STALE_SECONDS: Final = 24 * 3600
_PROBES: Final = ".probes/"
_PATIENCE: Final = Patience()


class S3Store:
    """A `Store` in `bucket`, all of whose keys begin with `prefix` there.

    `prefix` is empty or ends with a slash.  `endpoint` is empty for AWS itself.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint: str = "",
        region: str = "",
        patience: Patience = _PATIENCE,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._service = (endpoint, region, patience)
        self._is_there = False
        # AWS does; of others it is asked when it first matters.
        self._conditional_delete: bool | None = None if endpoint else True

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        """Return the object, or raise `NotFound` or `TooLarge`."""
        answer = self._call("get_object", key, ChecksumMode="ENABLED")
        with closing(Download(key, answer)) as body:
            if bytes_max is not None and answer["ContentLength"] > bytes_max:
                raise TooLarge(f"{key} is over {bytes_max} bytes")
            return Object(body.readall(), _generation(answer["ETag"]))

    @contextmanager
    def open(self, key: Key) -> Iterator[BinaryIO]:
        """Yield a stream of the object's bytes, or raise `NotFound`."""
        answer = self._call("get_object", key, ChecksumMode="ENABLED")
        with io.BufferedReader(Download(key, answer), PIECE_BYTES) as stream:
            yield stream

    def head(self, key: Key) -> Info:
        """Return what is known of the object, or raise `NotFound`."""
        try:
            answer = self._call("head_object", key)
        except NotFound:
            self._look_for_bucket()
            raise
        size, updated = answer["ContentLength"], answer["LastModified"]
        return Info(key, size, _generation(answer["ETag"]), _seconds(updated))

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
        """Write all that `stream` gives as one object, in parts if it is large."""
        parts = Parts(key, stream, bytes_max)
        first = next(parts, b"")
        if len(first) < PART_BYTES:
            return self._put(key, first, generation)
        with self._upload(key) as upload:
            sent = [
                self._send(key, upload, number, part)
                for number, part in enumerate(chain((first,), parts), 1)
            ]
            return self._complete(key, upload, sent, parts.checksum, generation)

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""
        self._call("delete_object", key)

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`."""
        if generation == 0:
            self._expect_none(key)
        elif self._deletes_conditionally():
            self._change("delete_object", key, **_condition(generation))
        else:
            # One of many who would delete it wins the write.  What is written has
            # never been there before, so that nobody else's condition holds.
            self._put(key, secrets.token_bytes(16), generation)
            self.delete(key)

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        with wrapped(f"{self._bucket}/"):
            answer = self._client.list_objects_v2(
                Bucket=self._bucket,
                Prefix=self._prefix + prefix,
                MaxKeys=min(limit, _PAGE_MAX),
                **({"StartAfter": self._prefix + cursor} if cursor else {}),
            )
        found = answer.get("Contents", [])
        last = found[-1]["Key"] if found and answer["IsTruncated"] else ""
        return Page(tuple(self._infos(found)), last.removeprefix(self._prefix))

    def sweep(self) -> int:
        """Give up the uploads that a crash left half done; return how many."""
        with wrapped(f"{self._bucket}/"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket,
                Prefix=self._prefix,
            )
            uploads = [each for page in pages for each in page.get("Uploads", [])]
        old = time.time() - _STALE_SECONDS
        stale = [each for each in uploads if _seconds(each["Initiated"]) < old]
        for each in stale:
            self._abort(each["Key"], each["UploadId"])
        return len(stale)

    def protection(self) -> Protection:
        """Return how the bucket keeps things.

        It takes the permissions s3:GetEncryptionConfiguration and
        s3:GetBucketVersioning; without them raises `StoreDenied`.
        """
        return protection_of(self._client, self._bucket)

    @property
    def _client(self) -> Any:  # noqa: ANN401  # see `client`
        return client(*self._service)

    def _call(self, operation: str, key: Key, **arguments: object) -> dict[str, Any]:
        """Ask for something about one object."""
        name = self._name(key)
        with wrapped(key):
            call = getattr(self._client, operation)
            answer: dict[str, Any] = call(Bucket=self._bucket, Key=name, **arguments)
        self._is_there = True
        return answer

    def _change(self, operation: str, key: Key, **arguments: object) -> dict[str, Any]:
        """Ask for a change under a condition.

        S3 lets some of those that come at once do it over, rather than decide.
        """
        for _ in range(_CONFLICTS_MAX):
            try:
                return self._call(operation, key, **arguments)
            except StoreBusy as error:
                if not _has(error, _CONFLICT):
                    raise
            except NotFound as error:  # `If-Match` where there is nothing
                raise Changed(internal=f"{key} is gone") from error
            time.sleep(_CONFLICT_SECONDS * (1 + random.random()))  # noqa: S311  # jitter
        raise StoreBusy(internal=f"{key}: {_CONFLICTS_MAX} conflicts")

    def _put(self, key: Key, data: bytes, generation: int | None) -> int:
        condition = _condition(generation)
        arguments = {"Body": data, "ChecksumCRC32": checksum(data), **condition}
        try:
            answer = self._change("put_object", key, **arguments)
        except Changed as error:
            if not _is_retry(error):
                raise
            return self._found_itself(key, data, error)
        return _generation(answer["ETag"])

    def _found_itself(self, key: Key, data: bytes, error: Changed) -> int:
        """Return the generation if what stands there is ours, or raise `error`."""
        try:
            found = self.get(key, bytes_max=len(data))
        except (NotFound, TooLarge):
            raise error from None
        if found.data != data:
            raise error
        return found.generation

    @contextmanager
    def _upload(self, key: Key) -> Iterator[str]:
        """Yield the id of an upload in parts, of which nothing stays if it fails."""
        kind = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        upload: str = self._call("create_multipart_upload", key, **kind)["UploadId"]
        try:
            yield upload
        except BaseException:
            self._abort(self._name(key), upload)
            raise

    def _abort(self, name: str, upload: str) -> None:
        try:
            with wrapped(name):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=name, UploadId=upload
                )
        except Problem:  # why it is given up matters more
            log.warning("%s: parts are left until a sweep", name, exc_info=True)

    def _send(self, key: Key, upload: str, number: int, part: bytes) -> dict[str, Any]:
        proof = {"ChecksumCRC32": checksum(part)}
        upon = {"UploadId": upload, "PartNumber": number}
        answer = self._call("upload_part", key, Body=part, **upon, **proof)
        return {"PartNumber": number, "ETag": answer["ETag"], **proof}

    def _complete(
        self,
        key: Key,
        upload: str,
        sent: Sequence[dict[str, Any]],
        proof: str,
        generation: int | None,
    ) -> int:
        try:
            answer = self._call(
                "complete_multipart_upload",
                key,
                UploadId=upload,
                MultipartUpload={"Parts": sent},
                ChecksumCRC32=proof,
                ChecksumType="FULL_OBJECT",
                **_condition(generation),
            )
        except NotFound as error:
            raise Changed(internal=f"{key} is gone") from error
        except Problem as error:
            if not _is_retry(error):
                raise
            ours = _generation(whole_etag(each["ETag"] for each in sent))
            if not ours or ours != self._generation_there(key):
                raise
            return ours
        return _generation(answer["ETag"])

    def _generation_there(self, key: Key) -> int:
        """Return the generation of what is there, 0 if there is nothing."""
        try:
            return self.head(key).generation
        except NotFound:
            return 0

    def _deletes_conditionally(self) -> bool:
        """Return whether the service minds a condition on deletion; ask it once.

        MinIO's last free releases take no notice, and delete whatever is there.
        """
        if self._conditional_delete is None:
            probe = Key(f"{_PROBES}{secrets.token_hex(16)}")
            self.put(probe, b"")
            try:
                self._call("delete_object", probe, IfMatch=_quoted("0" * 32))
                self._conditional_delete = False
            except Changed:
                self._conditional_delete = True
                self.delete(probe)
        return self._conditional_delete

    def _expect_none(self, key: Key) -> None:
        if self._generation_there(key):
            raise Changed(internal=f"{key} is there")

    def _look_for_bucket(self) -> None:
        """Raise `StoreMissing` if there is no bucket: a HEAD's 404 does not say."""
        if self._is_there:
            return
        try:
            with wrapped(self._bucket):
                self._client.head_bucket(Bucket=self._bucket)
        except NotFound as error:
            raise StoreMissing(internal=f"no bucket {self._bucket}") from error
        self._is_there = True

    def _name(self, key: Key) -> str:
        """Return the object's name in the bucket: the last door before it."""
        if not is_key(key.removeprefix(_PROBES)):
            raise InvalidRequest(internal=f"{key!r} is no key")
        return self._prefix + key

    def _infos(self, found: Sequence[dict[str, Any]]) -> Iterator[Info]:
        for each in found:
            key = each["Key"].removeprefix(self._prefix)
            if is_key(key):
                generation, updated = _generation(each["ETag"]), each["LastModified"]
                yield Info(Key(key), each["Size"], generation, _seconds(updated))


def _condition(generation: int | None) -> dict[str, str]:
    if generation is None:
        return {}
    if generation == 0:
        return {"IfNoneMatch": "*"}
    etag = b"\0"
    if generation > 0:
        etag = generation.to_bytes(-(-generation.bit_length() // 8), "big")
    if not etag.isascii() or not etag.decode().isprintable():
        raise Changed(internal=f"{generation} was never a generation here")
    return {"IfMatch": _quoted(etag.decode())}


def _quoted(etag: str) -> str:
    return f'"{etag}"'


def _generation(etag: str) -> int:
    return int.from_bytes(etag.strip('"').encode(), "big")


def _seconds(moment: datetime) -> float:
    """Return seconds since the epoch, whole ones: a HEAD tells no more."""
    return float(int(moment.timestamp()))


def _has(error: Problem, name: str) -> bool:
    return isinstance(error.__cause__, ClientError) and code(error.__cause__) == name


def _is_retry(error: Problem) -> bool:
    """Return whether the request that failed may have been done the time before."""
    return isinstance(error.__cause__, ClientError) and retried(error.__cause__)
