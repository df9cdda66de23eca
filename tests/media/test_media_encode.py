"""Encoding: nothing is told but the pixels, and nothing of them is lost."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from functions.problems import InvalidRequest
from functions.swap.media import Format, Image, decode, encode, read_header
from functions.swap.media.icc import PROFILE_BYTES_MAX

if TYPE_CHECKING:
    from pathlib import Path

FORMATS: tuple[Format, ...] = get_args(Format)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CLEAR: tuple[Format, ...] = ("png", "webp")


def resized(profile: bytes, size: int) -> bytes:
    """Return a profile padded to size whose header says so."""
    body = profile + bytes(size - len(profile))
    return size.to_bytes(4, "big") + body[4:]


def plain(examples: Path) -> Image:
    return decode((examples / "hopper.jpg").read_bytes())


def pillow(data: bytes) -> Pillow.Image:
    return Pillow.open(io.BytesIO(data))


@pytest.mark.parametrize("form", FORMATS)
def test_an_encoded_picture_reads_back(form: Format, examples: Path) -> None:
    """What we write, an independent decoder reads as the same picture."""
    image = plain(examples)
    seen = np.asarray(pillow(encode(image, form, 95)).convert("RGB"))[:, :, ::-1]
    assert np.abs(seen.astype(int) - image.pixels).mean() < 2


@pytest.mark.parametrize("form", FORMATS)
def test_no_metadata_leaves(form: Format, picture: Pillow.Image) -> None:
    """Location, camera, comments and text of the input are not in the output."""
    exif = Pillow.Exif()
    exif[0x010F] = "SecretCamera"
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    buffer = io.BytesIO()
    picture.save(buffer, form, exif=exif, comment=b"SecretComment")
    written = encode(decode(buffer.getvalue()), form)
    assert b"Secret" in buffer.getvalue()
    assert b"Secret" not in written
    assert not pillow(written).getexif()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [len(SRGB), 3_001, 200_000])
def test_the_colour_profile_survives(
    form: Format, size: int, picture: Pillow.Image
) -> None:
    """A wide-gamut photograph keeps its profile, however many segments it takes."""
    profile = resized(SRGB, size)
    buffer = io.BytesIO()
    picture.save(buffer, form, icc_profile=profile)
    image = decode(buffer.getvalue())
    assert image.icc == profile
    written = encode(image, form)
    assert pillow(written).info["icc_profile"] == profile
    assert decode(written).icc == profile


@pytest.mark.parametrize(
    "profile",
    [
        SRGB[:100],
        SRGB[:-1],
        SRGB.replace(b"RGB ", b"CMYK"),
        resized(SRGB, PROFILE_BYTES_MAX + 1),
    ],
    ids=["header", "short", "cmyk", "huge"],
)
def test_a_profile_that_does_not_fit_is_dropped(
    profile: bytes, picture: Pillow.Image
) -> None:
    """Broken, huge and CMYK profiles would mislead; the picture goes on without."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", icc_profile=profile)
    assert decode(buffer.getvalue()).icc == b""


def test_a_profile_that_does_not_inflate_is_dropped(picture: Pillow.Image) -> None:
    """A broken iCCP chunk costs only itself."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", icc_profile=b"x")
    head, tail = buffer.getvalue()[:33], buffer.getvalue()[33:]
    body = b"iCCPicc\0\0not zlib"
    chunk = (len(body) - 4).to_bytes(4, "big") + body
    chunk += __import__("zlib").crc32(body).to_bytes(4, "big")
    assert read_header(head + chunk + tail).icc == b""


@pytest.mark.parametrize("form", CLEAR)
@pytest.mark.parametrize("icc", [b"", SRGB], ids=["plain", "profile"])
@pytest.mark.parametrize("quality", [80, 100])
def test_alpha_is_written_back(form: Format, icc: bytes, quality: int) -> None:
    """PNG and WebP give transparency back, with a profile or without."""
    pixels = np.full((20, 30, 3), 90, np.uint8)
    veil = np.tile(np.arange(30, dtype=np.uint8) * 8, (20, 1))
    written = encode(Image(pixels, "png", veil, icc), form, quality)
    alpha = decode(written).alpha
    assert alpha is not None
    assert np.array_equal(alpha, veil)


def test_a_lossless_webp_keeps_its_alpha_flag_with_a_profile() -> None:
    """The extended form says that there is alpha also for VP8L frames."""
    from functions.swap.media.webp import with_profile

    clear = Pillow.new("RGBA", (8, 8), (1, 2, 3, 77))
    buffer = io.BytesIO()
    clear.save(buffer, "WEBP", lossless=True)
    seen = pillow(with_profile(buffer.getvalue(), SRGB))
    assert seen.convert("RGBA").getpixel((0, 0)) == (1, 2, 3, 77)
    assert seen.info["icc_profile"] == SRGB


def test_jpeg_lays_transparency_on_white() -> None:
    """JPEG has no alpha: clear becomes white, half clear half white."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    veil = np.zeros((8, 16), np.uint8)
    veil[:, 8:] = 255
    seen = decode(encode(Image(pixels, "png", veil), "jpeg", 100)).pixels
    assert seen[:, :7].min() > 250
    assert seen[:, 9:].max() < 5


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_out_of_range_is_refused(quality: int, examples: Path) -> None:
    """Quality is 1 to 100."""
    with pytest.raises(InvalidRequest):
        encode(plain(examples), "jpeg", quality)


def test_quality_changes_the_size(examples: Path) -> None:
    """A lower quality is a smaller file."""
    image = plain(examples)
    assert len(encode(image, "jpeg", 60)) < len(encode(image, "jpeg", 92))


def test_a_side_too_long_for_webp_is_refused() -> None:
    """WebP has fourteen bits for a side, and we say so."""
    with pytest.raises(InvalidRequest, match="16,383"):
        encode(Image(np.zeros((1, 16_384, 3), np.uint8), "png"), "webp")
