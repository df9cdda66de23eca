"""Small files that would become large: pictures, bundles, and what holds them."""

from __future__ import annotations

import io
import re
import struct
import time
import zipfile
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import psutil
import pytest
from werkzeug.test import encode_multipart

from functions.audit.checking import verify_bundle
from functions.tenant import UPLOADS
from tests.audit.golden import GOLDEN, verifiers
from tests.swap.house import GOOD, House, multipart, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS_MAX = 3.0
GROWTH_BYTES_MAX = 96 * 1024 * 1024
MAGIC = b"\x89PNG\r\n\x1a\n"
DETECT = {"operation": "detect", "target": "uploads/x"}


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    mark = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", mark)


def png(width: int, height: int, *chunks: bytes, bits: int = 24) -> bytes:
    depth, colour = (1, 0) if bits == 1 else (8, 2)
    sizes = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return MAGIC + chunk(b"IHDR", sizes) + b"".join(chunks) + chunk(b"IEND")


@cache
def zeros(mebibytes: int) -> bytes:
    """Return what inflates to that much; a thousandth of it."""
    packer = zlib.compressobj(9)
    piece = bytes(1024 * 1024)
    return b"".join(packer.compress(piece) for _ in range(mebibytes)) + packer.flush()


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes((flags, 0, 0, 0)) + sizes


def jpeg(width: int, height: int, *, between: bytes = b"", scans: int = 1) -> bytes:
    frame = struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00"
    head = b"\xff\xd8" + between + b"\xff\xc2" + frame
    return head + scan * scans + b"\xff\xd9"


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (273, 4, 1, 8)]
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    return head + b"".join(struct.pack("<HHII", *each) for each in entries) + b"\0" * 4


def frames(form: str, count: int) -> bytes:
    from PIL import Image as Pillow

    one = Pillow.new("RGB", (16, 16))
    rest = [Pillow.new("RGB", (16, 16), (each % 256, 0, 0)) for each in range(count)]
    buffer = io.BytesIO()
    one.save(buffer, form, save_all=True, append_images=rest)
    return buffer.getvalue()


WIDE = 65_500
BOMBS: dict[str, Callable[[], bytes]] = {
    "png-of-18-exapixels": lambda: png(2**32 - 1, 2**32 - 1),
    "png-of-four-gigapixels": lambda: png(WIDE, WIDE, chunk(b"IDAT", zeros(64))),
    "png-just-over-the-limit": lambda: png(
        10_001, 5_000, chunk(b"IDAT", zeros(7)), bits=1
    ),
    "png-of-a-line": lambda: png(2**31 - 1, 1, chunk(b"IDAT", zeros(1))),
    "png-of-nothing": lambda: png(0, 0, chunk(b"IDAT", zeros(1))),
    "png-of-many-frames": lambda: png(
        8, 8, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), chunk(b"IDAT", zeros(1))
    ),
    "png-of-empty-chunks": lambda: png(8, 8, chunk(b"tEXt", b"a\0") * 200_000),
    "png-without-end": lambda: png(8, 8, chunk(b"IDAT", zeros(1)))[:-20],
    "png-whose-length-lies": lambda: MAGIC + b"\x7f\xff\xff\xffIHDR" + bytes(64),
    "jpeg-of-four-gigapixels": lambda: jpeg(65_535, 65_535),
    "jpeg-of-nothing": lambda: jpeg(0, 0),
    "jpeg-of-a-million-scans": lambda: jpeg(16, 16, scans=1_000_000),
    "jpeg-of-fill-bytes": lambda: jpeg(16, 16, between=b"\xff" * 10_000_000)[:-2],
    "jpeg-of-empty-segments": lambda: jpeg(
        16, 16, between=segment(0xFE, b"") * 1_000_000
    ),
    "webp-of-a-canvas": lambda: riff(canvas(2**24, 2**24), (b"VP8 ", bytes(30))),
    "webp-of-many-frames": lambda: frames("WEBP", 500),
    "webp-whose-frame-is-larger": lambda: riff(
        canvas(8, 8), (b"VP8L", b"/\xff\xff\xff\x0f" + bytes(30))
    ),
    "webp-whose-length-lies": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8X\xff\xff\xff\xff",
    "webp-of-empty-chunks": lambda: riff(canvas(8, 8), *[(b"JUNK", b"")] * 500_000),
    "gif-of-four-gigapixels": lambda: b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(100),
    "gif-of-many-frames": lambda: frames("GIF", 500),
    "tiff-of-16-exapixels": lambda: tiff(2**32 - 1, 2**32 - 1),
    "tiff-that-leads-to-itself": lambda: tiff(8, 8)[:-4] + b"\x08\0\0\0",
    "bmp-of-four-exapixels": lambda: (
        b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 2**31 - 1, 2**31 - 1, 1, 24)
    ),
    "svg-of-a-billion-laughs": lambda: b'<svg><!DOCTYPE a [<!ENTITY b "&c;&c;">]>',
    "heic-of-a-box-in-a-box": lambda: b"\0\0\0\x18ftypheic" + b"\0\0\0\x08moov" * 9999,
    "icon-of-pictures": lambda: b"\0\0\1\0\xff\xff" + bytes(16) * 65_535,
    "pdf": lambda: b"%PDF-1.7\n" + b"1 0 obj << /Kids [1 0 R] >>\n" * 1000,
    "zip": lambda: b"PK\x03\x04" + zeros(1),
    "gzip": lambda: b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + zeros(1),
}


