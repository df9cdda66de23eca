"""WebP (RFC 9649) without decoding: the RIFF chunks and the frame headers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from functions.problems import Unreadable, Unsupported
from functions.swap.media.container import Container, Steps, cut, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE_MAX = 16_383  # RFC 9649, 2.5: fourteen bits a side
_ANIMATED, _ICC, _ALPHA = 0x02, 0x20, 0x10  # flags of VP8X
_HEADER_BYTES = 12


def walk(data: bytes) -> Container:
    """Read every chunk of the RIFF container.

    The size comes from the frame itself, because that is what a decoder
    allocates; a canvas that says otherwise is refused.

    Raises:
        Unreadable: truncated, or no WebP grammar.
        Unsupported: animated.

    """
    found, canvas = Container(), None
    for kind, body in _chunks(data):
        if kind == b"VP8X":
            canvas = _canvas(body)
        elif kind in {b"ANIM", b"ANMF"}:
            raise _animated()
        elif kind == b"EXIF":
            found.exif = body
        elif kind == b"ICCP":
            found.icc = body
        elif kind in {b"VP8 ", b"VP8L"} and not found.width:
            found.width, found.height = (_lossy if kind == b"VP8 " else _lossless)(body)
    if not found.width:
        raise Unreadable("This WebP has no picture in it.")
    if canvas and canvas != (found.width, found.height):
        raise Unreadable("The WebP is corrupt: frame and canvas differ in size.")
    return found


def with_profile(data: bytes, profile: bytes) -> bytes:
    """Return the WebP in its extended form with an ICCP chunk before the frame."""
    found, chunks = walk(data), list(_chunks(data))
    kinds = {kind for kind, _ in chunks}
    alpha = b"ALPH" in kinds or (b"VP8L" in kinds and _lossless_alpha(chunks))
    extended = struct.pack("<I", _ICC | (_ALPHA if alpha else 0))
    extended += (found.width - 1).to_bytes(3, "little")
    extended += (found.height - 1).to_bytes(3, "little")
    kept = [chunk for chunk in chunks if chunk[0] in {b"ALPH", b"VP8 ", b"VP8L"}]
    parts = [(b"VP8X", extended), (b"ICCP", profile), *kept]
    body = b"WEBP" + b"".join(map(_riff, parts))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    (size,) = unpack("<I", data, 4)
    if size + 8 > len(data):
        raise Unreadable("The WebP is truncated.")
    data, at, steps = data[: size + 8], _HEADER_BYTES, Steps()
    while at + 8 <= len(data):
        steps.take()
        (length,) = unpack("<I", data, at + 4)
        yield data[at : at + 4], cut(data, at + 8, length)
        at += 8 + length + (length & 1)


def _riff(chunk: tuple[bytes, bytes]) -> bytes:
    kind, body = chunk
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def _canvas(body: bytes) -> tuple[int, int]:
    if unpack("<B", body, 0)[0] & _ANIMATED:
        raise _animated()
    sides = cut(body, 4, 6)
    width, height = sides[:3], sides[3:]
    return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1


def _animated() -> Unsupported:
    return Unsupported("Animated WebP is not accepted; send one picture.")


def _lossy(body: bytes) -> tuple[int, int]:
    """Return the size in a VP8 key frame (RFC 6386, 9.1)."""
    if cut(body, 3, 3) != b"\x9d\x01\x2a":
        raise Unreadable("The WebP is corrupt: no key frame.")
    width, height = unpack("<HH", body, 6)
    return width & SIDE_MAX, height & SIDE_MAX


def _lossless(body: bytes) -> tuple[int, int]:
    """Return the size in a VP8L header (RFC 9649, 3.4)."""
    signature, bits = unpack("<BI", body, 0)
    if signature != 0x2F:  # noqa: PLR2004 - the format's own signature
        raise Unreadable("The WebP is corrupt: no lossless header.")
    return (bits & SIDE_MAX) + 1, (bits >> 14 & SIDE_MAX) + 1


def _lossless_alpha(chunks: list[tuple[bytes, bytes]]) -> bool:
    body = next(body for kind, body in chunks if kind == b"VP8L")
    return bool(unpack("<I", body, 1)[0] >> 28 & 1)
