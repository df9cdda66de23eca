"""XMP packets and text chunks in JPEG, PNG and WebP, without decoding a pixel.

Writing is for files that we encoded a moment ago; reading is for anybody's, so
it finds nothing, rather than failing, in a file that is cut short or is no image.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Form = Literal["jpeg", "png", "webp"]

_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"  # XMP part 3, 1.1.3
_APP0, _APP1, _SOS = 0xE0, 0xE1, 0xDA
_SEGMENT_BYTES_MAX: Final = 65_533
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_IHDR_END: Final = len(_PNG) + 25
_RIFF_HEADER_BYTES: Final = 12
_XMP_FLAG, _ALPHA_FLAG = 0x04, 0x10  # RFC 9649, 2.7


def form_of(data: bytes) -> Form | None:
    """Return what a file is by its magic bytes; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(_PNG):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return None


def with_xmp(data: bytes, form: Literal["jpeg", "webp"], packet: bytes) -> bytes:
    """Return the file with an XMP packet; raises `ValueError` if it is too long."""
    return _jpeg_with(data, packet) if form == "jpeg" else _webp_with(data, packet)


def with_text(data: bytes, keyword: bytes, text: bytes) -> bytes:
    """Return the PNG with a tEXt chunk straight after its header."""
    named = b"tEXt" + keyword + b"\0" + text
    length = struct.pack(">I", len(named) - 4)
    chunk = length + named + struct.pack(">I", zlib.crc32(named))
    return data[:_IHDR_END] + chunk + data[_IHDR_END:]


def xmp(data: bytes, form: Literal["jpeg", "webp"]) -> bytes | None:
    """Return the first XMP packet; None where there is none."""
    if form == "webp":
        found = (body for kind, body in chunks(data) if kind == b"XMP ")
        return next(found, None)
    for marker, body in segments(data):
        if marker == _APP1 and body.startswith(_XMP):
            return body.removeprefix(_XMP)
    return None


def text(data: bytes, keyword: bytes) -> bytes | None:
    """Return the first tEXt of a PNG with this keyword; None where there is none."""
    for kind, body, _ in png_chunks(data):
        name, _, value = body.partition(b"\0")
        if kind == b"tEXt" and name == keyword:
            return value
    return None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield kind, body and stated checksum of each whole chunk of a PNG."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return
        yield kind, data[at + 8 : end], struct.unpack_from(">I", data, end)[0]
        at = end + 4


def _jpeg_with(data: bytes, packet: bytes) -> bytes:
    body = _XMP + packet
    if len(body) > _SEGMENT_BYTES_MAX:
        raise ValueError(f"{len(packet)} bytes of XMP are too many for one segment")
    segment = struct.pack(">BBH", 0xFF, _APP1, len(body) + 2) + body
    # After SOI and JFIF's APP0, which must come first.
    at = 4 + struct.unpack_from(">H", data, 4)[0] if data[3] == _APP0 else 2
    return data[:at] + segment + data[at:]


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of each segment before the first scan."""
    at = 2
    while at + 4 <= len(data):
        fill, marker, length = struct.unpack_from(">BBH", data, at)
        if fill != 0xFF or marker == _SOS:  # noqa: PLR2004 - JPEG's marker prefix
            return
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _webp_with(data: bytes, packet: bytes) -> bytes:
    parts = list(chunks(data))
    if parts[0][0] != b"VP8X":
        parts.insert(0, (b"VP8X", _extended(data, parts[0])))
    flags = parts[0][1]
    parts[0] = (b"VP8X", bytes((flags[0] | _XMP_FLAG,)) + flags[1:])
    body = b"WEBP" + b"".join(map(_riff, [*parts, (b"XMP ", packet)]))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _extended(data: bytes, frame: tuple[bytes, bytes]) -> bytes:
    """Return the VP8X that a file of one bare frame lacks."""
    from functions.swap.media import webp

    found = webp.walk(data)
    kind, body = frame
    # RFC 9649, 3.4: in a lossless frame bit 28 says whether alpha is used.
    seen = kind == b"VP8L" and struct.unpack_from("<I", body, 1)[0] >> 28 & 1
    sides = (side - 1 for side in (found.width, found.height))
    return struct.pack("<I", _ALPHA_FLAG if seen else 0) + b"".join(
        side.to_bytes(3, "little") for side in sides
    )


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of each chunk of a WebP."""
    at = _RIFF_HEADER_BYTES
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)


def _riff(chunk: tuple[bytes, bytes]) -> bytes:
    kind, body = chunk
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