class Watch:
    """How long a block takes, and how much memory is more at its end."""

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._before = psutil.Process().memory_info().rss
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        self.growth = psutil.Process().memory_info().rss - self._before


@pytest.mark.parametrize("attack", BOMBS)
def test_attack_image_bomb(attack: str) -> None:
    """Refused for what it says of itself: soon, small, and before an engine sees it."""
    house = House()
    house.put("x", BOMBS[attack]())
    with Watch() as watch:
        answer = house.post(DETECT)
    assert answer.status_code in {413, 415}, answer.text
    assert house.engine.calls == []
    assert watch.seconds < SECONDS_MAX
    assert watch.growth < GROWTH_BYTES_MAX


BURDENS: dict[str, bytes] = {
    "icc-that-inflates": chunk(b"iCCP", b"a\0\0" + zeros(512)),
    "text-that-inflates": chunk(b"zTXt", b"a\0\0" + zeros(512)),
    "itext-that-inflates": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros(512)),
    "exif-that-leads-to-itself": chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(12)),
    "exif-out-of-bounds": chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
    "exif-of-65535-entries": chunk(
        b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(786_420)
    ),
}


@pytest.mark.parametrize("attack", BURDENS)
def test_attack_metadata_bomb(attack: str) -> None:
    """What lies beside the pixels is not unpacked, and is not in the output."""
    good = picture(1)
    at = good.index(b"IDAT") - 4
    house = House()
    house.put("x", good[:at] + BURDENS[attack] + good[at:])
    with Watch() as watch:
        answer = house.post({"operation": "anonymize", "target": "uploads/x"})
    assert answer.status_code == 201, answer.text
    assert watch.seconds < SECONDS_MAX
    assert watch.growth < GROWTH_BYTES_MAX
    output = house.get(f"/v1/swaps/{answer.get_json()['job']}/result").data
    assert BURDENS[attack][8:40] not in output


PAYLOAD = b"<script>alert(1)</script><?php system($_GET[0]); ?>"
GLUED: dict[str, Callable[[bytes], bytes]] = {
    "zip-behind": lambda data: data + _zip(PAYLOAD),
    "page-behind": lambda data: data + b"<html>" + PAYLOAD,
    "page-in-a-text": lambda data: _with(data, chunk(b"tEXt", b"c\0" + PAYLOAD)),
    "page-in-a-chunk": lambda data: _with(data, chunk(b"scRp", PAYLOAD)),
    "page-in-a-profile": lambda data: _with(
        data, chunk(b"iCCP", b"a\0\0" + zlib.compress(PAYLOAD))
    ),
}


def _zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("index.php", data)
    return buffer.getvalue()


def _with(data: bytes, more: bytes) -> bytes:
    at = data.index(b"IDAT") - 4
    return data[:at] + more + data[at:]


