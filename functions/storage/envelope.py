r"""The first 512 bytes of an enveloped object: its time, and its key, wrapped.

```
 0  6  b"guise\0"
 6  1  the format: 1
 7  1  0
 8  8  when it was written, nanoseconds since the epoch; its generation
16 248 a slot     version of the key-encryption key (4), length (2), wrapped key, zeros
264 248 another
```
Numbers are big-endian.  One slot is in use and the other is zero; to rotate is to
fill the other and then to clear the first, so that at any moment one of the two opens
(see `rewrapped`).  The data key is wrapped by AES-256-GCM under a random nonce of 12
bytes in front; the associated data bind it to format, tenant, key, version and time,
so that no byte that means anything can change.  A slot that is torn says nothing, as
one of zeros does.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.envelopes import KeyMissing
from functions.storage.base import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functions.envelopes import Kek

HEADER_BYTES: Final = 512
SLOT_BYTES: Final = 248
TIME_BYTES: Final = 16
"""How much of a header says when its object was written."""
FORMAT: Final = 1
_START: Final = struct.Struct(">6sBBQ")
_MAGIC: Final = b"guise\0"
_SLOT: Final = struct.Struct(">IH")
_WRAPPED_BYTES_MAX: Final = SLOT_BYTES - _SLOT.size
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Slot:
    """A data key, wrapped under a version of the tenant's key; 0: there is none."""

    version: int = 0
    wrapped: bytes = b""

    def pack(self) -> bytes:
        """Return the slot's 248 bytes."""
        found = _SLOT.pack(self.version, len(self.wrapped)) + self.wrapped
        return found.ljust(SLOT_BYTES, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> Slot:
        """Return the slot in 248 bytes, `TORN` if they are no slot."""
        version, length = _SLOT.unpack_from(data)
        rest = data[_SLOT.size :]
        if length > _WRAPPED_BYTES_MAX or rest[length:].strip(b"\0"):
            return TORN
        return cls(version, rest[:length])

    @property
    def holds(self) -> bool:
        """Whether there is a key in it, as far as one can see."""
        return self.version > 0


EMPTY: Final = Slot()
TORN: Final = Slot(-1)


@dataclass(frozen=True, slots=True)
class Header:
    """The time of an object, and the two slots of its key."""

    time_ns: int
    slots: tuple[Slot, Slot]

    def pack(self) -> bytes:
        """Return the header's 512 bytes."""
        start = _START.pack(_MAGIC, FORMAT, 0, self.time_ns)
        return start + b"".join(slot.pack() for slot in self.slots)

    @classmethod
    def parse(cls, data: bytes, what: str) -> Header:
        """Return the header in 512 bytes, or raise `StoreDamaged`, naming `what`."""
        time_ns = time_in(data)
        if time_ns is None or len(data) != HEADER_BYTES:
            raise StoreDamaged(internal=f"{what} has no envelope of format {FORMAT}")
        first = Slot.parse(data[_START.size : _START.size + SLOT_BYTES])
        second = Slot.parse(data[_START.size + SLOT_BYTES :])
        return cls(time_ns, (first, second))


def offset(number: int) -> int:
    """Return where in a file slot 0 or 1 begins."""
    return _START.size + number * SLOT_BYTES


def time_in(data: bytes) -> int | None:
    """Return when an object was written, from the first 16 bytes of it or more."""
    if len(data) < _START.size:
        return None
    magic, form, zero, time_ns = _START.unpack_from(data)
    known = (magic, form, zero) == (_MAGIC, FORMAT, 0)
    return int(time_ns) if known else None


@dataclass(frozen=True, slots=True)
class Wrapping:
    """Whose object it is: what its data key is bound to besides its header's own."""

    tenant: str
    key: str

    @property
    def object(self) -> bytes:
        """What the bytes of the object are bound to, whatever its header says."""
        return self._bound("object")

    def wrap(self, kek: Kek, data_key: bytes, time_ns: int) -> Slot:
        """Return the slot that holds `data_key` under `kek`."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        bound = self._bound("key", kek.version, time_ns)
        wrapped = nonce + AESGCM(kek.key).encrypt(nonce, data_key, bound)
        return Slot(kek.version, wrapped)

    def unwrap(
        self, header: Header, keys: Callable[[int], bytes]
    ) -> tuple[int, bytes] | None:
        """Return which slot opens, and the data key in it; None if neither does.

        `keys` returns a version's key, or raises `KeyMissing`; that is raised where
        no slot opens.
        """
        fault: KeyMissing | None = None
        for number in _newest_first(header.slots):
            try:
                opened = self._opened(header.slots[number], header.time_ns, keys)
            except KeyMissing as error:  # the other may still open
                fault = error
                continue
            if opened is not None:
                return number, opened
        if fault is not None:
            raise fault
        return None

    def _opened(
        self, slot: Slot, time_ns: int, keys: Callable[[int], bytes]
    ) -> bytes | None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        bound = self._bound("key", slot.version, time_ns)
        nonce, data = slot.wrapped[:_NONCE_BYTES], slot.wrapped[_NONCE_BYTES:]
        try:
            return AESGCM(keys(slot.version)).decrypt(nonce, data, bound)
        except (InvalidTag, ValueError):
            return None

    def _bound(self, what: str, *numbers: int) -> bytes:
        # No id and no key holds a NUL.
        parts = (f"guise {what} v{FORMAT}", self.tenant, self.key, *map(str, numbers))
        return "\0".join(parts).encode()


def _newest_first(slots: Sequence[Slot]) -> list[int]:
    used = [number for number, slot in enumerate(slots) if slot.holds]
    return sorted(used, key=lambda number: -slots[number].version)


def rewrapped(file: int, used: int, slot: Slot) -> None:
    """Put `slot` in the place of the slot that is in use, in an open file.

    The new one is durable before the old one is cleared.
    """
    spare = 1 - used
    os.pwrite(file, slot.pack(), offset(spare))
    os.fdatasync(file)
    os.pwrite(file, EMPTY.pack(), offset(used))
    os.fdatasync(file)
