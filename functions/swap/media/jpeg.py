"""JPEG (ITU T.81) without decoding: the segments, the scans, the end."""

from __future__ import annotations

import re

from functions.problems import Unreadable, Unsupported
from functions.swap.media.container import Container, Steps, cut, unpack

# Every frame header but DHT (C4), JPG (C8) and DAC (CC), which share the range.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONE = frozenset(range(0xD0, 0xD8)) | {0x01}  # RSTn and TEM have no length
_START_OF_SCAN, _END, _APP1, _APP2 = 0xDA, 0xD9, 0xE1, 0xE2
_SCANS_MAX = 32  # a progressive file has about ten; thousands are an attack
_PRECISION = 8
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
_ICC_PART_BYTES = 65_535 - 2 - len(_ICC) - 2
# Within a scan an FF is stuffed with 00; anything else, but RSTn, ends the scan.
_FILLED = re.compile(rb"\xff++[^\xff]", re.DOTALL)
# One FF, not several: from every FF of a long run, several would be tried anew.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def walk(data: bytes) -> Container:
    """Read every segment up to the end of the picture.

    What follows the end is ignored: phones append gain maps, depth and previews
    there (MPO), and the first picture is the photograph.

    Raises:
        Unreadable: truncated, or no JPEG grammar.
        Unsupported: twelve bits a sample.

    """
    found, parts, at, scans = Container(), dict[int, bytes](), 2, 0
    steps = Steps()
    while True:
        steps.take()
        marker, at = _marker(data, at)
        if marker == _END:
            break
        if marker in _LONE:
            continue
        body = _body(data, at)
        at += 2 + len(body)
        if marker in _FRAMES:
            _frame(body, found)
        elif marker == _APP1 and body.startswith(_EXIF):
            found.exif = found.exif or body
        elif marker == _APP2 and body.startswith(_ICC):
            parts[unpack(">B", body, len(_ICC))[0]] = body[len(_ICC) + 2 :]
        elif marker == _START_OF_SCAN:
            at, scans = _scan_end(data, at), scans + 1
            if scans > _SCANS_MAX:
                raise Unreadable(f"This JPEG has more than {_SCANS_MAX} scans.")
    if not scans:
        raise Unreadable("This JPEG has no picture in it.")
    found.icc = b"".join(parts[number] for number in sorted(parts))
    return found


def with_profile(data: bytes, profile: bytes) -> bytes:
    """Return the JPEG with an ICC profile in APP2 segments (ICC.1:2022, B.4)."""
    cuts = range(0, len(profile), _ICC_PART_BYTES)
    segments = [
        b"\xff\xe2%b%b%b%b"
        % (
            (len(part) + 2 + len(_ICC) + 2).to_bytes(2, "big"),
            _ICC,
            bytes((number, len(cuts))),
            part,
        )
        for number, start in enumerate(cuts, 1)
        for part in [profile[start : start + _ICC_PART_BYTES]]
    ]
    # After SOI and JFIF's APP0, which must come first.
    at = 4 + unpack(">H", data, 4)[0] if data[2:4] == b"\xff\xe0" else 2
    return b"".join((data[:at], *segments, data[at:]))


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker at `at`, whose FF may be repeated, and the offset behind it."""
    found = _FILLED.match(data, at)
    if found is None:
        cut(data, at, 2)
        raise Unreadable("The JPEG is corrupt: no marker where one must be.")
    return data[found.end() - 1], found.end()


def _body(data: bytes, at: int) -> bytes:
    (length,) = unpack(">H", data, at)
    if length < 2:  # noqa: PLR2004 - the length counts its own two bytes
        raise Unreadable("The JPEG is corrupt: a segment without a length.")
    return cut(data, at + 2, length - 2)


def _frame(body: bytes, found: Container) -> None:
    precision, height, width = unpack(">BHH", body, 0)
    if found.width and (width, height) != (found.width, found.height):
        raise Unreadable("The JPEG is corrupt: two frames of different size.")
    if precision != _PRECISION:
        raise Unsupported(f"JPEG with {precision} bits a sample is not accepted.")
    found.width, found.height = width, height


def _scan_end(data: bytes, at: int) -> int:
    after = _MARKER.search(data, at)
    if after is None:
        raise Unreadable("The JPEG is truncated: its picture has no end.")
    return after.start()
