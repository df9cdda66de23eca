"""A backup: the whole log as one SQLite file of the same tables, verified.

Whatever the database is, it is read as of one moment, row by row, and nobody waits
for it.  What is written is then read back: every entry is hashed again, every
checkpoint there ever was is held against the root at its size, and the newest one
must be signed.  Only then does the file get its name.

A backup holds what is private, too: sidecars, their keys (wrapped under the audit
secret, which is not in it) and the index of images.  So it still holds what somebody
had erased after it was made: keep backups as short as the law lets you, and the
second store (`copies`) for as long as the longest backup, for a restore replays
erasures from there.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
import sqlalchemy as sa

from functions import events
from functions.audit import copies
from functions.audit.leaf import key_of
from functions.audit.merkle import Frontier, VerificationError, leaf_hash
from functions.audit.notes import open_kept
from functions.audit.store import SCHEMA, Store, minimum_of
from functions.audit.tables import (
    checkpoints,
    entries,
    erasures,
    heads,
    metadata,
    nodes,
)
from functions.audit.tiles import TILE_HEIGHT, Checkpoint
from functions.database import version_of
from functions.problems import Conflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from functions.audit.tiles import NoteVerifier
    from functions.storage.base import Store as Objects

    KeysOf = Callable[[str], Sequence[NoteVerifier]]
    """From a tenant to who may have signed its checkpoints."""

ROWS: Final = 2_000
"""How many rows are held at a time."""

_OTHER_KIND: Final = (TypeError, ValueError, AttributeError, InvalidRequest)


class _OfJob(msgspec.Struct, frozen=True):
    job: str = ""


class _Leaf(msgspec.Struct, frozen=True):
    tenant: str
    source: str
    id: str
    type: str
    time: str
    data: _OfJob


@dataclass(frozen=True, slots=True)
class Held:
    """One log that was read whole and found true to its newest checkpoint."""

    tenant: str
    epoch: int
    size: int
    note: str


def write_backup(store: Store, out: Path, keys_of: KeysOf) -> list[Held]:
    """Write everything in `store` to the new file `out`; return the logs in it.

    Raises `Conflict` where there is something by that name, `VerificationError`
    where what was read is not a log that its checkpoints sign; then there is no file.
    """
    if out.exists():
        raise Conflict(f"{out} exists, and a backup overwrites nothing")
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=out.parent) as folder:
        path = Path(folder) / out.name
        path.touch(mode=0o600)
        with closing(Store.open(url_of(path))) as target:
            copy_tables(store, target)
            with target.keeping() as db:
                held = list(verify_logs(db, keys_of))
        _settle(path)
        try:
            out.hardlink_to(path)
        except FileExistsError as error:
            raise Conflict(f"{out} exists, and a backup overwrites nothing") from error
    _sync(out.parent)
    return held


def open_backup(path: Path, scratch: Path) -> Store:
    """Return a backup's store, for reading; the file itself stays as it is.

    One of an older version is brought to this one as a copy in the folder `scratch`.
    Raises `NotFound`, and `VerificationError` for a file that is no backup.
    """
    if not path.is_file():
        raise NotFound(f"{path} is not a file")
    url = f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&immutable=1&uri=true"
    engine = sa.create_engine(url)
    try:
        with engine.connect() as db:
            tables = sa.inspect(db).get_table_names()
        if heads.name in tables and version_of(engine, SCHEMA) == SCHEMA.newest:
            return Store(engine)
    except sa.exc.DatabaseError as error:
        engine.dispose()
        raise VerificationError(f"{path} is no backup: {error.orig}") from error
    engine.dispose()
    if heads.name not in tables:
        raise VerificationError(f"{path} is no backup: it has none of the log's tables")
    older = scratch / "older.db"
    with (
        closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as file,
        closing(sqlite3.connect(older)) as target,
    ):
        file.backup(target)
    return Store.open(url_of(older))


def url_of(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{quote(str(path.resolve()))}"


def copy_tables(source: Store, target: Store) -> None:
    """Copy every row of every table, as of one moment."""
    with source.keeping(snapshot=True) as db:
        for table in metadata.sorted_tables:
            for rows in batches(db, sa.select(table)):
                with target.keeping() as other:
                    other.execute(sa.insert(table), rows)


def batches(db: Connection, query: sa.Select[Any]) -> Iterator[list[dict[str, Any]]]:
    """Yield a query's rows as dictionaries, so many at a time."""
    options = {"stream_results": True, "yield_per": ROWS}
    with db.execution_options(**options).execute(query) as result:
        for rows in result.mappings().partitions():
            yield [dict(row) for row in rows]


def verify_logs(db: Connection, keys_of: KeysOf) -> Iterator[Held]:
    """Yield every log in a database, each once all of it was hashed again.

    Raises `VerificationError`, which names the log and the first entry or size that
    is wrong.
    """
    of = (checkpoints.c.tenant, checkpoints.c.epoch)
    found = db.execute(sa.select(*of).distinct().order_by(*of)).all()
    with_entries = sa.select(entries.c.tenant, entries.c.epoch).distinct()
    if {tuple(row) for row in db.execute(with_entries)} != {tuple(r) for r in found}:
        raise VerificationError("there are entries that no checkpoint covers")
    current = {row.tenant: row for row in db.execute(sa.select(heads))}
    for tenant, epoch in found:
        log = _Reading(db, tenant, epoch)
        try:
            held = log.verify(keys_of(tenant))
        except _OTHER_KIND as error:  # text for bytes, say
            raise VerificationError(f"{log.name}: a row of another kind") from error
        head = current.get(tenant)
        if head is None or head.epoch < epoch:
            raise VerificationError(f"{tenant}: epoch {epoch} is not in its head")
        if head.epoch == epoch:
            there = (head.size, head.frontier)
            if there != (held.size, bytes(log.frontier)):
                raise VerificationError(f"{tenant}: the head is not where the log ends")
        yield held


