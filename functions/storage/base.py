"""What every store promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from functions.tenant import Key


@dataclass(frozen=True, slots=True)
class Info:
    """One object without its bytes.

    `generation` is a positive whole number that grows with each write of a key;
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

    Every method may raise `Unavailable`.  A write is whole or not at all, and
    durable when it returns.
    """

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        """Return the object, or raise `NotFound`, or `TooLarge` over `bytes_max`."""

    def open(self, key: Key) -> AbstractContextManager[BinaryIO]:
        """Return a stream of the object's bytes, or raise `NotFound`."""

    def head(self, key: Key) -> Info:
        """Return what is known of the object, or raise `NotFound`."""

    def put(self, key: Key, data: bytes) -> int:
        """Write the object whatever was there, and return its generation."""

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Write the object if there is none, or raise `Changed`."""

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        """Write over exactly `generation`, or raise `Changed`."""

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`."""

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` (at least 1) objects under `prefix`, after `cursor`."""
