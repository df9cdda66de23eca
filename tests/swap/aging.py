"""A store whose objects can be made older than they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from functions.storage.memory import MemoryStore

if TYPE_CHECKING:
    from functions.storage import Info, Page
    from functions.tenant import Key


class AgingStore(MemoryStore):
    """A `MemoryStore` in which time can pass for what lies in it.

    `ahead_seconds` is how far its own clock is ahead of ours.
    """

    def __init__(self, ahead_seconds: float = 0) -> None:
        super().__init__()
        self.ahead_seconds = ahead_seconds
        self._aged: dict[tuple[Key, int], float] = {}

    def age(self, prefix: Key, seconds: float) -> None:
        """Make all under `prefix` older than it is."""
        for info in super().list(prefix, limit=1_000_000).objects:
            name = (info.key, info.generation)
            self._aged[name] = self._aged.get(name, 0) + seconds

    def head(self, key: Key) -> Info:
        """Return what is known of the object, as old as it has been made."""
        return self._seen(super().head(key))

    def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
        """Return up to `limit` objects under `prefix`, after `cursor`."""
        page = super().list(prefix, cursor=cursor, limit=limit)
        return replace(page, objects=tuple(map(self._seen, page.objects)))

    def _seen(self, info: Info) -> Info:
        aged = self._aged.get((info.key, info.generation), 0)
        return replace(info, updated=info.updated + self.ahead_seconds - aged)
