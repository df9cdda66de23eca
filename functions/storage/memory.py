"""A store for tests and a laptop: real behaviour, no durability."""

from __future__ import annotations

import io
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from functions.problems import Changed, NotFound, TooLarge
from functions.storage.base import Info, Object, Page, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.tenant import Key


class MemoryStore:
    """A `Store` in a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[Key, tuple[bytes, Info]] = {}
        self._generation = 0

    def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
        """Return the object, or raise `NotFound` or `TooLarge`."""
        data, info = self._found(key)
        if bytes_max is not None and info.size > bytes_max:
            raise TooLarge(f"{key} is over {bytes_max} bytes")
        return Object(data, info.generation)

    @contextmanager
    def open(self, key: Key) -> Iterator[BinaryIO]:
        """Yield a stream of the object's bytes, or raise `NotFound`."""
        yield io.BytesIO(self._found(key)[0])

    def head(self, key: Key) -> Info:
        """Return what is known of the object, or raise `NotFound`."""
        return self._found(key)[1]

    def put(self, key: Key, data: bytes) -> int:
        """Write the object whatever was there."""
        with self._lock:
            return self._write(key, data)

    def put_if_absent(self, key: Key, data: bytes) -> int:
        """Write the object if there is none, or raise `Changed`."""
        return self.put_if_match(key, data, 0)

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        """Write over exactly `generation` (0: none), or raise `Changed`."""
        with self._lock:
            self._expect(key, generation)
            return self._write(key, data)

    def put_from(
        self,
        key: Key,
        stream: BinaryIO,
        *,
        bytes_max: int | None = None,
        generation: int | None = None,
    ) -> int:
        """Write all that `stream` gives as one object."""
        data = b"".join(pieces(key, stream, bytes_max))
        if generation is None:
            return self.put(key, data)
        return self.put_if_match(key, data, generation)

    def delete(self, key: Key) -> None:
        """Delete the object if there is one."""
        with self._lock:
            self._objects.pop(key, None)

    def delete_if_match(self, key: Key, generation: int) -> None:
        """Delete exactly `generation`, or raise `Changed`."""
        with self._lock:
            self._expect(key, generation)
            self._objects.pop(key, None)

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        with self._lock:
            keys = sorted(
                k for k in self._objects if k.startswith(prefix) and k > cursor
            )
            found = tuple(self._objects[key][1] for key in keys[:limit])
        return Page(found, found[-1].key if len(keys) > limit else "")

    def sweep(self) -> int:
        """Return that nothing was left: who dies takes all of it along."""
        return 0

    def _found(self, key: Key) -> tuple[bytes, Info]:
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"{key} does not exist") from None

    def _expect(self, key: Key, generation: int) -> None:
        current = self._objects[key][1].generation if key in self._objects else 0
        if current != generation:
            raise Changed(internal=f"{key}: {current}, not {generation}")

    def _write(self, key: Key, data: bytes) -> int:
        self._generation += 1
        info = Info(key, len(data), self._generation, time.time())
        self._objects[key] = (bytes(data), info)
        return self._generation