class _Reading:
    """One log as it is read from its first entry to its last."""

    def __init__(self, db: Connection, tenant: str, epoch: int) -> None:
        self._db = db
        self.name = f"{tenant}, epoch {epoch}"
        self._tenant = tenant
        self._epoch = epoch
        self._nodes = 0
        self._minimum = minimum_of(db, tenant, epoch)
        self.frontier = Frontier()

    def verify(self, verifiers: Sequence[NoteVerifier]) -> Held:
        """Return the log if it holds, or raise `VerificationError`."""
        newest = ""
        leaves = self._leaves()
        for size, note in self._notes():
            while self.frontier.size < size:
                self._append(next(leaves, None))
            newest = note
            said = Checkpoint.parse(note.rpartition("\n\n")[0] + "\n")
            if (said.size, said.root) != (size, self.frontier.root()):
                raise VerificationError(
                    f"{self.name}: the checkpoint at {size} is of other entries"
                )
        if next(leaves, None) is not None:
            raise VerificationError(f"{self.name}: entries that no checkpoint covers")
        if self._count(nodes) != self._nodes:
            raise VerificationError(f"{self.name}: nodes that nothing led to")
        signed = open_kept(newest, verifiers)
        if (signed.tenant, signed.epoch) != (self._tenant, self._epoch):
            raise VerificationError(f"{self.name}: its checkpoint is another's")
        return Held(self._tenant, self._epoch, signed.size, newest)

    def _append(self, row: dict[str, Any] | None) -> None:
        wanted = self.frontier.size
        if row is None or row["idx"] != wanted:
            raise VerificationError(f"{self.name}: entry {wanted} is missing")
        self._check(row)
        self.frontier, completed = self.frontier.append(row["leaf_hash"])
        for node in completed:
            if node.height and node.height % TILE_HEIGHT == 0:
                self._nodes += 1
                level = node.height // TILE_HEIGHT
                if self._node(level, node.index) != node.hash:
                    at = f"{level}/{node.index}"
                    raise VerificationError(f"{self.name}: node {at} is wrong")

    def _check(self, row: dict[str, Any]) -> None:
        """Hold a row to its leaf; of one that was dropped there is only the hash."""
        leaf, at = row["leaf"], f"{self.name}: entry {row['idx']}"
        if leaf is None:
            if row["idx"] >= self._minimum:
                raise VerificationError(f"{at} was dropped before its time")
            return
        if leaf_hash(leaf) != row["leaf_hash"]:
            raise VerificationError(f"{at} was changed")
        said = msgspec.json.decode(leaf, type=_Leaf)
        stated = {
            "key": key_of(said.tenant, said.source, said.id),
            "source": said.source,
            "id": said.id,
            "type": said.type,
            "job": said.data.job,
            "at_ms": events.milliseconds(said.time),
        }
        if any(row[name] != value for name, value in stated.items()):
            raise VerificationError(f"{at} is filed as something else")

    def _leaves(self) -> Iterator[dict[str, Any]]:
        query = self._mine(sa.select(entries), entries).order_by(entries.c.idx)
        for rows in batches(self._db, query):
            yield from rows

    def _notes(self) -> Iterator[tuple[int, str]]:
        columns = (checkpoints.c.size, checkpoints.c.note)
        query = self._mine(sa.select(*columns), checkpoints)
        for rows in batches(self._db, query.order_by(checkpoints.c.size)):
            for row in rows:
                yield row["size"], row["note"]

    def _node(self, level: int, index: int) -> bytes | None:
        query = self._mine(sa.select(nodes.c.hash), nodes).where(
            nodes.c.level == level, nodes.c.idx == index
        )
        return self._db.execute(query).scalar_one_or_none()

    def _count(self, table: sa.Table) -> int:
        query = self._mine(sa.select(sa.func.count()).select_from(table), table)
        return int(self._db.execute(query).scalar_one())

    def _mine(self, query: sa.Select[Any], table: sa.Table) -> sa.Select[Any]:
        return query.where(table.c.tenant == self._tenant, table.c.epoch == self._epoch)


def copy_to_witness(store: Store, held: Sequence[Held], objects: Objects) -> int:
    """Copy what the second store lacks of `held`, and every statement; return how many.

    Raises `VerificationError` where a copy there says something else.
    """
    texts = {copies.checkpoint_key(each.note): each.note for each in held}
    with store.keeping(snapshot=True) as db:
        for rows in batches(db, sa.select(erasures)):
            for row in rows:
                key = copies.statement_key(row["tenant"], row["job"])
                texts[key] = row["statement"]
    written = 0
    for key, text in texts.items():
        outcome = copies.copy(objects, key, text)
        if outcome == "fork":
            raise VerificationError(f"the copy at {key} says something else")
        written += outcome == "written"
    return written


def _settle(path: Path) -> None:
    """Make one durable file of a database: no log beside it."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
