"""PNG (W3C, third edition) without decoding: every chunk, every checksum."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from functions.problems import Unreadable, Unsupported
from functions.swap.media.container import Container, Steps, cut, unpack
from functions.swap.media.icc import PROFILE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 13
_GREY = 0
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}


def walk(data: bytes) -> Container:
    """Read every chunk up to IEND and check its CRC.

    Of what may be there once, the first counts, as for libpng.

    Raises:
        Unreadable: truncated, a wrong checksum, or no PNG grammar.
        Unsupported: animated (APNG).

    """
    found, seen, grey = Container(), set[bytes](), False
    for kind, body, _ in _chunks(data):
        first = kind not in seen
        seen.add(kind)
        if kind == b"IHDR":
            grey = _image_header(body, found) == _GREY
        elif kind == b"acTL":
            raise Unsupported("Animated PNG is not accepted; send one picture.")
        elif kind == b"eXIf":
            found.exif = body
        elif kind == b"iCCP" and first:
            found.icc = _profile(body)
        elif kind == b"tRNS" and first and grey:
            found.transparent = unpack(">H", body, 0)[0]
    if b"IDAT" not in seen:
        raise Unreadable("This PNG has no picture in it.")
    return found


def pixels_only(data: bytes) -> bytes:
    """Return the PNG with nothing in it but what its pixels need.

    libpng inflates text and profiles as it meets them: megabytes for each of
    thousands of chunks, and none of them for us.  Raises as `walk` does.
    """
    kept, seen = [MAGIC], set[bytes]()
    for kind, _, whole in _chunks(data):
        if kind == b"IDAT" or (kind in _PIXELS and kind not in seen):
            kept.append(whole)
        seen.add(kind)
    return b"".join(kept)


def with_profile(data: bytes, profile: bytes) -> bytes:
    """Return the PNG with an iCCP chunk straight after its header."""
    body = b"iCCPicc\0\0" + zlib.compress(profile)
    chunk = (
        struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    )
    at = len(MAGIC) + 12 + _HEADER_BYTES
    return data[:at] + chunk + data[at:]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield each chunk's type, its body and the whole of it, up to IEND."""
    at, kind, steps = len(MAGIC), b"", Steps()
    while kind != b"IEND":
        steps.take()
        kind, body = _chunk(data, at)
        if (at == len(MAGIC)) != (kind == b"IHDR"):
            raise Unreadable("The PNG is corrupt: its header is not first.")
        end = at + 12 + len(body)
        yield kind, body, data[at:end]
        at = end


def _chunk(data: bytes, at: int) -> tuple[bytes, bytes]:
    (length,) = unpack(">I", data, at)
    named = cut(data, at + 4, 4 + length)
    (checksum,) = unpack(">I", data, at + 8 + length)
    if zlib.crc32(named) != checksum:
        raise Unreadable("The PNG is corrupt: a checksum does not match.")
    return named[:4], named[4:]


def _image_header(body: bytes, found: Container) -> int:
    """Note size and depth; return the colour type."""
    if len(body) != _HEADER_BYTES:
        raise Unreadable("The PNG is corrupt: its header has a wrong length.")
    found.width, found.height, found.depth, colour = unpack(">IIBB", body, 0)
    if found.depth not in _DEPTHS.get(colour, ()):
        raise Unreadable("The PNG is corrupt: no such depth of colour.")
    return colour


def _profile(body: bytes) -> bytes:
    """Return the inflated profile, or no bytes: a bad one costs only itself."""
    _, _, rest = body.partition(b"\0")
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(rest[1:], PROFILE_BYTES_MAX + 1)
    except zlib.error:
        return b""
    return profile
