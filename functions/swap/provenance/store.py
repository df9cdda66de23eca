"""The bytes of a manifest store that no signature covers, held to their one form.

A claim's signature covers the claim, and through it every assertion and the
picture.  Uncovered are the frames of the boxes around them and the padding beside
the signature, 10 KB in our files.  The C2PA library passes over what is written
there; somebody could hide words in a file that still verifies.  Formats: JUMBF
(ISO 19566-5), its carriage in C2PA 2.2, annex A.3, and COSE's `pad` in 13.2.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING, Final

from functions.swap.provenance import containers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.swap.provenance.containers import Form

_SEGMENT: Final = re.compile(rb"JP.{2}(.{4})", re.DOTALL)
_SEGMENT_HEADER_BYTES: Final = 8
_BOX_HEADER_BYTES: Final = 8
_APP11: Final = 0xEB
# Every type of C2PA is four letters and this; then the toggles: requestable, labelled.
_FRAME: Final = b"\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71\x03"
_HOLDERS: Final = frozenset({b"c2pa", b"c2ma", b"c2um"})
_LABELS: Final = {
    b"c2pa": (b"c2pa",),
    b"c2as": (b"c2pa.assertions",),
    b"c2cl": (b"c2pa.claim", b"c2pa.claim.v2"),
    b"c2cs": (b"c2pa.signature",),
}
# What manifests of others may hold besides: compressed ones, credentials, data.
_OTHERS: Final = frozenset({b"c2cm", b"c2vc", b"c2db"})
_PAD: Final = re.compile(rb"(?:\x63pad|\x64pad2)([\x40-\x57]|\x58.|\x59..)", re.DOTALL)
_PAD_HEAD_BYTES_MAX: Final = 8
_ZEROS_MAX: Final = 24  # that may end what is no padding
# A detached payload, then as many bytes of signature as EdDSA, ECDSA or RSA makes.
_ENDS: Final = tuple(
    (b"\xf6" + (b"\x58%c" % n if n < 256 else b"\x59" + n.to_bytes(2)), n)  # noqa: PLR2004 - CBOR
    for n in (64, 96, 132, 256, 384, 512)
)


class Irregular(Exception):
    """A byte is not what the format leaves it to be; the message says where."""


def check(data: bytes, form: Form) -> None:
    """Return if nothing is written where nothing is signed, or raise `Irregular`."""
    store = _store(data, form)
    boxes = list(_boxes(store))
    if len(boxes) != 1:
        raise Irregular("there is not exactly one manifest store")
    _check_box(*boxes[0])


def _store(data: bytes, form: Form) -> bytes:
    if form == "jpeg":
        return _from_segments(data)
    if form == "webp":
        found = (body for kind, body in containers.chunks(data) if kind == b"C2PA")
        return next(found, b"")
    return _from_png(data)


def _from_segments(data: bytes) -> bytes:
    """Return the box that APP11 segments carry in parts, each with its header again."""
    parts: list[bytes] = []
    for marker, body in containers.segments(data):
        found = _SEGMENT.match(body)
        if marker != _APP11 or found is None:
            continue
        content = body[_SEGMENT_HEADER_BYTES:]
        parts.append(content[_BOX_HEADER_BYTES:] if parts else content)
        if found[1] != struct.pack(">I", len(parts)):
            raise Irregular("the segments are not numbered in order")
    return b"".join(parts)


def _from_png(data: bytes) -> bytes:
    for kind, body, checksum in containers.png_chunks(data):
        if kind == b"caBX":
            if zlib.crc32(kind + body) != checksum:
                raise Irregular("the checksum of its chunk is wrong")
            return body
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each box, which fill `data` exactly."""
    at = 0
    while at < len(data):
        if at + _BOX_HEADER_BYTES > len(data):
            raise Irregular("a box is cut short")
        length, kind = struct.unpack_from(">I4s", data, at)
        if not _BOX_HEADER_BYTES <= length <= len(data) - at:
            raise Irregular("a box has a wrong length")
        yield kind, data[at + _BOX_HEADER_BYTES : at + length]
        at += length


def _check_box(kind: bytes, content: bytes) -> None:
    """Check a box that only its place in the store vouches for."""
    if kind != b"jumb":
        raise Irregular("a box is of another kind")
    frame, *inner = list(_boxes(content)) or [(b"", b"")]
    first, description = frame
    letters = description[:4]
    if first != b"jumd" or description[4:17] != _FRAME:
        raise Irregular("the frame of a box is not as it must be")
    if letters in _OTHERS:
        return
    label = description[17:].removesuffix(b"\0")
    if letters not in _HOLDERS and letters not in _LABELS:
        raise Irregular("a box is of an unknown type")
    if label not in _LABELS.get(letters, (label,)):
        raise Irregular("a box has another's label")
    if letters in _HOLDERS:
        for each in inner:
            _check_box(*each)
    elif letters == b"c2cs":
        for _, body in inner:
            _check_signature(body)


def _check_signature(cose: bytes) -> None:
    """Check what a COSE signature does not cover of itself."""
    rests = (cose[:-n] for end, n in _ENDS if cose[:-n].endswith(end))
    rest = next(rests, None)
    if rest is None:
        raise Irregular("the signature does not end as one must")
    head = rest[: rest.rindex(b"\xf6")]
    if not _padded(head):
        raise Irregular("the padding of the signature is not named so")
    for found in _PAD.finditer(head):
        size = found[1]
        length = int.from_bytes(size[1:]) if len(size) > 1 else size[0] - 0x40
        if any(head[found.end() : found.end() + length]):
            raise Irregular("there is something in the padding of the signature")


def _padded(head: bytes) -> bool:
    """Return whether the zeros at the end of `head`, if many, are named padding."""
    end = len(head.rstrip(b"\0"))
    if len(head) - end <= _ZEROS_MAX:
        return True
    # The padding's length may end in zeros itself: up to two bytes of it.
    start = max(0, end - _PAD_HEAD_BYTES_MAX)
    names = (_PAD.finditer(head, start, end + more) for more in range(3))
    return any(found.end() >= end for each in names for found in each)
