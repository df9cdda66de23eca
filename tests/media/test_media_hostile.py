"""Attacks on the decoder: every one ends in a Problem, most before decoding."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from functions.problems import Problem, TooLarge, Unreadable, Unsupported
from functions.swap.media import decode, read_header
from functions.swap.media.png import pixels_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

SMALL = Pillow.linear_gradient("L").resize((40, 30)).convert("RGB")


def save(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    SMALL.save(buffer, form, **options)
    return buffer.getvalue()


FILES = {
    "jpeg": save("JPEG"),
    "progressive": save("JPEG", progressive=True),
    "png": save("PNG"),
    "lossy": save("WEBP"),
    "lossless": save("WEBP", lossless=True),
    "extended": save("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
}


def chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png(width: int, height: int, *chunks: bytes, depth: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def two_frames(picture: Image, form: str) -> bytes:
    buffer = io.BytesIO()
    other = picture.rotate(90, expand=False)
    picture.save(buffer, form, save_all=True, append_images=[other], duration=90)
    return buffer.getvalue()


def test_a_bomb_is_refused_before_decoding() -> None:
    """A 30 KB PNG of 60,000 x 60,000 pixels costs microseconds, not gigabytes."""
    bomb = png(60_000, 60_000, chunk(b"IDAT", zlib.compress(bytes(30_000_000))))
    assert len(bomb) < 40_000
    began = time.thread_time()  # what it takes, and not what others take meanwhile
    with pytest.raises(TooLarge):
        decode(bomb)
    assert time.thread_time() - began < 0.05


def test_a_long_thin_bomb_is_refused() -> None:
    """A side is limited too: few pixels can still be a million wide."""
    with pytest.raises(TooLarge):
        decode(png(1_000_000, 2, chunk(b"IDAT", b"x")))


def test_too_many_bytes_are_refused_unread() -> None:
    """The byte limit comes first, even before the format is told."""
    with pytest.raises(TooLarge):
        decode(b"\0" * 101, bytes_max=100)


def test_the_pixel_limit_is_exact() -> None:
    """As many pixels as allowed pass; one more does not."""
    assert decode(FILES["png"], pixels_max=1200).width == 40
    with pytest.raises(TooLarge):
        decode(FILES["png"], pixels_max=1199)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "ICO", "AVIF"])
def test_another_format_is_named(form: str) -> None:
    """A picture we do not take is refused by the name of its format."""
    with pytest.raises(Unsupported, match=form):
        decode(save(form))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "video"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\x0a\0\0", "JPEG XL"),
    ],
)
def test_a_foreign_header_is_named(data: bytes, name: str) -> None:
    """The first bytes are enough to say what it is."""
    with pytest.raises(Unsupported, match=name):
        decode(data)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(form: str) -> None:
    """Animated PNG and WebP are named, not silently cut to one frame."""
    with pytest.raises(Unsupported, match="Animated"):
        decode(two_frames(SMALL, form))


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff", b"<!doctype html>"])
def test_what_is_no_image_is_unreadable(data: bytes) -> None:
    """Empty, text and a bare signature are no image."""
    with pytest.raises(Unreadable):
        decode(data)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_refused(name: str) -> None:
    """Cut anywhere, a file is unreadable; OpenCV would fill a JPEG with grey."""
    data = FILES[name]
    for length in range(len(data)):
        with pytest.raises((Unreadable, Unsupported)):
            decode(data[:length])


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.integers(0, 10_000), put=st.binary(min_size=1, max_size=8))
def test_a_changed_file_never_raises_anything_else(
    name: str, at: int, put: bytes
) -> None:
    """Whatever bytes are overwritten, only a Problem ever leaves decode."""
    data = FILES[name]
    at %= len(data)
    with suppress(Problem):
        decode(data[:at] + put + data[at + len(put) :])


MAGICS = [data[:20] for data in FILES.values()] + [b"", b"RIFF\0\0\0\0WEBPVP8X"]


@settings(max_examples=300)
@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=200))
def test_noise_behind_a_magic_never_raises_anything_else(
    magic: bytes, rest: bytes
) -> None:
    """Noise after a valid beginning is a Problem and nothing else."""
    with pytest.raises(Problem):
        decode(magic + rest)


@pytest.mark.parametrize(
    "data",
    [
        png(4, 4),
        png(0, 4, chunk(b"IDAT", b"x")),
        png(4, 4, chunk(b"IDAT", b"not zlib")),
        png(4, 4, chunk(b"IDAT", zlib.compress(b"\x09" * 52))),
        png(4, 4, chunk(b"IDAT", b"x"), depth=3),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"x"),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"short"),
        FILES["png"].replace(b"IDAT", b"IDAU"),
    ],
)
def test_a_corrupt_png_is_unreadable(data: bytes) -> None:
    """Grammar, checksums and the stream inside must all hold."""
    with pytest.raises(Unreadable):
        decode(data)


def frame_of(change: Callable[[bytearray, int], None]) -> bytes:
    """Return the JPEG with its frame header changed."""
    data = bytearray(FILES["jpeg"])
    change(data, data.index(b"\xff\xc0"))
    return bytes(data)


def test_twelve_bits_a_sample_are_refused_by_name() -> None:
    """Medical JPEG is an image, but not one we take."""
    with pytest.raises(Unsupported, match="12 bits"):
        decode(frame_of(lambda data, at: data.__setitem__(at + 4, 12)))


def test_a_jpeg_whose_frames_disagree_is_refused() -> None:
    """The size we check is the size a decoder would allocate."""
    data = FILES["jpeg"]
    at = data.index(b"\xff\xc0")
    small = data[at : at + 19].replace(b"\0\x1e\0\x28", b"\0\x01\0\x01")
    with pytest.raises(Unreadable, match="two frames"):
        decode(data[:at] + small + data[at:])


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    """Progressive scans multiply the work; their number is limited."""
    data = FILES["progressive"]
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    with pytest.raises(Unreadable, match="scans"):
        decode(data[:first] + data[first:second] * 101 + data[second:])


@pytest.mark.parametrize(
    "body", [b"\xff\xd9", b"\xff\xe1\0\0", b"\xff\x01\xff\xd9", b"x"]
)
def test_a_jpeg_without_a_picture_is_refused(body: bytes) -> None:
    """Markers alone are no photograph."""
    with pytest.raises(Unreadable):
        decode(b"\xff\xd8\xff\xe0\0\x02" + body)


def test_a_webp_whose_canvas_lies_is_refused() -> None:
    """A small canvas cannot hide a large frame."""
    data = bytearray(FILES["extended"])
    data[24:27] = b"\0\0\0"
    with pytest.raises(Unreadable, match="canvas"):
        decode(bytes(data))


@pytest.mark.parametrize("kind", [b"VP8 ", b"VP8L", b"XXXX"])
def test_a_webp_without_a_frame_header_is_refused(kind: bytes) -> None:
    """A chunk by the right name must hold a frame."""
    body = b"WEBP" + kind + struct.pack("<I", 10) + bytes(10)
    with pytest.raises(Unreadable):
        decode(b"RIFF" + struct.pack("<I", len(body)) + body)


def test_bytes_behind_the_end_are_ignored() -> None:
    """Trailing bytes are common in the wild and are not ours to judge."""
    for data in FILES.values():
        assert read_header(data + b"trailer").width == 40


HUGE = 24 * 1024 * 1024
EMPTY = chunk(b"tEXt", b"")
MILLIONS = {
    "png chunks": png(4, 4, EMPTY * (HUGE // len(EMPTY))),
    "webp chunks": b"RIFF"
    + struct.pack("<I", HUGE)
    + b"WEBP"
    + b"XXXX\0\0\0\0" * (HUGE // 8),
    "jpeg fill": b"\xff\xd8" + b"\xff" * HUGE,
    "jpeg markers": b"\xff\xd8" + b"\xff\x01" * (HUGE // 2),
    "jpeg segments": b"\xff\xd8" + b"\xff\xe1\0\2" * (HUGE // 4),
    "jpeg scan": FILES["jpeg"][:-2] + b"\xff\0" * (HUGE // 2),
}


@pytest.mark.parametrize("name", MILLIONS)
def test_millions_of_empty_parts_are_refused_soon(name: str) -> None:
    """A file of the largest size made of nothing costs no seconds of a processor."""
    began = time.process_time()
    with pytest.raises(Unreadable):
        read_header(MILLIONS[name])
    assert time.process_time() - began < 3.0  # by the square: minutes


def test_attack_a_run_of_fill_bytes_within_a_scan() -> None:
    """Its cost grows with its length and not with the square of it."""
    for length in (HUGE // 100, HUGE):  # the shorter fails sooner, and as surely
        began = time.process_time()
        with pytest.raises(Unreadable):
            read_header(FILES["jpeg"][:-2] + b"\xff" * length + b"\0")
        assert time.process_time() - began < 3.0  # by the square: minutes


def text_bomb(megabytes: int) -> bytes:
    """Return a compressed text chunk that inflates to that many MB."""
    return chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * megabytes * 1_000_000))


def profile_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile))


def png_with(*chunks: bytes) -> bytes:
    """Return the small PNG with chunks straight after its header."""
    return FILES["png"][:33] + b"".join(chunks) + FILES["png"][33:]


def test_attack_text_that_inflates() -> None:
    """Sixty texts of 7 MB each cost a decoder no memory: none is ever inflated."""
    bomb = png_with(*[text_bomb(7)] * 60)
    probe = (
        "import sys; from functions.swap.media import decode, read_header\n"
        "def peak(): return int(status().split('VmHWM:')[1].split()[0])\n"
        "def status(): return open('/proc/self/status').read()\n"
        "data = sys.stdin.buffer.read(); read_header(data); before = peak()\n"
        "decode(data); print(peak() - before)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe], input=bomb, capture_output=True, check=True
    )
    assert int(ran.stdout) < 64 * 1024  # KiB


def test_attack_thousands_of_profiles(capfd: pytest.CaptureFixture[str]) -> None:
    """The first profile counts; the others are not inflated, and not complained of."""
    profile = bytes(1_000_000)
    bomb = png_with(*[profile_chunk(profile)] * 2_000)
    began = time.process_time()
    assert decode(bomb).width == 40
    assert time.process_time() - began < 1.0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGBA", "I;16", "1"])
def test_what_the_pixels_need_is_left_in(mode: str) -> None:
    """Palette, transparency and depth are as they were; the rest is gone."""
    buffer, bare = io.BytesIO(), io.BytesIO()
    picture = SMALL.convert("L").convert(mode) if mode != "I;16" else SIXTEEN
    options = {"transparency": 3} if mode in {"P", "L"} else {}
    picture.save(buffer, "PNG", pnginfo=notes(), **options)
    picture.save(bare, "PNG", **options)
    assert pixels_only(buffer.getvalue()) == bare.getvalue()


def notes() -> PngInfo:
    found = PngInfo()
    found.add_text("a", "b", zip=True)
    return found


SIXTEEN = Pillow.frombytes("I;16", (40, 30), bytes(range(240)) * 10)


@pytest.mark.parametrize("name", ["jpeg", "extended"])
def test_attack_a_file_of_notes(name: str) -> None:
    """What a JPEG or WebP carries beside its pixels is held once, and never grows."""
    data = FILES[name]
    if name == "jpeg":
        data = data[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 300 + data[2:]
    else:
        size = len(data) - 8 + 300 * 65_544
        other = (b"XXXX" + struct.pack("<I", 65_536) + bytes(65_536)) * 300
        data = b"RIFF" + struct.pack("<I", size) + data[8:] + other
    began = time.process_time()
    assert decode(data).width == 40
    assert time.process_time() - began < 1.0
