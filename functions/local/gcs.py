"""A file as Google Cloud Storage would announce it.  Pure.

The shape is Google's published `StorageObjectData`, whose 64-bit numbers are
text as in its samples; `etag` is the encoding the samples carry.  A file's
generation is its modification time in nanoseconds, as in `FileStore`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from functions.events import OBJECT_FINALIZED, Event, derived_id, rfc3339

_API: Final = "https://www.googleapis.com"
_METAGENERATION: Final = 1
_NS: Final = 1_000_000_000
# RFC 3720, appendix B.4: the Castagnoli polynomial, reflected.
_CASTAGNOLI: Final = 0x82F63B78


@dataclass(frozen=True, slots=True)
class Upload:
    """One finished file or object.

    `data` is None where it is too large, or too far away, to be hashed here.
    `updated_ns` is when it was written, 0 where the generation says so.
    """

    bucket: str
    name: str
    generation: int
    size: int
    data: bytes | None
    updated_ns: int = 0


def finalized(upload: Upload) -> Event:
    """Return the event that a bucket sends when an object is written."""
    bucket, name = upload.bucket, upload.name
    return Event(
        id=derived_id(bucket, name, str(upload.generation)),
        source=f"//storage.googleapis.com/projects/_/buckets/{bucket}",
        type=OBJECT_FINALIZED,
        subject=f"objects/{name}",
        time=_time(upload),
        data=storage_object(upload),
        extensions={"bucket": bucket},
    )


def storage_object(upload: Upload) -> dict[str, Any]:
    """Return the `StorageObjectData` of an upload."""
    bucket, name, generation = upload.bucket, upload.name, upload.generation
    time = _time(upload)
    path = f"b/{bucket}/o/{quote(name, safe='')}?generation={generation}&alt=media"
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{generation}",
        "selfLink": f"{_API}/storage/v1/b/{bucket}/o/{name}",
        "mediaLink": f"{_API}/download/storage/v1/{path}",
        "name": name,
        "bucket": bucket,
        "generation": str(generation),
        "metageneration": str(_METAGENERATION),
        "contentType": _content_type(name),
        "storageClass": "STANDARD",
        "size": str(upload.size),
        "etag": etag(generation, _METAGENERATION),
        "timeCreated": time,
        "updated": time,
        "timeStorageClassUpdated": time,
        **_digests(upload.data),
    }


def etag(generation: int, metageneration: int) -> str:
    """Return base64 of the two numbers as fields 1 and 2 of a protocol buffer."""
    fields = b"\x08" + _varint(generation) + b"\x10" + _varint(metageneration)
    return base64.b64encode(fields).decode()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data`.  In Python: about 0.1 s a MiB."""
    table = _table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@functools.cache
def _table() -> tuple[int, ...]:
    entries = []
    for entry in range(256):
        crc = entry
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
        entries.append(crc)
    return tuple(entries)


def _digests(data: bytes | None) -> dict[str, str]:
    if data is None:
        return {}
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return {
        "crc32c": base64.b64encode(crc32c(data).to_bytes(4, "big")).decode(),
        "md5Hash": base64.b64encode(md5).decode(),
    }


def _content_type(name: str) -> str:
    return "application/json" if name.endswith(".json") else "application/octet-stream"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _time(upload: Upload) -> str:
    moment = (upload.updated_ns or upload.generation) / _NS
    return rfc3339(datetime.fromtimestamp(moment, UTC))
