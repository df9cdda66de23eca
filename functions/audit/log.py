"""The log: append an event, get its receipt; exactly once, and durable first.

Appends are committed in groups (`functions.commits`): one thread takes all that
wait, locks the heads of every tenant in the batch in order, resolves duplicates under
those locks, assigns indices, signs one checkpoint a tenant and commits once.  Only
then does anybody get a receipt.

Importing this module does not import SQLAlchemy; the same thread does.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.audit import leaf as leaves
from functions.audit.bundle import SIGNING_KEY
from functions.audit.tiles import Checkpoint, origin, sign_checkpoint
from functions.commits import WAIT_SECONDS_MAX, GroupCommit
from functions.problems import Unavailable
from functions.sink import Receipt
from functions.warm import Opening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from functions.audit.leaf import Leaf
    from functions.audit.merkle import Node
    from functions.audit.store import Entry, Head, Private, Store
    from functions.events import Event
    from functions.keys import KeyProvider, Signer


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _nobody(_notes: Mapping[str, str]) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an event stands in the log.

    `conflict` says that its id was taken by other content: what the receipt is
    for is then the entry that says so.
    """

    receipt: Receipt
    conflict: bool = False


class Log:
    """Every tenant's log, behind one committing thread.

    `open_store` runs on a thread as soon as this is made, and again if it fails.
    `committed` is told each batch's checkpoints by tenant, and must not wait.
    `clock_ms` says when they are signed, in milliseconds since the epoch.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        keys: KeyProvider,
        *,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
        committed: Callable[[Mapping[str, str]], None] = _nobody,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._keys = keys
        self._clock_ms = clock_ms
        self._committed = committed
        self._wait_seconds_max = wait_seconds_max
        self._store = Opening(open_store)
        self._group = GroupCommit(self._commit, wait_seconds_max=wait_seconds_max)

    @classmethod
    def at(
        cls,
        url: str,
        keys: KeyProvider,
        *,
        committed: Callable[[Mapping[str, str]], None] = _nobody,
        profile: str = "",
        clock_ms: Callable[[], int] = now_ms,
    ) -> Log:
        """Return the log in the database at `url`.

        Where a `profile` is named, it decides whether a login may be a superuser.
        """

        def open_store() -> Store:
            from functions.audit.store import Store

            return Store.open(url, profile=profile)

        return cls(open_store, keys, committed=committed, clock_ms=clock_ms)

    @property
    def store(self) -> Store:
        """The opened store, for readers; `Unavailable` if it does not open."""
        return self._store.get(timeout=self._wait_seconds_max)

    def append(self, event: Event, private: Private | None = None) -> Appended:
        """Return the receipt of `event` once it and what is `private` are durable.

        An event that the log has already gets its first receipt again.  Raises
        `InvalidRequest` for what cannot be a leaf, and `Unavailable`.
        """
        return self._group(leaves.leaf_of(event, private))

    def close(self) -> None:
        """Commit what waits, take no more, and close the store."""
        self._group.close()
        with suppress(Unavailable):  # it never opened
            self.store.close()

    def _commit(self, batch: list[Leaf]) -> list[Appended]:
        """Append a batch in one transaction; return when it is durable."""
        from functions.audit import appending

        signer = self._keys.signer(SIGNING_KEY)
        tenants = sorted({leaf.tenant for leaf in batch})
        with self.store.committing() as db:
            heads, known = appending.begin(db, tenants, [leaf.key for leaf in batch])
            clashes = [leaf for leaf in batch if _clashes(leaf, known)]
            if clashes:
                recorded = [leaves.conflict_key(leaf) for leaf in clashes]
                known |= appending.find(db, recorded)
            growth = _Growth(heads, known)
            placed = [growth.place(leaf) for leaf in batch]
            notes = growth.write(db, signer, self._clock_ms())
        self._committed(notes)
        return [each.appended(notes) for each in placed]


def _clashes(leaf: Leaf, known: dict[bytes, Entry]) -> bool:
    """Return whether the log has other content by a leaf's name."""
    entry = known.get(leaf.key)
    return entry is not None and not _is(entry, leaf)


@dataclass(frozen=True, slots=True)
class _Placed:
    entry: Entry
    conflict: bool

    def appended(self, notes: dict[str, str]) -> Appended:
        """Return the answer: with the entry's first checkpoint, old or new."""
        note = self.entry.note or notes[self.entry.tenant]
        receipt = Receipt(self.entry.index, self.entry.leaf_hash.hex(), note)
        return Appended(receipt, self.conflict)


class _Growth:
    """The logs of a batch's tenants while it is appended; the heads are locked."""

    def __init__(self, heads: dict[str, Head], known: dict[bytes, Entry]) -> None:
        self._heads = heads
        self._known = known
        self._added: list[tuple[int, int, Leaf]] = []
        self._completed: list[tuple[str, int, Node]] = []

    def place(self, leaf: Leaf) -> _Placed:
        """Return where a leaf stands, appending it unless it is there."""
        entry = self._known.get(leaf.key)
        if entry is None:
            return _Placed(self._add(leaf), conflict=False)
        if _is(entry, leaf):
            return _Placed(entry, conflict=False)
        recorded = self._known.get(leaves.conflict_key(leaf))
        if recorded is None:
            recorded = self._add(leaves.conflict(leaf, entry.index))
        return _Placed(recorded, conflict=True)

    def _add(self, leaf: Leaf) -> Entry:
        from functions.audit.store import Entry, Head

        tenant, head = leaf.tenant, self._heads[leaf.tenant]
        entry = Entry(
            tenant, head.frontier.size, leaf.data, leaf.hash, epoch=head.epoch
        )
        frontier, completed = head.frontier.append(entry.leaf_hash)
        self._heads[tenant] = Head(head.epoch, frontier)
        self._completed += [(tenant, head.epoch, node) for node in completed]
        self._added.append((head.epoch, entry.index, leaf))
        self._known[leaf.key] = entry
        return entry

    def write(self, db: Connection, signer: Signer, signed_ms: int) -> dict[str, str]:
        """Write what grew; return each grown tenant's new checkpoint."""
        from functions.audit import appending

        moved = []
        for tenant in sorted({leaf.tenant for *_, leaf in self._added}):
            head = self._heads[tenant]
            name, frontier = origin(tenant, head.epoch), head.frontier
            checkpoint = Checkpoint(name, frontier.size, frontier.root())
            moved.append((tenant, head, sign_checkpoint(checkpoint, signer)))
        appending.write(db, self._added, self._completed, moved, signed_ms)
        return {tenant: note for tenant, _, note in moved}


def _is(entry: Entry, leaf: Leaf) -> bool:
    """Return whether an entry states what `leaf` does; a pruned one has its hash."""
    if not entry.leaf:
        return entry.leaf_hash == leaf.hash
    return leaves.says_the_same(entry.leaf, leaf.data)
