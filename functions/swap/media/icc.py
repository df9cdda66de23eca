"""Colour profiles: kept where they are sound, dropped where they would mislead."""

from __future__ import annotations

import struct

PROFILE_BYTES_MAX = 1 << 20  # a display profile has 0.5 to 10 KB, a large LUT 600
_HEADER_BYTES = 128  # ICC.1:2022, 7.2


def usable(profile: bytes) -> bytes:
    """Return the profile if it fits RGB pixels and is whole, else no bytes.

    A CMYK or grey profile no longer fits what we write, since decoding makes
    every picture RGB.
    """
    if not _HEADER_BYTES < len(profile) <= PROFILE_BYTES_MAX:
        return b""
    (size,) = struct.unpack_from(">I", profile)
    sound = size == len(profile) and profile[36:40] == b"acsp"
    return profile if sound and profile[16:20] == b"RGB " else b""
