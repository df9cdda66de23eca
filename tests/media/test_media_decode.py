"""Decoding real and odd pictures: what comes out is upright, BGR, eight bits."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from functions.swap.media import decode, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMATS = ["JPEG", "PNG", "WEBP"]


def save(picture: Pillow.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def bgr(picture: Pillow.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB"))[:, :, ::-1]


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_as_pillow_reads_it(
    form: str, picture: Pillow.Image
) -> None:
    """Each accepted format decodes to what an independent decoder sees."""
    data = save(picture, form, quality=95)
    image = decode(data)
    assert difference(image.pixels, bgr(Pillow.open(io.BytesIO(data)))) < 1.5
    assert image.mime == f"image/{form.lower()}"
    assert image.pixels.flags.c_contiguous
    assert image.pixels.flags.writeable


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(
    form: str, orientation: int, picture: Pillow.Image
) -> None:
    """Every one of the eight EXIF orientations comes out upright."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = save(picture, form, exif=exif, quality=95)
    expected = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data)))
    assert difference(decode(data).pixels, bgr(expected)) < 1.5


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"MM\0*\0\0\0\x08\0\x05",
        b"XX*\0\0\0\0\0",
        b"II*\0\xff\xff\xff\xff",
    ],
)
def test_broken_exif_leaves_the_picture_as_it_is(
    block: bytes, picture: Pillow.Image
) -> None:
    """EXIF is advice; a broken block never refuses a picture."""
    data = save(picture, "JPEG", exif=b"Exif\0\0" + block)
    assert read_header(data).orientation == 1
    assert decode(data).width == picture.width


def test_exif_orientation_out_of_range_is_ignored(picture: Pillow.Image) -> None:
    """An orientation of 9 means nothing."""
    exif = Pillow.Exif()
    exif[0x0112] = 9
    assert read_header(save(picture, "JPEG", exif=exif)).orientation == 1


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK"])
def test_every_mode_becomes_bgr(mode: str, picture: Pillow.Image) -> None:
    """Grey, bilevel, palette, alpha and CMYK all become three 8-bit channels."""
    odd = picture.convert(mode)
    data = save(odd, "JPEG" if mode == "CMYK" else "PNG", quality=95)
    image = decode(data)
    assert image.pixels.dtype == np.uint8
    assert difference(image.pixels, bgr(odd)) < 3


def test_sixteen_bits_are_rounded_to_eight() -> None:
    """A 16-bit sample becomes the nearest 8-bit one, not the one below."""
    levels = np.array([[0, 128, 129, 32768, 65279, 65535]], np.uint16)
    data = save(Pillow.fromarray(levels), "PNG")
    assert decode(data).pixels[0, :, 0].tolist() == [0, 0, 1, 128, 254, 255]


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_is_kept_apart(form: str, picture: Pillow.Image) -> None:
    """Alpha comes out beside the pixels and does not touch them."""
    veil = np.tile(np.arange(picture.width, dtype=np.uint8), (picture.height, 1))
    clear = picture.copy()
    clear.putalpha(Pillow.fromarray(veil))
    image = decode(save(clear, form, lossless=True, exact=True))
    assert image.alpha is not None
    assert np.array_equal(image.alpha, veil)
    assert np.array_equal(image.pixels, bgr(picture))


def test_an_opaque_picture_has_no_alpha(picture: Pillow.Image) -> None:
    """Nothing is invented for a picture without transparency."""
    assert decode(save(picture, "PNG")).alpha is None


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_a_transparent_colour_becomes_alpha(mode: str, picture: Pillow.Image) -> None:
    """A tRNS colour is alpha too, grey included, which OpenCV forgets."""
    odd = picture.convert(mode)
    key = (1, 2, 3) if mode == "RGB" else 0
    odd.paste(key, (0, 0, 5, 5))
    data = save(odd, "PNG", transparency=key)
    expected = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGBA"))[:, :, 3]
    alpha = decode(data).alpha
    assert alpha is not None
    assert np.array_equal(alpha, expected)


def test_the_pictures_behind_the_first_are_ignored(picture: Pillow.Image) -> None:
    """An MPO from a phone is its first picture; gain maps and depth are dropped."""
    data = save(picture, "MPO", save_all=True, append_images=[picture.rotate(180)])
    assert difference(decode(data).pixels, bgr(picture)) < 6
    assert decode(data).format == "jpeg"


def test_progressive_jpeg_with_many_scans_is_walked(picture: Pillow.Image) -> None:
    """A progressive file has several scans and one size."""
    data = save(picture, "JPEG", progressive=True, restart_marker_blocks=2)
    assert (read_header(data).width, read_header(data).height) == picture.size


def test_the_samples_are_read(examples: Path) -> None:
    """Both sample portraits decode at their size."""
    sizes = [
        (image.width, image.height)
        for name in ("collins", "hopper")
        for image in [decode((examples / f"{name}.jpg").read_bytes())]
    ]
    assert sizes == [(512, 512), (512, 600)]
