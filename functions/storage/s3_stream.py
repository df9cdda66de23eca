"""Large objects a piece at a time: parts to send, and a stream that checks itself."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from botocore.httpchecksum import StreamingChecksumBody

from functions.problems import TooLarge
from functions.storage.base import PIECE_BYTES, StoreDamaged, pieces
from functions.storage.s3_client import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from functions.tenant import Key

PART_BYTES: Final = 8 * 1024 * 1024
"""At least 5 MiB, as S3 asks of every part but the last."""
PARTS_MAX: Final = 10_000
"""S3's limit; 80 GB then."""
_MD5: Final = re.compile(r"[0-9a-f]{32}")
# With keys of the key service, or of the caller, the ETag is no digest of the bytes.
_PLAIN_ENCRYPTIONS: Final = (None, "AES256")


class Parts:
    """What `stream` gives in parts of one size but for the last, and their CRC-32."""

    def __init__(self, key: Key, stream: BinaryIO, bytes_max: int | None) -> None:
        self._key = key
        self._pieces = pieces(key, stream, bytes_max)
        self._crc = 0
        self.count = 0

    @property
    def checksum(self) -> str:
        """The checksum of all parts so far as one."""
        return base64.b64encode(self._crc.to_bytes(4, "big")).decode()

    def __iter__(self) -> Self:
        """Return itself: a stream is read once."""
        return self

    def __next__(self) -> bytes:
        """Return the next part, never an empty one."""
        part = bytearray()
        while len(part) < PART_BYTES and (piece := next(self._pieces, b"")):
            part += piece
        if not part:
            raise StopIteration
        self.count += 1
        if self.count > PARTS_MAX:
            raise TooLarge(f"{self._key} is over {PARTS_MAX * PART_BYTES} bytes")
        self._crc = zlib.crc32(part, self._crc)
        return bytes(part)


class Download(io.RawIOBase):
    """The body of an answer.  Its last read checks it, if there is what to check by.

    The client itself checks a checksum that came along.  An object that somebody
    wrote without one has the MD5 in its ETag, unless it was written in parts.
    """

    def __init__(self, what: str, answer: dict[str, Any]) -> None:
        super().__init__()
        self._what = what
        self._body = answer["Body"]
        self._expected = _md5_of(answer)
        self._digest = hashlib.md5(usedforsecurity=False)

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  # as RawIOBase has it
        """Read up to as many bytes as there is room; 0 is the end."""
        with wrapped(self._what):
            count: int = self._body.readinto(buffer)
        if self._expected:
            self._digest.update(memoryview(buffer)[:count])
            if not count and self._digest.hexdigest() != self._expected:
                raise StoreDamaged(internal=f"{self._what}: its bytes are not its MD5")
        return count

    def readall(self) -> bytes:
        """Return all that is left.  The inherited one reads 8 KiB at a time."""
        found = bytearray()
        while piece := self.read(PIECE_BYTES):
            found += piece
        return bytes(found)

    def close(self) -> None:
        """Let go of the connection."""
        self._body.close()
        super().close()


def _md5_of(answer: dict[str, Any]) -> str:
    """Return the digest to check by, "" if there is none or the client checks."""
    etag: str = answer["ETag"].strip('"')
    plain = answer.get("ServerSideEncryption") in _PLAIN_ENCRYPTIONS
    if isinstance(answer["Body"], StreamingChecksumBody) or not plain:
        return ""
    if "SSECustomerAlgorithm" in answer or not _MD5.fullmatch(etag):
        return ""
    return etag


def checksum(data: bytes) -> str:
    """Return the CRC-32 of `data` as S3 writes it: base64 of four bytes."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def whole_etag(etags: Iterable[str]) -> str:
    """Return the ETag of an object in parts: the MD5 of theirs, and how many.

    "" where theirs are no digests, as a service may have it that encrypts.
    """
    try:
        digests = [bytes.fromhex(etag.strip('"')) for etag in etags]
    except ValueError:
        return ""
    whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return f"{whole}-{len(digests)}"