@pytest.mark.parametrize("attack", GLUED)
def test_attack_polyglot(attack: str) -> None:
    """A picture that is something else, too, comes out as a picture alone."""
    house = House()
    house.put("x", GLUED[attack](picture(1)))
    answer = house.post({"operation": "anonymize", "target": "uploads/x"})
    assert answer.status_code in {201, 415}
    if answer.status_code == 201:
        found = house.get(f"/v1/swaps/{answer.get_json()['job']}/result")
        assert found.data.startswith(MAGIC)
        assert found.mimetype == "image/png"
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert PAYLOAD not in found.data
        assert b"index.php" not in found.data


@pytest.mark.parametrize(
    "parts", [{"target": 1, "more": 5000}, {"target": 400, "more": 0}]
)
def test_attack_form_bomb(parts: dict[str, int]) -> None:
    """A form of thousands of fields or files is refused, and nothing of it kept."""
    house = House()
    form: dict[str, Any] = multipart(GOOD, source=picture())
    form["target"] = [(io.BytesIO(picture()), "t.png") for _ in range(parts["target"])]
    form |= {f"field{number}": "x" for number in range(parts["more"])}
    boundary, body = encode_multipart(form)
    media = f"multipart/form-data; boundary={boundary}"
    headers = {"Authorization": "Bearer acme", "Content-Type": media}
    with Watch() as watch:
        answer = house.door.post("/v1/swaps", data=body, headers=headers)
    assert answer.status_code in {400, 413}
    assert watch.seconds < SECONDS_MAX
    assert house.engine.calls == []
    assert house.store.list(UPLOADS).objects == ()


def _bundle(**changes: bytes) -> bytes:
    """Return a good bundle, its manifest or another file made larger."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(GOLDEN / "v1" / "job.zip") as good,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for name in good.namelist():
            file.writestr(name, changes.get(name, good.read(name)))
        for name in changes.keys() - set(good.namelist()):
            file.writestr(name, changes[name])
    return buffer.getvalue()


def _overlapping() -> bytes:
    """Return a zip a thousand of whose files are one and the same."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("proofs/0.tlog-proof", bytes(60_000))
        [first] = file.infolist()
        for number in range(1, 1000):
            other = zipfile.ZipInfo(f"proofs/{number}.tlog-proof")
            other.compress_type = first.compress_type
            other.header_offset = 0
            other.file_size, other.CRC = first.file_size, first.CRC
            other.compress_size = first.compress_size
            file.filelist.append(other)
    return buffer.getvalue()


def _directory() -> bytes:
    """Return a zip that says its directory has 4 GiB."""
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65_535, 65_535, 2**32 - 1, 0, 0)
    return b"PK\x03\x04" + bytes(1000) + end


BUNDLES: dict[str, Callable[[], bytes]] = {
    "file-that-inflates": lambda: _bundle(**{"manifest.json": bytes(500_000_000)}),
    "bundle-in-a-bundle": lambda: _bundle(**{"inner.zip": _bundle()}),
    "files-over-one-another": _overlapping,
    "directory-of-gigabytes": _directory,
    "twenty-thousand-files": lambda: _bundle(
        **{f"proofs/{number}.tlog-proof": b"" for number in range(20_000)}
    ),
    "manifest-of-brackets": lambda: _bundle(**{"manifest.json": b"[" * 4_000_000}),
    "manifest-of-one-number": lambda: _bundle(**{"manifest.json": b"9" * 4_000_000}),
}


FAULTS = {
    "file-that-inflates": "more than",
    "bundle-in-a-bundle": "no name in a bundle",
    "files-over-one-another": "lies over another",
    "directory-of-gigabytes": "directory is too large",
    "twenty-thousand-files": "nothing says why",
    "manifest-of-brackets": "malformed",
    "manifest-of-one-number": "malformed",
}


@pytest.mark.parametrize("attack", BUNDLES)
def test_attack_bundle_bomb(tmp_path: Path, attack: str) -> None:
    """A bundle is read as a stranger's: it fails, and takes no memory to do so."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(BUNDLES[attack]())
    with Watch() as watch:
        report = verify_bundle(path, verifiers())
    assert not report.verified
    assert report.fault is not None
    assert re.search(FAULTS[attack], str(report.fault))
    assert watch.seconds < 10 * SECONDS_MAX
    assert watch.growth < 2 * GROWTH_BYTES_MAX
    assert [each.name for each in tmp_path.iterdir()] == ["bundle.zip"]
