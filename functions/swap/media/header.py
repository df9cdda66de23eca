"""What a file is and how large it says it is, from its bytes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from functions.problems import Unreadable, Unsupported
from functions.swap.media import jpeg, png, webp
from functions.swap.media.exif import orientation
from functions.swap.media.icc import usable

if TYPE_CHECKING:
    from functions.swap.media.container import Container

Format = Literal["jpeg", "png", "webp"]

# The names of what we recognise and refuse.  ISO-BMFF files (HEIC, AVIF) carry
# their brand after a length and "ftyp".
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"BM", "BMP"),
    (b"\0\0\1\0", "ICO"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"qt  ": "QuickTime", b"isom": "MP4"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


@dataclass(frozen=True, slots=True)
class Header:
    """What a container says of itself, checked, before a pixel is decoded.

    `width` and `height` are as stored, before the EXIF `orientation` (1 to 8) is
    applied.  `transparent` is the grey level that a PNG without an alpha channel
    names as see-through, at its own `depth` in bits.
    """

    format: Format
    width: int
    height: int
    orientation: int
    icc: bytes
    depth: int = 8
    transparent: int | None = None


def read_header(data: bytes) -> Header:
    """Return the header of a JPEG, PNG or WebP, told by magic bytes, never by name.

    The whole container is walked, so a truncated file is found here.

    Raises:
        Unreadable: empty, truncated, corrupt, or no image at all.
        Unsupported: an image of another format, or an animated one.

    """
    if data.startswith(b"\xff\xd8\xff"):
        return _header("jpeg", jpeg.walk(data))
    if data.startswith(png.MAGIC):
        return _header("png", png.walk(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _header("webp", webp.walk(data))
    raise _refusal(data)


def _header(form: Format, found: Container) -> Header:
    if not found.width or not found.height:
        raise Unreadable(f"This {form} says it has no pixels.")
    return Header(
        form,
        found.width,
        found.height,
        orientation(found.exif),
        usable(found.icc),
        found.depth,
        found.transparent,
    )


def _refusal(data: bytes) -> Unreadable | Unsupported:
    """Return the problem that names the format, if we can tell it."""
    name = next((name for magic, name in _FOREIGN if data.startswith(magic)), "")
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        name = "HEIC" if brand in _HEIC else _BRANDS.get(brand, "video")
    if name:
        return Unsupported(f"{name} is not accepted; send JPEG, PNG or WebP.")
    if not data:
        return Unreadable("The file is empty.")
    return Unreadable("These bytes are not a JPEG, PNG or WebP image.")
