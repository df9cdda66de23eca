"""`decode` and `encode`, the only way pixels come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.problems import InvalidRequest, TooLarge, Unreadable
from functions.swap.media import jpeg, png, webp
from functions.swap.media.header import Format, Header, read_header
from functions.swap.media.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BYTES_MAX = 25 * 1024 * 1024
PIXELS_MAX = 50_000_000
_SIDE_MAX = 65_500  # what JPEG can hold, so that every picture can be given back
_FINE = 90  # from this quality on, colour keeps its full resolution

# Exif 3.0, 4.6.5.1.6: what brings each stored orientation upright.
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
_PROFILE: dict[Format, Callable[[bytes, bytes], bytes]] = {
    "jpeg": jpeg.with_profile,
    "png": png.with_profile,
    "webp": webp.with_profile,
}


def decode(
    data: bytes, *, bytes_max: int = BYTES_MAX, pixels_max: int = PIXELS_MAX
) -> Image:
    """Return the picture in `data`: upright, BGR, eight bits, alpha apart.

    Size and structure are checked before a codec sees a byte.  Grey, palette and
    16 bit become 8-bit BGR; four-channel JPEG is read as browsers read it
    (inverted CMYK, or YCCK).  An RGB colour profile is kept.

    Raises:
        TooLarge: over `bytes_max`, `pixels_max`, or 65,500 pixels a side.
        Unreadable: empty, truncated, corrupt, or no image.
        Unsupported: animated, or a format that is not accepted.

    """
    if len(data) > bytes_max:
        raise TooLarge(f"The image has {len(data):,} bytes; {bytes_max:,} are allowed.")
    header = read_header(data)
    _check_size(header, pixels_max)
    raw = _raw(png.pixels_only(data) if header.format == "png" else data, header)
    pixels, alpha = _split(raw, header)
    turn = _UPRIGHT[header.orientation]
    return Image(
        np.ascontiguousarray(turn(pixels)),
        header.format,
        None if alpha is None else np.ascontiguousarray(turn(alpha)),
        header.icc,
    )


def encode(image: Image, form: Format, quality: int = 92) -> bytes:
    """Return the picture as a file with no metadata but its colour profile.

    PNG and WebP keep alpha; JPEG has none, so the picture is laid on white.  JPEG
    from quality 90 on is written without chroma subsampling.  PNG ignores
    `quality`, which is 1 to 100.

    Raises:
        InvalidRequest: no such quality, or too large for WebP.

    """
    if not 1 <= quality <= 100:  # noqa: PLR2004 - percent
        raise InvalidRequest("The quality must be 1 to 100.")
    if form == "webp" and max(image.width, image.height) > webp.SIDE_MAX:
        raise InvalidRequest(f"A WebP has at most {webp.SIDE_MAX:,} pixels a side.")
    pixels = image.on(255) if form == "jpeg" else _with_alpha(image)
    _, buffer = cv2.imencode(f".{form}", pixels, _settings(form, quality))
    data = buffer.tobytes()
    return _PROFILE[form](data, image.icc) if image.icc else data


def _check_size(header: Header, pixels_max: int) -> None:
    width, height = header.width, header.height
    if width * height > pixels_max or max(width, height) > _SIDE_MAX:
        raise TooLarge(
            f"The image is {width:,} x {height:,} pixels; "
            f"{pixels_max:,} in all and {_SIDE_MAX:,} a side are allowed."
        )


def _raw(data: bytes, header: Header) -> NDArray[np.generic]:
    """Return the stored samples: (h, w) or (h, w, 3 or 4), uint8 or uint16."""
    try:
        raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Unreadable("The image is corrupt.", internal=str(error)) from error
    # A codec that disagrees with our reading of the header is not to be trusted.
    if raw is None or raw.shape[:2] != (header.height, header.width):
        raise Unreadable("The image is corrupt.")
    return raw


def _split(
    raw: NDArray[np.generic], header: Header
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return BGR and alpha, eight bits each."""
    alpha = _keyed(raw, header)
    samples = _eight_bits(raw)
    if samples.ndim == 2:  # noqa: PLR2004 - grey
        return _bgr(cv2.cvtColor(samples, cv2.COLOR_GRAY2BGR)), alpha
    if samples.shape[2] == 4:  # noqa: PLR2004 - BGRA
        return samples[:, :, :3], samples[:, :, 3]
    return samples, alpha


def _keyed(raw: NDArray[np.generic], header: Header) -> NDArray[np.uint8] | None:
    """Return the alpha of a grey PNG that names one level as see-through."""
    if header.transparent is None or raw.ndim != 2:  # noqa: PLR2004 - grey
        return None
    levels = 2**header.depth - 1
    scale = 255 // levels if levels <= 255 else 1  # noqa: PLR2004 - as libpng expands
    return np.where(raw == header.transparent * scale, 0, 255).astype(np.uint8)


def _eight_bits(raw: NDArray[np.generic]) -> NDArray[np.uint8]:
    if raw.dtype == np.uint16:
        wide = raw.astype(np.uint16, copy=False)
        return _bgr(cv2.convertScaleAbs(wide, alpha=255 / 65535))
    return _bgr(raw)


def _bgr(array: object) -> NDArray[np.uint8]:
    """Say to the type checker what OpenCV's stubs leave open."""
    return np.asarray(array, np.uint8)


def _with_alpha(image: Image) -> NDArray[np.uint8]:
    if image.alpha is None:
        return image.pixels
    return np.dstack((image.pixels, image.alpha))


def _settings(form: Format, quality: int) -> list[int]:
    if form == "png":
        return [cv2.IMWRITE_PNG_COMPRESSION, 4]
    if form == "webp":
        return [cv2.IMWRITE_WEBP_QUALITY, quality]
    fine = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    coarse = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    return [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        fine if quality >= _FINE else coarse,
    ]
