"""The one EXIF tag we read: which way is up."""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112  # Exif 3.0, table 4: a SHORT, 1 to 8
_UPRIGHT = 1
_ENTRY_BYTES = 12


def orientation(block: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of a TIFF block; 1 where it is not told.

    EXIF is advice: a broken block leaves the picture as it is stored.
    """
    try:
        return _orientation(block.removeprefix(b"Exif\0\0"))
    except struct.error:
        return _UPRIGHT


def _orientation(block: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return _UPRIGHT
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    (entries,) = struct.unpack_from(f"{order}H", block, start)
    for entry in range(entries):
        at = start + 2 + _ENTRY_BYTES * entry
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", block, at)
        if tag == _ORIENTATION:
            return value if value in range(1, 9) else _UPRIGHT
    return _UPRIGHT
