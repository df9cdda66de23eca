"""What every store promises, and each way in which one can fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from functions.problems import Failed, Problem, TooLarge, Unavailable
from functions.tenant import KEY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from functions.tenant import Key

PIECE_BYTES: Final = 1024 * 1024
"""How much of a stream is held at a time."""


class _Quiet(Problem):
    """Which store it is, and what ails it, is for the log: outside it is a failure."""

    @property
    def slug(self) -> str:
        """The stable name that clients may switch on."""
        return "unavailable" if isinstance(self, Unavailable) else "failed"


class StoreUnreachable(_Quiet, Unavailable):
    """No answer, or half of one, within the time and the tries there are."""


class StoreBusy(_Quiet, Unavailable):
    """The store asks everybody to come more slowly."""


class StoreDamaged(_Quiet, Unavailable):
    """The bytes are not those their checksum tells of: on the way, or at rest."""


class StoreMissing(_Quiet, Failed):
    """There is no such bucket; no second try makes one."""


class StoreDenied(_Quiet, Failed):
    """Whoever we are there may not do this, or is not known."""


class StoreShut(StoreDenied, Unavailable):
    """Objects lie as they are where they are to be encrypted; the operator mends it."""


class StoreClock(_Quiet, Failed):
    """Our clock and the store's are too far apart for it to believe us."""


class StoreFault(_Quiet, Failed):
    """The store says no for a reason of its own; what it said is in the log."""


@dataclass(frozen=True, slots=True)
class Info:
    """One object without its bytes.

    `generation` is a positive whole number that names what was written to the
    key: other bytes have another one.  Files, memory and Google's buckets give
    each write a new one.  S3 knows no more of an object than its ETag, and the
    same bytes written again have the same: whoever waits for a generation to
    change must write what was never written before (a random word in it will do).
    It says nothing of which of two came first.

    `updated` is seconds since the epoch.
    """

    key: Key
    size: int
    generation: int
    updated: float


@dataclass(frozen=True, slots=True)
class Object:
    """One object with its bytes."""

    data: bytes
    generation: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects in key order, and where to go on (`""` when there is no more)."""

    objects: tuple[Info, ...]
    cursor: str


class Store(Protocol):
    """A flat, durable map from key to bytes, with conditional writes.

    Every method may raise `Unavailable` (try again), or one of the `Failed` above
    (do not).  A write is whole or not at all, and durable when it returns.
    """

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        """Return the object, or raise `NotFound`, or `TooLarge` over `bytes_max`."""

    def open(self, key: Key) -> AbstractContextManager[BinaryIO]:
        """Return a stream of the object's bytes, or raise `NotFound`.

        It holds a piece at a time, and may raise `StoreUnreachable` at any, and
        `StoreDamaged` at the last.
        """

    def head(self, key: Key) -> Info:
        """Return what is known of the object, or raise `NotFound`."""

    def put(self, key: Key, data: bytes) -> int:
        """Write the object whatever was there, and return its generation."""

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Write the object if there is none, or raise `Changed`."""

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        """Write over exactly `generation` (0: none), or raise `Changed`."""

    def put_from(
        self,
        key: Key,
        stream: BinaryIO,
        *,
        bytes_max: int | None = None,
        generation: int | None = None,
    ) -> int:
        """Write all that `stream` gives, held a piece at a time, as one object.

        Over exactly `generation` (0: none) if it is given, or raise `Changed`; over
        `bytes_max`, raise `TooLarge`.  What the stream itself raises passes through.
        Whatever is raised, the key holds what it held, and no piece is left over.
        """

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`."""

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` (at least 1) objects under `prefix`, after `cursor`."""

    def sweep(self) -> int:
        """Clear away what writers who died left half done; return how much it was."""


def pieces(key: Key, stream: BinaryIO, bytes_max: int | None) -> Iterator[bytes]:
    """Yield what `stream` gives, piece by piece, or raise `TooLarge`."""
    size = 0
    while piece := stream.read(PIECE_BYTES):
        size += len(piece)
        if bytes_max is not None and size > bytes_max:
            raise TooLarge(f"{key} is over {bytes_max} bytes")
        yield piece


def is_key(key: str) -> bool:
    """Return whether an object of a bucket can be one here by this name.

    Consoles make folders, which are objects whose names end in a slash.
    """
    hidden = any(not part or part.startswith(".") for part in key.split("/"))
    try:
        short = len(key.encode()) <= KEY_BYTES_MAX
    except UnicodeEncodeError:
        return False
    return short and not hidden and "\0" not in key
