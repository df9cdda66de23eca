"""Streams of AES-256-GCM, by tink: bytes in, ciphertext out, a segment at a time.

Tink's AES-GCM-HKDF streaming (developers.google.com/tink/streaming-aead/
aes_gcm_hkdf_streaming), segments of 1 MiB: a key for each ciphertext is derived from
the data key, a random salt and the associated data; each segment is AES-256-GCM under
a nonce that says its number and whether it is the last.  A ciphertext begins with 40
bytes (length, salt, nonce prefix), and each segment ends with a tag of 16.
"""

from __future__ import annotations

import io
from functools import cache, partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from functions.problems import Problem
from functions.storage.base import PIECE_BYTES, StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEGMENT_BYTES: Final = 1024 * 1024
START_BYTES: Final = 40
TAG_BYTES: Final = 16
_SEGMENT_PLAIN_BYTES: Final = SEGMENT_BYTES - TAG_BYTES


def new_key() -> bytes:
    """Return a data key drawn for one object: a keyset, as tink serialises it."""
    tink, streaming, formats, token = _tink()
    template = streaming.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    data: bytes = formats.serialize(tink.new_keyset_handle(template), token)
    return data


def sealed(key: bytes, found: Iterable[bytes], bound: bytes) -> Iterator[bytes]:
    """Yield the ciphertext of what is found, as it comes."""
    pot = _Pot()
    stream = _primitive(key).new_encrypting_stream(pot, bound)
    for piece in found:
        stream.write(piece)
        yield from pot.drained()
    stream.close()
    yield from pot.drained()


def opened(key: bytes, source: BinaryIO, bound: bytes, what: str) -> BinaryIO:
    """Return a stream of the bytes whose ciphertext is what is left of `source`.

    It raises `StoreDamaged`, naming `what`, at the first segment that is not what was
    written, or not where it was written; every byte it gives is.
    """
    return io.BufferedReader(_Opening(key, source, bound, what), PIECE_BYTES)


def plain_bytes(size: int) -> int:
    """Return how many bytes are in a ciphertext of `size`; 0 if it is too short."""
    segments = max(1, -(-size // SEGMENT_BYTES))
    return max(0, size - START_BYTES - segments * TAG_BYTES)


@cache
def _tink() -> tuple[Any, Any, Any, Any]:
    import tink
    from tink import proto_keyset_format, secret_key_access, streaming_aead

    streaming_aead.register()
    return tink, streaming_aead, proto_keyset_format, secret_key_access.TOKEN


def _primitive(key: bytes) -> Any:  # noqa: ANN401  # tink has no types of its own
    _, streaming, formats, token = _tink()
    return formats.parse(key, token).primitive(streaming.StreamingAead)


class _Pot(io.RawIOBase):
    """Holds what tink writes until somebody takes it."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401  # any buffer
        self._found.append(bytes(data))
        return len(data)

    def drained(self) -> list[bytes]:
        found, self._found = self._found, []
        return found


class _Source(io.RawIOBase):
    """The ciphertext, and what went wrong as it was read: tink keeps no cause."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__()
        self._source = source
        self.fault: Problem | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._source.read(size)
        except Problem as error:
            self.fault = error
            raise


class _Opening(io.RawIOBase):
    """What tink decrypts, its errors by our names."""

    def __init__(self, key: bytes, source: BinaryIO, bound: bytes, what: str) -> None:
        super().__init__()
        self._source = _Source(source)
        self._what = what
        self._stream = _primitive(key).new_decrypting_stream(self._source, bound)

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        # As it is inherited, it would go by pieces of 8 KiB.
        return b"".join(iter(partial(self._read, PIECE_BYTES), b""))

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  # any buffer
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        tink, *_ = _tink()
        try:
            found: bytes = self._stream.read(size)
        except (tink.TinkError, OSError) as error:
            if self._source.fault is not None:
                raise self._source.fault from error
            raise StoreDamaged(internal=f"{self._what}: {error}") from error
        return found
